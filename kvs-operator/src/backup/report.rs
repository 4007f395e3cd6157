//! Writes the statuses and events of backups and of their schedules.
//!
//! What must hold: the status first, because an event is told only once, when the status changes; an event that can't be
//! written is no reason to look again.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Sender};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, in_time};
use crate::metrics::Metrics;
use crate::names;
use crate::observe::Freshness;
use crate::status::shortened;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// Whether a person should look.
    pub is_warning: bool,
    /// One word, which programs may decide by.
    pub reason: String,
    /// What was being done.
    pub action: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// Writes statuses and events.
pub(super) struct Reporter {
    client: Client,
    recorder: Recorder,
    freshness: Arc<Freshness>,
    metrics: Arc<Metrics>,
}

impl Reporter {
    pub(super) fn new(
        client: Client,
        pod_name: Option<String>,
        freshness: Arc<Freshness>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let sender = Sender { controller: names::OPERATOR.to_owned(), instance: pod_name };
        Self { recorder: Recorder::new(client.clone(), sender), client, freshness, metrics }
    }

    /// Writes a status that differs from the object's own.
    pub(super) async fn status<K, S>(&self, object: &K, status: &S) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        S: Serialize,
    {
        let (kind, name, namespace) = (K::kind(&()), object.name_any(), object.namespace().unwrap_or_default());
        let api = Api::<K>::namespaced(self.client.clone(), &namespace);
        // The uid refuses the write when an object of the same name took the place of this one.
        let body = serde_json::json!({
            "apiVersion": K::api_version(&()),
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "uid": object.uid()},
            "status": status,
        });
        let parameters = PatchParams::apply(names::OPERATOR).force();
        let action = format!("writing the status of {kind} {namespace}/{name}");
        let answer = in_time(action, api.patch_status(&name, &parameters, &Patch::Apply(&body))).await;
        self.metrics.count_write(&format!("{kind}/status"), "apply", answer.as_ref().map(|_| ()));
        match answer {
            Ok(written) => self.freshness.wrote(&written),
            // Deleted meanwhile, or replaced: there is nobody to tell.
            Err(error) if matches!(error.reason(), "notFound" | "conflict") => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes an event.
    pub(super) async fn tell<K>(&self, object: &K, telling: Telling)
    where
        K: Resource<DynamicType = ()>,
    {
        let Telling { is_warning, reason, action, note } = telling;
        let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        tracing::info!(kind = %K::kind(&()), name, reason, "{note}");
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason,
            note: Some(shortened(note)),
            action: action.to_owned(),
            secondary: None,
        };
        let about = object.object_ref(&());
        let published = in_time("writing an event".to_owned(), self.recorder.publish(&event, &about)).await;
        self.metrics.count_write("Event", "create", published.as_ref().map(|_| ()));
        if let Err(error) = published {
            tracing::debug!(name, %error, "an event was lost");
        }
    }
}
