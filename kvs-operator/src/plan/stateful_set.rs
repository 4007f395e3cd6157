//! The StatefulSet: members with names and volumes of their own.
//!
//! What must hold: every field that the API server would default to a value is set, so that a change of it by hand is
//! seen; no field that it would drop is set; the claim template repeats the live one, because it can't change (growing a volume changes the claim,
//! see `growth.rs`, and then makes the StatefulSet again, see `recreation.rs`).

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::pod_template;
use super::recreation;
use super::service_account::metadata;
use crate::names;
use crate::resource::{ClaimRetention, Rollout, UpdateOptions, UpdateStrategy};
use crate::validate::ValidStore;

/// Revisions of the template that Kubernetes keeps: the default of every workload, enough to see what changed.
const REVISION_HISTORY_LIMIT: i32 = 10;

pub(super) fn build(store: &ValidStore, config_hash: &str, live: Option<&StatefulSet>) -> StatefulSet {
    StatefulSet {
        metadata: metadata(store, store.name.clone()),
        spec: Some(StatefulSetSpec {
            replicas: Some(if store.is_running { i32::from(store.members) } else { 0 }),
            selector: LabelSelector {
                match_labels: Some(names::selector_labels(&store.name)),
                match_expressions: None,
            },
            service_name: Some(names::peers_service(&store.name)),
            template: pod_template::build(store, config_hash),
            volume_claim_templates: Some(vec![claim_template(store, live)]),
            // Members of a group start together: a member that waits for the one before it would wait for its quorum.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(update_strategy(store)),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(retention(store, live).as_str().to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            revision_history_limit: Some(REVISION_HISTORY_LIMIT),
            // The API server drops a zero here, so that setting it would look like someone's change at each look.
            min_ready_seconds: None,
            ordinals: None,
        }),
        status: None,
    }
}

/// What becomes of the claims with the StatefulSet. One that is about to be made again keeps them in any case.
fn retention(store: &ValidStore, live: Option<&StatefulSet>) -> ClaimRetention {
    let is_recreated = store.update.rollout == Rollout::Active && recreation::find(store, live).is_some();
    if is_recreated { ClaimRetention::Retain } else { store.claim_retention }
}

/// One member is rolled by Kubernetes. With more, the operator will delete the pods itself, followers first and the
/// leader last, because Kubernetes knows neither.
///
/// A rollout is paused by a partition above every ordinal: pods below it, all of them, stay on the old template, and one
/// that dies comes back on it. Under `OnDelete` it would come back on the new one.
fn update_strategy(store: &ValidStore) -> StatefulSetUpdateStrategy {
    let UpdateOptions { strategy, rollout } = store.update;
    let partition = match rollout {
        Rollout::Active if store.members > 1 || strategy == UpdateStrategy::OnDelete => {
            return StatefulSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None };
        }
        Rollout::Active => 0,
        Rollout::Paused => i32::from(store.members),
    };
    StatefulSetUpdateStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateStatefulSetStrategy { partition: Some(partition), max_unavailable: None }),
    }
}

/// The claim of each member. Its labels let the operator watch claims; like the rest of it they can never change.
fn claim_template(store: &ValidStore, live: Option<&StatefulSet>) -> PersistentVolumeClaim {
    let live_size = live.and_then(template_size).cloned();
    let live = live.and_then(live_claim_spec);
    let storage_class = live.map_or_else(|| store.storage_class.clone(), |spec| spec.storage_class_name.clone());
    let size: Quantity = live_size.unwrap_or_else(|| store.storage_size.clone());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.to_owned()),
            labels: Some(names::labels(&store.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size)].into()),
                limits: None,
            }),
            storage_class_name: storage_class,
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// The size that a StatefulSet's claim template asks for.
pub(super) fn template_size(live: &StatefulSet) -> Option<&Quantity> {
    live_claim_spec(live)?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

/// The claim of a StatefulSet's template.
fn live_claim_spec(live: &StatefulSet) -> Option<&PersistentVolumeClaimSpec> {
    let templates = live.spec.as_ref()?.volume_claim_templates.as_ref()?;
    let data = templates.iter().find(|claim| claim.metadata.name.as_deref() == Some(names::DATA_VOLUME))?;
    data.spec.as_ref()
}
