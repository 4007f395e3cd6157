//! The fourth step of a reconcile: the plan's writes, one after another, by server-side apply.
//!
//! What must hold: one field manager, forced, because the operator owns what it sets; the StatefulSet last, as the plan
//! has it; a refusal ends the list, because what follows depends on it; what was written is observed from the API
//! server's own answer, so that the status does not wait for a watch.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, in_time};
use crate::kinds;
use crate::metrics::Metrics;
use crate::names;
use crate::observe::{Freshness, Observed, Settled};
use crate::plan::{Child, ChildKind, Growth, Plan, Recreation, Removal, Settlement, Write, WriteReason};

/// Writes plans.
pub struct Applier {
    client: Client,
    freshness: Arc<Freshness>,
    settled: Arc<Settled>,
    metrics: Arc<Metrics>,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was done, in order.
    pub deeds: Vec<Deed>,
    /// What ended the children's writes before their end.
    pub failure: Option<Error>,
    /// What the API server answered to the first claim that it did not let grow.
    pub growth_failure: Option<Error>,
}

/// One write that the API server accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// A child was applied.
    Applied {
        /// Its kind.
        kind: ChildKind,
        /// Its name.
        name: String,
        /// Why.
        reason: WriteReason,
    },
    /// A child that is no longer wanted was deleted.
    Removed {
        /// Its kind.
        kind: ChildKind,
        /// Its name.
        name: String,
    },
    /// A claim was raised.
    Grown(Growth),
    /// A StatefulSet was deleted without its pods and claims, to be made again.
    Orphaned(Recreation),
}

impl Applier {
    /// An applier that leaves the versions it made in `freshness`, and what needed no write in `settled`.
    #[must_use]
    pub fn new(client: Client, freshness: Arc<Freshness>, settled: Arc<Settled>, metrics: Arc<Metrics>) -> Self {
        Self { client, freshness, settled, metrics }
    }

    /// Writes a plan in its order and puts what the API server answered into `observed`.
    pub async fn apply(&self, namespace: &str, plan: Plan, observed: &mut Observed) -> Outcome {
        let Plan { writes, removals, growths, recreation, obstacles: _ } = plan;
        let mut outcome = Outcome::default();
        for Write { child, reason, mend, seen } in writes {
            let kind = child.kind();
            let deed = Deed::Applied { kind, name: child.name().to_owned(), reason };
            match self.child(namespace, child, mend, seen.as_ref(), observed).await {
                Ok(is_settled) => match seen.filter(|_| is_settled) {
                    // It was as it was asked, in other words.
                    Some(seen) => self.settled.remember(seen),
                    None => outcome.deeds.push(deed),
                },
                // The pods need no Service and no monitor to start, so one that is refused stops nothing else.
                Err(error) if error.is_refusal() && matches!(kind, ChildKind::Service | ChildKind::PodMonitor) => {
                    outcome.failure = outcome.failure.or(Some(error));
                }
                Err(error) => {
                    outcome.failure = Some(error);
                    return outcome;
                }
            }
        }
        for removal in removals {
            match self.remove(namespace, &removal, observed).await {
                Ok(()) => outcome.deeds.push(Deed::Removed { kind: removal.kind, name: removal.name }),
                Err(error) => outcome.failure = outcome.failure.or(Some(error)),
            }
        }
        for growth in growths {
            match self.grow(namespace, &growth, observed).await {
                Ok(()) => outcome.deeds.push(Deed::Grown(growth)),
                Err(error) => outcome.growth_failure = outcome.growth_failure.or(Some(error)),
            }
        }
        if let Some(recreation) = recreation {
            match self.orphan(namespace, &recreation, observed).await {
                Ok(()) => outcome.deeds.push(Deed::Orphaned(recreation)),
                Err(error) => outcome.failure = Some(error),
            }
        }
        outcome
    }

    /// Applies a child and puts it where it is observed. `true` when it is what `seen` tells of, so nothing was changed.
    async fn child(
        &self,
        namespace: &str,
        child: Child,
        mend: Option<Value>,
        seen: Option<&Settlement>,
        observed: &mut Observed,
    ) -> Result<bool, Error> {
        fn observe<K: Serialize>(place: &mut Option<Arc<K>>, applied: Arc<K>, seen: Option<&Settlement>) -> bool {
            let applied = place.insert(applied);
            seen.is_some_and(|seen| seen.is_of(applied.as_ref()))
        }
        Ok(match child {
            Child::ServiceAccount(object) => {
                observe(&mut observed.service_account, self.object(namespace, object.as_ref(), mend).await?, seen)
            }
            Child::ConfigMap(object) => {
                observe(&mut observed.config_map, self.object(namespace, object.as_ref(), mend).await?, seen)
            }
            Child::Service(object) => {
                let applied = self.object(namespace, object.as_ref(), mend).await?;
                let headless = object.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
                observe(
                    if headless { &mut observed.peers_service } else { &mut observed.client_service },
                    applied,
                    seen,
                )
            }
            Child::NetworkPolicy(object) => {
                observe(&mut observed.network_policy, self.object(namespace, object.as_ref(), mend).await?, seen)
            }
            Child::PodDisruptionBudget(object) => {
                observe(&mut observed.disruption_budget, self.object(namespace, object.as_ref(), mend).await?, seen)
            }
            Child::Certificate(object) => {
                let applied = self.foreign(namespace, &kinds::certificate(), object.as_ref(), mend).await?;
                observe(&mut observed.certificate, applied, seen)
            }
            Child::PodMonitor(object) => {
                let applied = self.foreign(namespace, &kinds::pod_monitor(), object.as_ref(), mend).await?;
                observe(&mut observed.pod_monitor, applied, seen)
            }
            Child::StatefulSet(object) => {
                observe(&mut observed.stateful_set, self.object(namespace, object.as_ref(), mend).await?, seen)
            }
        })
    }

    /// Applies one object, after mending what apply can't.
    async fn object<K>(&self, namespace: &str, object: &K, mend: Option<Value>) -> Result<Arc<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let remember = |written: &K| self.freshness.wrote(written);
        self.write(&api, &K::kind(&()), namespace, object, mend, remember).await
    }

    /// Applies an object of another project's kind. It is read anew in each reconcile, so no version is remembered.
    async fn foreign(
        &self,
        namespace: &str,
        kind: &ApiResource,
        object: &DynamicObject,
        mend: Option<Value>,
    ) -> Result<Arc<DynamicObject>, Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, kind);
        self.write(&api, &kind.kind, namespace, object, mend, |_| ()).await
    }

    async fn write<K>(
        &self,
        api: &Api<K>,
        kind: &str,
        namespace: &str,
        object: &K,
        mend: Option<Value>,
        remember: impl Fn(&K),
    ) -> Result<Arc<K>, Error>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = object.name_any();
        if let Some(mend) = mend {
            let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
            let action = format!("mending {kind} {namespace}/{name}");
            let answer = in_time(action, api.patch(&name, &parameters, &Patch::Merge(&mend))).await;
            self.metrics.count_write(kind, "patch", answer.as_ref().map(|_| ()));
            remember(&answer?);
        }
        // Strict: a field that the API server does not know is an error of ours, not something to drop.
        let parameters = PatchParams::apply(names::OPERATOR).force().validation_strict();
        let patch = Patch::Apply(object);
        let answer =
            in_time(format!("applying {kind} {namespace}/{name}"), api.patch(&name, &parameters, &patch)).await;
        self.metrics.count_write(kind, "apply", answer.as_ref().map(|_| ()));
        let applied = answer?;
        remember(&applied);
        Ok(Arc::new(applied))
    }

    /// Deletes a child that is no longer wanted.
    async fn remove(&self, namespace: &str, removal: &Removal, observed: &mut Observed) -> Result<(), Error> {
        let client = self.client.clone();
        match removal.kind {
            ChildKind::NetworkPolicy => {
                self.delete(Api::<NetworkPolicy>::namespaced(client, namespace), removal).await?;
                observed.network_policy = None;
            }
            ChildKind::PodDisruptionBudget => {
                self.delete(Api::<PodDisruptionBudget>::namespaced(client, namespace), removal).await?;
                observed.disruption_budget = None;
            }
            ChildKind::Certificate => {
                let api = Api::<DynamicObject>::namespaced_with(client, namespace, &kinds::certificate());
                self.delete(api, removal).await?;
                observed.certificate = None;
            }
            ChildKind::PodMonitor => {
                let api = Api::<DynamicObject>::namespaced_with(client, namespace, &kinds::pod_monitor());
                self.delete(api, removal).await?;
                observed.pod_monitor = None;
            }
            ChildKind::ServiceAccount
            | ChildKind::ConfigMap
            | ChildKind::Service
            | ChildKind::StatefulSet
            | ChildKind::PersistentVolumeClaim => unreachable!("a plan removes no child that every store has"),
        }
        Ok(())
    }

    async fn delete<K: Clone + Debug + DeserializeOwned>(&self, api: Api<K>, removal: &Removal) -> Result<(), Error> {
        let Removal { kind, name, uid } = removal;
        let only_this = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let parameters = DeleteParams::background().preconditions(only_this);
        let answer = in_time(format!("deleting {kind} {name}"), api.delete(name, &parameters)).await;
        self.metrics.count_write(kind.as_str(), "delete", answer.as_ref().map(|_| ()));
        match answer {
            Ok(_) => Ok(()),
            // Gone already; the cache is behind.
            Err(error) if error.reason() == "notFound" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Raises what a claim asks for. A merge patch, because the claim's other fields are the StatefulSet's.
    async fn grow(&self, namespace: &str, growth: &Growth, observed: &mut Observed) -> Result<(), Error> {
        let Growth { claim: name, from, to } = growth;
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let patch = serde_json::json!({"spec": {"resources": {"requests": {"storage": to}}}});
        let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
        let action = format!("growing PersistentVolumeClaim {namespace}/{name} from {} to {}", from.0, to.0);
        let answer = in_time(action, api.patch(name, &parameters, &Patch::Merge(&patch))).await;
        self.metrics.count_write("PersistentVolumeClaim", "patch", answer.as_ref().map(|_| ()));
        let grown = Arc::new(answer?);
        self.freshness.wrote(grown.as_ref());
        if let Some(claim) = observed.claims.iter_mut().find(|claim| claim.name_any() == *name) {
            *claim = grown;
        }
        Ok(())
    }

    /// Deletes a StatefulSet and leaves its pods and claims.
    async fn orphan(&self, namespace: &str, recreation: &Recreation, observed: &mut Observed) -> Result<(), Error> {
        let Recreation { name, uid, from, to } = recreation;
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), namespace);
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        let action = format!(
            "deleting StatefulSet {namespace}/{name} without its pods, for a claim template of {} instead of {}",
            to.0, from.0
        );
        let answer = in_time(action, api.delete(name, &parameters)).await;
        self.metrics.count_write("StatefulSet", "delete", answer.as_ref().map(|_| ()));
        match answer?.left() {
            // Kubernetes first takes its name off the pods and claims; then it is gone.
            Some(going) => {
                self.freshness.wrote(&going);
                observed.stateful_set = Some(Arc::new(going));
            }
            None => observed.stateful_set = None,
        }
        Ok(())
    }
}
