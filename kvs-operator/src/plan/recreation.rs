//! A StatefulSet whose claim template asks for smaller volumes than the store.
//!
//! What must hold: a claim template can't change, so the StatefulSet is deleted alone, its pods and claims stay, and the
//! next reconcile finds it missing and makes it again around them: no pod restarts. That is also what heals a crash in
//! between. It is deleted last, when nothing else is left to write, when every claim asks for the new size already, and
//! only under the uid that was looked at, so that a late or repeated call can't hit its successor. Claims that it owns,
//! because they are to go with their store, would be in danger: Kubernetes' garbage collector may take the StatefulSet for
//! gone before it has let go of them. So it is first told to retain them (see `stateful_set.rs`), and deleted when none
//! names it as its owner any more.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::stateful_set::template_size;
use crate::quantity::Amount;
use crate::validate::ValidStore;

/// A StatefulSet to be made again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recreation {
    /// Its name.
    pub name: String,
    /// Its uid; no other may be deleted.
    pub uid: String,
    /// What its claim template asks for now.
    pub from: Quantity,
    /// What it is to ask for.
    pub to: Quantity,
}

pub(super) fn find(store: &ValidStore, live: Option<&StatefulSet>) -> Option<Recreation> {
    let live = live.filter(|live| live.metadata.deletion_timestamp.is_none())?;
    let from = template_size(live)?;
    let is_smaller = Amount::parse(&from.0).ok()? < Amount::parse(&store.storage_size.0).ok()?;
    is_smaller.then(|| Recreation {
        name: live.name_any(),
        uid: live.uid().unwrap_or_default(),
        from: from.clone(),
        to: store.storage_size.clone(),
    })
}

/// Whether a StatefulSet may be deleted without harm to its claims: its controller has seen that it is to retain them, and
/// has taken its name off each.
pub(super) fn has_let_go(live: &StatefulSet, claims: &[Arc<PersistentVolumeClaim>]) -> bool {
    let uid = live.metadata.uid.as_deref();
    let owned = claims.iter().any(|claim| claim.owner_references().iter().any(|owner| Some(owner.uid.as_str()) == uid));
    let seen = live.status.as_ref().and_then(|status| status.observed_generation);
    !owned && (live.metadata.generation.is_none() || seen >= live.metadata.generation)
}
