//! The third step of a reconcile: from what is there and what is wanted to the list of writes.
//!
//! What must hold: `plan` is pure, it sees no client and no clock; when nothing differs the plan is empty, so that a
//! quiet store costs no write; when a name is taken by someone else's object nothing is written at all.
//!
//! A child is written when it is missing, when what we want changed since it was last applied (a hash of it stands in
//! an annotation), or when a field that we own has another value. Fields and labels of others are never looked at.

mod child;
mod config_map;
mod drift;
mod growth;
mod hash;
mod mend;
pub mod pod_template;
mod service_account;
mod services;
mod stateful_set;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use serde_json::Value;

pub use child::{Child, ChildKind};
pub use growth::Growth;

use crate::names;
use crate::observe::Observed;
use crate::validate::ValidStore;

/// What one reconcile writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Children to apply, in this order: the StatefulSet last, because its pods need the others.
    pub writes: Vec<Write>,
    /// Claims to grow.
    pub growths: Vec<Growth>,
    /// Names that are taken. While there is one, nothing is written.
    pub obstacles: Vec<Obstacle>,
}

/// One child to apply.
#[derive(Debug)]
pub struct Write {
    /// What it is to be.
    pub child: Child,
    /// Why it must be written.
    pub reason: WriteReason,
    /// A merge patch to make first, where someone changed the key of an entry of ours and apply alone would fail.
    pub mend: Option<Value>,
}

/// Why a child must be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteReason {
    /// It is not there.
    Missing,
    /// The store, the operator or its settings want something else than what was last applied.
    Changed,
    /// Someone changed these fields of ours.
    Drifted(Vec<String>),
}

/// A name that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The kind of the object in the way.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: ObstacleOwner,
}

/// Whose the object in the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObstacleOwner {
    /// A former store of this name; Kubernetes is about to delete it.
    FormerStore,
    /// Someone else; a person must rename the store or that object.
    Other,
}

/// Every child of a store, as it is to be.
#[derive(Debug)]
pub struct Children {
    /// The account that the server runs under.
    pub service_account: ServiceAccount,
    /// The server's configuration.
    pub config_map: ConfigMap,
    /// The Service that names every member.
    pub peers_service: Service,
    /// The Service that clients use.
    pub client_service: Service,
    /// The members.
    pub stateful_set: StatefulSet,
}

impl Children {
    /// Builds every child. `live` is the StatefulSet as it is, whose claim template can't change any more.
    #[must_use]
    pub fn build(store: &ValidStore, live: Option<&StatefulSet>) -> Self {
        let config = store.config.to_yaml();
        Self {
            service_account: service_account::build(store),
            config_map: config_map::build(store, &config),
            peers_service: services::build_peers(store),
            client_service: services::build_client(store),
            stateful_set: stateful_set::build(store, &hash::of_text(&config), live),
        }
    }
}

/// Compares what is there with what is wanted.
#[must_use]
pub fn plan(observed: &Observed, store: &ValidStore) -> Plan {
    // Both are taken apart without `..`: a new child fails to compile until it has its place and its order here.
    let Observed { service_account, config_map, peers_service, client_service, stateful_set, pods: _, claims } =
        observed;
    let wanted = Children::build(store, stateful_set.as_deref());
    let mut plan = Plan::default();
    plan.settle(store, Child::service_account(wanted.service_account), service_account.as_ref());
    plan.settle(store, Child::config_map(wanted.config_map), config_map.as_ref());
    plan.settle(store, Child::service(wanted.peers_service), peers_service.as_ref());
    plan.settle(store, Child::service(wanted.client_service), client_service.as_ref());
    plan.settle(store, Child::stateful_set(wanted.stateful_set), stateful_set.as_ref());
    plan.growths = growth::find(store, claims);
    if !plan.obstacles.is_empty() {
        plan.writes.clear();
        plan.growths.clear();
    }
    plan
}

impl Plan {
    /// Adds the write or the obstacle, if any, that lies between one wanted child and the live one.
    fn settle<K>(&mut self, store: &ValidStore, wanted: Child, live: Option<&Arc<K>>)
    where
        K: kube::ResourceExt<DynamicType = ()> + serde::Serialize,
    {
        let Some(live) = live else {
            self.writes.push(Write { child: wanted, reason: WriteReason::Missing, mend: None });
            return;
        };
        if let Some(owner) = obstacle_owner(store, live.as_ref()) {
            self.obstacles.push(Obstacle { kind: wanted.kind(), name: wanted.name().to_owned(), owner });
            return;
        }
        let body = wanted.body();
        let is_applied = live.annotations().get(names::APPLIED_HASH) == Some(&wanted.hash());
        let live = serde_json::to_value(live.as_ref()).expect("a Kubernetes object always has a JSON form");
        let reason = if is_applied { WriteReason::Drifted(drift::fields(&body, &live)) } else { WriteReason::Changed };
        if reason != WriteReason::Drifted(Vec::new()) {
            let mend = mend::patch(&body, &live);
            self.writes.push(Write { child: wanted, reason, mend });
        }
    }
}

/// Whose a live object is when it is not this store's.
fn obstacle_owner<K: kube::ResourceExt>(store: &ValidStore, live: &K) -> Option<ObstacleOwner> {
    let controller = live.owner_references().iter().find(|owner| owner.controller == Some(true));
    match controller {
        Some(owner) if owner.uid == store.owner.uid => None,
        Some(owner) if owner.kind == store.owner.kind && owner.name == store.name => Some(ObstacleOwner::FormerStore),
        Some(_) => Some(ObstacleOwner::Other),
        // Orphaned on purpose, or its owner reference was edited away: it is ours if it bears our labels.
        None => {
            let labels = live.labels();
            let ours = labels.get(names::MANAGED_BY).is_some_and(|by| by == names::OPERATOR)
                && labels.get(names::INSTANCE) == Some(&store.name);
            (!ours && !live.annotations().contains_key(names::APPLIED_HASH)).then_some(ObstacleOwner::Other)
        }
    }
}
