//! Volumes that are smaller than the store asks for.
//!
//! What must hold: a claim is only ever raised, and only when it has its volume: before that the API server refuses it, and
//! afterwards it is raised in the reconcile that its volume wakes. One that is larger, because a store of the same name had it before,
//! stays as it is. A StatefulSet's claim template can't change, so the claims are raised one by one, before the StatefulSet
//! is made again; a claim that the old template makes meanwhile begins at the old size and is raised in the next reconcile.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use crate::names;
use crate::quantity::Amount;
use crate::validate::ValidStore;

/// A claim to raise.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// The claim's name.
    pub claim: String,
    /// What it asks for now.
    pub from: Quantity,
    /// What it is to ask for.
    pub to: Quantity,
}

pub(super) fn find(store: &ValidStore, claims: &[Arc<PersistentVolumeClaim>]) -> Vec<Growth> {
    let Ok(wanted) = Amount::parse(&store.storage_size.0) else { return Vec::new() };
    let members = (0..store.members).map(|ordinal| names::claim(&store.name, ordinal));
    members
        .filter_map(|name| {
            let claim = claims.iter().find(|claim| claim.name_any() == name && is_bound(claim))?;
            let from = requested(claim)?.clone();
            let smaller = Amount::parse(&from.0).is_ok_and(|amount| amount < wanted);
            smaller.then(|| Growth { claim: name, from, to: store.storage_size.clone() })
        })
        .collect()
}

/// Whether a claim has its volume, and stays.
fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_none() && claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some())
}

/// The size that a claim asks for.
pub(crate) fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}
