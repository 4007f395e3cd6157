//! The PodDisruptionBudget: how many members a drain of nodes must leave.
//!
//! What must hold: a drain never takes a quorum away; a single member has no budget, because one would hold up its
//! node's drain for good; a member that does not answer holds no drain up, because it is in no quorum.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::service_account::metadata;
use crate::names;
use crate::resource::DisruptionBudget;
use crate::validate::ValidStore;

/// The budget, unless the store wants none or has a single member.
pub(super) fn build(store: &ValidStore) -> Option<PodDisruptionBudget> {
    (store.disruption_budget == DisruptionBudget::Managed && store.members > 1).then(|| PodDisruptionBudget {
        metadata: metadata(store, store.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::from(quorum(store.members)))),
            max_unavailable: None,
            selector: Some(LabelSelector {
                match_labels: Some(names::selector_labels(&store.name)),
                match_expressions: None,
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    })
}

/// The least number of members that is more than half of them. Two members can lose none.
pub(super) const fn quorum(members: u8) -> u8 {
    members / 2 + 1
}
