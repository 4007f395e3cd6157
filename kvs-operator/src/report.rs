//! Writes what [`crate::status`] found: the status, when it differs, and the events.
//!
//! What must hold: the status first, because an event is told only once, when the status changes; an event that can't
//! be written is no reason to reconcile again.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};

use crate::error::{Error, in_time};
use crate::metrics::Metrics;
use crate::names;
use crate::observe::Freshness;
use crate::plan::ChildKind;
use crate::resource::{KvsStore, KvsStoreStatus};
use crate::status::{Assessment, Notice, NoticeKind};

/// Writes statuses and events.
pub struct StatusWriter {
    client: Client,
    recorder: Recorder,
    freshness: Arc<Freshness>,
    metrics: Arc<Metrics>,
}

impl StatusWriter {
    /// A writer that signs events with the name of this pod.
    #[must_use]
    pub fn new(client: Client, pod_name: Option<String>, freshness: Arc<Freshness>, metrics: Arc<Metrics>) -> Self {
        let recorder =
            Recorder::new(client.clone(), Reporter { controller: names::OPERATOR.to_owned(), instance: pod_name });
        Self { client, recorder, freshness, metrics }
    }

    /// Writes what differs from the store as it was read.
    ///
    /// # Errors
    /// When the status can't be written.
    pub async fn write(&self, store: &KvsStore, assessment: Assessment) -> Result<(), Error> {
        let Assessment { status, notices } = assessment;
        if store.status.as_ref() != Some(&status) {
            self.write_status(store, &status).await?;
        }
        for notice in notices {
            self.publish(store, notice).await;
        }
        Ok(())
    }

    async fn write_status(&self, store: &KvsStore, status: &KvsStoreStatus) -> Result<(), Error> {
        let name = store.name_any();
        let namespace = store.namespace().unwrap_or_default();
        let api = Api::<KvsStore>::namespaced(self.client.clone(), &namespace);
        // The uid refuses the write when a store of the same name took the place of this one.
        let body = serde_json::json!({
            "apiVersion": KvsStore::api_version(&()),
            "kind": KvsStore::kind(&()),
            "metadata": {"name": name, "namespace": namespace, "uid": store.metadata.uid},
            "status": status,
        });
        let parameters = PatchParams::apply(names::OPERATOR).force();
        let action = format!("writing the status of KvsStore {namespace}/{name}");
        let answer = in_time(action, api.patch_status(&name, &parameters, &Patch::Apply(&body))).await;
        self.metrics.count_write("KvsStore/status", "apply", answer.as_ref().map(|_| ()));
        match answer {
            Ok(written) => self.freshness.wrote(&written),
            // Deleted meanwhile, or replaced: there is nobody to tell.
            Err(error) if matches!(error.reason(), "notFound" | "conflict") => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn publish(&self, store: &KvsStore, notice: Notice) {
        let Notice { kind, reason, action, child, note } = notice;
        tracing::info!(store = %full_name(store), reason, "{note}");
        let event = Event {
            type_: match kind {
                NoticeKind::Normal => EventType::Normal,
                NoticeKind::Warning => EventType::Warning,
            },
            reason,
            note: Some(note),
            action: action.to_owned(),
            secondary: child.map(|(kind, name)| reference(store, kind, name)),
        };
        let published =
            in_time("writing an event".to_owned(), self.recorder.publish(&event, &store.object_ref(&()))).await;
        self.metrics.count_write("Event", "create", published.as_ref().map(|_| ()));
        if let Err(error) = published {
            tracing::debug!(store = %full_name(store), %error, "an event was lost");
        }
    }
}

/// `namespace/name`.
pub(crate) fn full_name(store: &KvsStore) -> String {
    format!("{}/{}", store.namespace().unwrap_or_default(), store.name_any())
}

fn reference(store: &KvsStore, kind: ChildKind, name: String) -> ObjectReference {
    let api_version = if kind == ChildKind::StatefulSet { "apps/v1" } else { "v1" };
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.as_str().to_owned()),
        name: Some(name),
        namespace: store.namespace(),
        ..ObjectReference::default()
    }
}
