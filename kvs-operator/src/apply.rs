//! The fourth step of a reconcile: the plan's writes, one after another, by server-side apply.
//!
//! What must hold: one field manager, forced, because the operator owns what it sets; the StatefulSet last, as the plan
//! has it; a refusal ends the list, because what follows depends on it; what was written is observed from the API
//! server's own answer, so that the status does not wait for a watch.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, in_time};
use crate::metrics::Metrics;
use crate::names;
use crate::observe::{Freshness, Observed};
use crate::plan::{Child, ChildKind, Growth, Plan, Write, WriteReason};

/// Writes plans.
pub struct Applier {
    client: Client,
    freshness: Arc<Freshness>,
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
    /// A claim was raised.
    Grown(Growth),
}

impl Applier {
    /// An applier that leaves the versions it made in `freshness`.
    #[must_use]
    pub fn new(client: Client, freshness: Arc<Freshness>, metrics: Arc<Metrics>) -> Self {
        Self { client, freshness, metrics }
    }

    /// Writes a plan in its order and puts what the API server answered into `observed`.
    pub async fn apply(&self, namespace: &str, plan: Plan, observed: &mut Observed) -> Outcome {
        let Plan { writes, growths, obstacles: _ } = plan;
        let mut outcome = Outcome::default();
        for Write { child, reason, mend } in writes {
            let kind = child.kind();
            let deed = Deed::Applied { kind, name: child.name().to_owned(), reason };
            match self.child(namespace, child, mend, observed).await {
                Ok(()) => outcome.deeds.push(deed),
                // The pods need no Service to start, so a Service that is refused stops nothing else.
                Err(error) if error.is_refusal() && kind == ChildKind::Service => {
                    outcome.failure = outcome.failure.or(Some(error));
                }
                Err(error) => {
                    outcome.failure = Some(error);
                    return outcome;
                }
            }
        }
        for growth in growths {
            match self.grow(namespace, &growth, observed).await {
                Ok(()) => outcome.deeds.push(Deed::Grown(growth)),
                Err(error) => outcome.growth_failure = outcome.growth_failure.or(Some(error)),
            }
        }
        outcome
    }

    async fn child(
        &self,
        namespace: &str,
        child: Child,
        mend: Option<Value>,
        observed: &mut Observed,
    ) -> Result<(), Error> {
        match child {
            Child::ServiceAccount(object) => {
                observed.service_account = Some(self.object(namespace, object.as_ref(), mend).await?);
            }
            Child::ConfigMap(object) => {
                observed.config_map = Some(self.object(namespace, object.as_ref(), mend).await?)
            }
            Child::Service(object) => {
                let applied = self.object(namespace, object.as_ref(), mend).await?;
                let headless = object.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"));
                if headless {
                    observed.peers_service = Some(applied);
                } else {
                    observed.client_service = Some(applied);
                }
            }
            Child::StatefulSet(object) => {
                observed.stateful_set = Some(self.object(namespace, object.as_ref(), mend).await?)
            }
        }
        Ok(())
    }

    /// Applies one object, after mending what apply can't.
    async fn object<K>(&self, namespace: &str, object: &K, mend: Option<Value>) -> Result<Arc<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
    {
        let name = object.name_any();
        let kind = K::kind(&());
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        if let Some(mend) = mend {
            let parameters = PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
            let action = format!("mending {kind} {namespace}/{name}");
            let answer = in_time(action, api.patch(&name, &parameters, &Patch::Merge(&mend))).await;
            self.metrics.count_write(&kind, "patch", answer.as_ref().map(|_| ()));
            self.freshness.wrote(&answer?);
        }
        // Strict: a field that the API server does not know is an error of ours, not something to drop.
        let parameters = PatchParams::apply(names::OPERATOR).force().validation_strict();
        let patch = Patch::Apply(object);
        let answer =
            in_time(format!("applying {kind} {namespace}/{name}"), api.patch(&name, &parameters, &patch)).await;
        self.metrics.count_write(&kind, "apply", answer.as_ref().map(|_| ()));
        let applied = answer?;
        self.freshness.wrote(&applied);
        Ok(Arc::new(applied))
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
}
