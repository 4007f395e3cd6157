//! The third step of a reconcile: from what is there and what is wanted to the list of writes.
//!
//! What must hold: `plan` is pure, it sees no client and no clock; when nothing differs the plan is empty, so that a
//! quiet store costs no write; when a name is taken by someone else's object nothing is written at all.
//!
//! A child is written when it is missing, when what we want changed since it was last applied (a hash of it stands in
//! an annotation), or when a field that we own has another value. Fields and labels of others are never looked at.

mod certificate;
mod child;
mod config_hash;
mod config_map;
mod disruption_budget;
mod drift;
mod growth;
mod hash;
pub mod membership;
mod mend;
mod network_policy;
mod pod_monitor;
pub mod pod_template;
mod recreation;
pub mod roll;
mod service_account;
mod services;
mod settlement;
mod stateful_set;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DynamicObject;
use serde_json::Value;

pub use child::{Child, ChildKind};
pub(crate) use config_map::intact_text;
pub(crate) use drift::{fields as drifted_fields, list_keys};
pub use growth::Growth;
pub use recreation::Recreation;
pub use settlement::Settlement;

use crate::kinds::KnownKinds;
use crate::names;
use crate::observe::Observed;
use crate::resource::Rollout;
use crate::validate::ValidStore;

/// What one reconcile writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Children to apply, in this order: the StatefulSet last, because its pods need the others.
    pub writes: Vec<Write>,
    /// Children that are no longer wanted.
    pub removals: Vec<Removal>,
    /// Claims to grow.
    pub growths: Vec<Growth>,
    /// A StatefulSet to delete alone, so that the next plan makes it again. Never beside a write or a growth.
    pub recreation: Option<Recreation>,
    /// Names that are taken. While there is one that [blocks](Obstacle::blocks), nothing is written.
    pub obstacles: Vec<Obstacle>,
}

/// One child to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// Which one of that name it is, so that another that takes its place is not deleted instead.
    pub uid: String,
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
    /// For a child that drifted: what is proven if the write changes nothing.
    pub seen: Option<Settlement>,
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

impl Obstacle {
    /// Whether the store can't be served around it. Someone's own object in the place of a child that a store can do
    /// without is left alone, and told.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.owner == ObstacleOwner::FormerStore || !self.kind.is_optional()
    }
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
    /// Who reaches the members, if the store wants it restricted.
    pub network_policy: Option<NetworkPolicy>,
    /// How many members a drain must leave, if there are several.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// cert-manager's order for the certificate, if it is to come from there.
    pub certificate: Option<DynamicObject>,
    /// What tells Prometheus of the members, where there is such a kind.
    pub pod_monitor: Option<DynamicObject>,
    /// The members.
    pub stateful_set: StatefulSet,
}

impl Children {
    /// Builds every child. `live` is the StatefulSet as it is, whose claim template can't change any more; `running` is the
    /// hash of the configuration that the members began with.
    #[must_use]
    pub fn build(store: &ValidStore, kinds: KnownKinds, live: Option<&StatefulSet>, running: Option<&str>) -> Self {
        let config = store.config.to_yaml();
        Self {
            service_account: service_account::build(store),
            config_map: config_map::build(store, &config),
            peers_service: services::build_peers(store),
            client_service: services::build_client(store),
            network_policy: network_policy::build(store),
            disruption_budget: disruption_budget::build(store),
            certificate: certificate::build(store, kinds),
            pod_monitor: pod_monitor::build(store, kinds),
            stateful_set: stateful_set::build(store, &config_hash::of(&store.config, running), live),
        }
    }
}

/// Compares what is there with what is wanted.
#[must_use]
pub fn plan(observed: &Observed, store: &ValidStore) -> Plan {
    // Both are taken apart without `..`: a new child fails to compile until it has its place and its order here.
    let Observed {
        service_account,
        config_map,
        peers_service,
        client_service,
        network_policy,
        disruption_budget,
        certificate,
        pod_monitor,
        stateful_set,
        pods,
        claims,
        access,
        kinds,
        origin,
        settled,
        kept_configuration,
    } = observed;
    let running = config_hash::running(stateful_set.as_deref(), pods);
    let mut children = Children::build(store, *kinds, stateful_set.as_deref(), running);
    origin.complete(store, &mut children.stateful_set, stateful_set.as_deref(), pods);
    let mut plan = Plan::default();
    plan.settle(store, Child::service_account(children.service_account), service_account.as_ref());
    plan.settle(store, Child::config_map(children.config_map), config_map.as_ref());
    plan.settle(store, Child::service(children.peers_service), peers_service.as_ref());
    plan.settle(store, Child::service(children.client_service), client_service.as_ref());
    let policy = children.network_policy.map(Child::network_policy);
    plan.settle_optional(store, ChildKind::NetworkPolicy, policy, network_policy.as_ref());
    let budget = children.disruption_budget.map(Child::disruption_budget);
    plan.settle_optional(store, ChildKind::PodDisruptionBudget, budget, disruption_budget.as_ref());
    let order = children.certificate.map(Child::certificate);
    plan.settle_optional(store, ChildKind::Certificate, order, certificate.as_ref());
    let monitor = children.pod_monitor.map(Child::pod_monitor);
    plan.settle_optional(store, ChildKind::PodMonitor, monitor, pod_monitor.as_ref());
    plan.settle(store, Child::stateful_set(children.stateful_set), stateful_set.as_ref());
    // An apply proved already that the API server keeps these as they were asked.
    plan.writes.retain(|write| write.seen.as_ref().is_none_or(|seen| !settled.contains(seen)));
    plan.growths = growth::find(store, claims);
    // A store that goes to sleep needs no Secret; one that has no beginning yet gets no StatefulSet at all.
    let cannot_start = (access.stops_servers() && store.is_running) || origin.blocked().is_some();
    if cannot_start {
        plan.hold_pods();
    }
    let is_paused = store.update.rollout == Rollout::Paused;
    // Without pods Kubernetes takes the new template for rolled out, so the next pod has it whatever is paused.
    if is_paused && stateful_set.is_some() && store.is_running {
        plan.hold_configuration();
        if let (Some(live), Some(text)) = (config_map, kept_configuration) {
            plan.restore_configuration(store, live, text);
        }
    }
    if plan.obstacles.iter().any(Obstacle::blocks) {
        plan.writes.clear();
        plan.removals.clear();
        plan.growths.clear();
    } else if plan.writes.is_empty() && plan.growths.is_empty() && !cannot_start && !is_paused {
        // A StatefulSet that is made again knows one template only, the newest.
        let live = stateful_set.as_deref().filter(|live| recreation::has_let_go(live, claims));
        plan.recreation = recreation::find(store, live);
    }
    plan
}

impl Plan {
    /// What it would change, for people.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let Self { writes, removals, growths, recreation, obstacles: _ } = self;
        let writes = writes.iter().map(|write| format!("{} {}", write.child.kind(), write.child.name()));
        let removals = removals.iter().map(|removal| format!("{} {}", removal.kind, removal.name));
        let growths = growths.iter().map(|growth| format!("{} {}", ChildKind::PersistentVolumeClaim, growth.claim));
        let recreation = recreation.iter().map(|recreation| format!("{} {}", ChildKind::StatefulSet, recreation.name));
        writes.chain(removals).chain(growths).chain(recreation).collect()
    }

    /// Leaves pods and their configuration as they are: a pod that starts now could not serve, and one that runs can.
    /// What someone else changed is restored all the same, because the pods ran with that.
    fn hold_pods(&mut self) {
        self.writes.retain(|write| {
            !matches!(write.child.kind(), ChildKind::ConfigMap | ChildKind::StatefulSet)
                || matches!(write.reason, WriteReason::Drifted(_))
        });
    }

    /// Leaves the configuration to pods that stay on the old template: one that dies must come back as it was.
    fn hold_configuration(&mut self) {
        self.writes.retain(|write| write.child.kind() != ChildKind::ConfigMap || write.reason != WriteReason::Changed);
    }

    /// Puts back the configuration that was held, if somebody changed it. `text` is what it was when it was intact.
    fn restore_configuration(&mut self, store: &ValidStore, live: &Arc<ConfigMap>, text: &str) {
        let is_ours = obstacle_owner(store, live.as_ref()).is_none() && live.metadata.deletion_timestamp.is_none();
        let is_written = self.writes.iter().any(|write| write.child.kind() == ChildKind::ConfigMap);
        if !is_ours || is_written || !config_map::is_of(store, text, live) {
            return;
        }
        self.settle(store, Child::config_map(config_map::build(store, text)), Some(live));
    }

    /// As [`settle`](Self::settle), for a child that a store may not want: then one of ours is removed.
    fn settle_optional<K>(&mut self, store: &ValidStore, kind: ChildKind, wanted: Option<Child>, live: Option<&Arc<K>>)
    where
        K: kube::ResourceExt + serde::Serialize,
    {
        match (wanted, live) {
            (Some(wanted), live) => self.settle(store, wanted, live),
            (None, Some(live))
                if live.meta().deletion_timestamp.is_none() && obstacle_owner(store, live.as_ref()).is_none() =>
            {
                let removal = Removal { kind, name: live.name_any(), uid: live.uid().unwrap_or_default() };
                self.removals.push(removal);
            }
            (None, _) => {}
        }
    }

    /// Adds the write or the obstacle, if any, that lies between one wanted child and the live one.
    fn settle<K>(&mut self, store: &ValidStore, wanted: Child, live: Option<&Arc<K>>)
    where
        K: kube::ResourceExt + serde::Serialize,
    {
        let Some(live) = live else {
            self.writes.push(Write { child: wanted, reason: WriteReason::Missing, mend: None, seen: None });
            return;
        };
        if let Some(owner) = obstacle_owner(store, live.as_ref()) {
            self.obstacles.push(Obstacle { kind: wanted.kind(), name: wanted.name().to_owned(), owner });
            return;
        }
        if live.meta().deletion_timestamp.is_some() {
            // It is going; when it is gone it is missing.
            return;
        }
        let body = wanted.body();
        let is_applied = live.annotations().get(names::APPLIED_HASH) == Some(&wanted.hash());
        let live = serde_json::to_value(live.as_ref()).expect("a Kubernetes object always has a JSON form");
        let reason = if is_applied { WriteReason::Drifted(drift::fields(&body, &live)) } else { WriteReason::Changed };
        if reason != WriteReason::Drifted(Vec::new()) {
            let mend = mend::patch(&body, &live);
            let seen = is_applied.then(|| Settlement::new(&live, wanted.hash()));
            self.writes.push(Write { child: wanted, reason, mend, seen });
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
