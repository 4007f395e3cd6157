//! Writes what [`crate::status`] found: the status, when it differs, and the events.
//!
//! What must hold: the status first, because an event is told only once, when the status changes; an event that can't
//! be written is no reason to reconcile again; a status of which the API server keeps only a part, because its definition
//! is older than this operator, is not written at each look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
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

/// How often a status is written of which a part was dropped. By then the definition may be a newer one.
const DROPPED_RETRY: Duration = Duration::from_secs(600);

/// What became of a status of which the API server dropped a part.
struct Dropped {
    wanted: KvsStoreStatus,
    kept: Option<KvsStoreStatus>,
    at: Instant,
}

/// Writes statuses and events.
pub struct StatusWriter {
    client: Client,
    recorder: Recorder,
    freshness: Arc<Freshness>,
    metrics: Arc<Metrics>,
    /// By the store's uid. Held for a look-up or an insert, never across an await.
    dropped: Mutex<HashMap<String, Dropped>>,
    /// Whether a part of the last status that was written was dropped.
    is_definition_old: AtomicBool,
}

impl StatusWriter {
    /// A writer that signs events with the name of this pod.
    #[must_use]
    pub fn new(client: Client, pod_name: Option<String>, freshness: Arc<Freshness>, metrics: Arc<Metrics>) -> Self {
        let recorder =
            Recorder::new(client.clone(), Reporter { controller: names::OPERATOR.to_owned(), instance: pod_name });
        Self {
            client,
            recorder,
            freshness,
            metrics,
            dropped: Mutex::default(),
            is_definition_old: AtomicBool::new(false),
        }
    }

    /// Whether the cluster's definition of a KvsStore drops a part of what this operator writes.
    #[must_use]
    pub fn is_definition_old(&self) -> bool {
        self.is_definition_old.load(Ordering::Relaxed)
    }

    /// Forgets a store that is gone.
    pub fn forget(&self, store: &KvsStore) {
        self.dropped().remove(&store.uid().unwrap_or_default());
    }

    /// Tells of what happened.
    pub async fn tell(&self, store: &KvsStore, notices: Vec<Notice>) {
        for notice in notices {
            self.publish(store, notice).await;
        }
    }

    /// Writes what differs from the store as it was read.
    ///
    /// # Errors
    /// When the status can't be written.
    pub async fn write(&self, store: &KvsStore, assessment: Assessment) -> Result<(), Error> {
        let Assessment { status, notices } = assessment;
        if store.status.as_ref() != Some(&status) && !self.was_dropped(store, &status) {
            self.write_status(store, &status).await?;
        }
        self.tell(store, notices).await;
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
            Ok(written) => {
                self.freshness.wrote(&written);
                self.compare(store, status, written.status);
            }
            // Deleted meanwhile, or replaced: there is nobody to tell.
            Err(error) if matches!(error.reason(), "notFound" | "conflict") => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether this very status was written a short while ago, and the store has what the API server kept of it.
    fn was_dropped(&self, store: &KvsStore, status: &KvsStoreStatus) -> bool {
        self.dropped().get(&store.uid().unwrap_or_default()).is_some_and(|dropped| {
            dropped.wanted == *status && dropped.kept == store.status && dropped.at.elapsed() < DROPPED_RETRY
        })
    }

    /// Remembers a status of which the API server kept only a part.
    fn compare(&self, store: &KvsStore, wanted: &KvsStoreStatus, kept: Option<KvsStoreStatus>) {
        let uid = store.uid().unwrap_or_default();
        // The API server keeps whole seconds.
        let is_old = kept.clone().map(without_times) != Some(without_times(wanted.clone()));
        if is_old && !self.is_definition_old.swap(is_old, Ordering::Relaxed) {
            tracing::warn!(
                store = %full_name(store),
                "the cluster's definition of a KvsStore is older than this operator and drops a part of the status; install \
                 the operator's own: kubectl apply --server-side -f deploy/crds.yaml"
            );
        }
        self.is_definition_old.store(is_old, Ordering::Relaxed);
        if is_old {
            self.dropped().insert(uid, Dropped { wanted: wanted.clone(), kept, at: Instant::now() });
        } else {
            self.dropped().remove(&uid);
        }
    }

    fn dropped(&self) -> MutexGuard<'_, HashMap<String, Dropped>> {
        // The map is whole between any two calls, so a panic elsewhere did not break it.
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A status whose conditions flipped at no time.
fn without_times(mut status: KvsStoreStatus) -> KvsStoreStatus {
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

/// `namespace/name`.
pub(crate) fn full_name(store: &KvsStore) -> String {
    format!("{}/{}", store.namespace().unwrap_or_default(), store.name_any())
}

fn reference(store: &KvsStore, kind: ChildKind, name: String) -> ObjectReference {
    ObjectReference {
        api_version: Some(kind.api_version().to_owned()),
        kind: Some(kind.as_str().to_owned()),
        name: Some(name),
        namespace: store.namespace(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn a_time_that_is_kept_in_whole_seconds_is_no_sign_of_an_older_definition() {
        let (service, _server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "shop");
        let metrics = Arc::new(Metrics::new().unwrap());
        let writer = StatusWriter::new(client, None, Arc::new(Freshness::default()), metrics);
        let store: KvsStore = serde_yaml::from_str(
            "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsStore\nmetadata: {name: orders, uid: u}\nspec: {}",
        )
        .unwrap();
        let at = |time: &str| {
            let condition =
                format!("{{type: Ready, status: 'True', reason: A, message: m, lastTransitionTime: '{time}'}}");
            KvsStoreStatus { conditions: vec![serde_yaml::from_str(&condition).unwrap()], ..KvsStoreStatus::default() }
        };
        writer.compare(&store, &at("2026-01-01T00:00:00.5Z"), Some(at("2026-01-01T00:00:00Z")));
        assert!(!writer.is_definition_old());
        writer.compare(&store, &at("2026-01-01T00:00:00Z"), Some(KvsStoreStatus::default()));
        assert!(writer.is_definition_old());
    }

    #[tokio::test]
    async fn a_status_that_an_older_definition_cuts_is_written_once_and_told() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let written = tokio::spawn(async move {
            let mut written = 0;
            while let Some((request, reply)) = server.next_request().await {
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut store: Value = serde_json::from_slice(&body).unwrap();
                store["spec"] = json!({});
                store["status"].as_object_mut().unwrap().remove("version");
                reply.send_response(Response::new(Body::from(serde_json::to_vec(&store).unwrap())));
                written += 1;
            }
            written
        });
        let metrics = Arc::new(Metrics::new().unwrap());
        let writer = StatusWriter::new(Client::new(service, "shop"), None, Arc::new(Freshness::default()), metrics);
        let yaml = "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsStore\nmetadata: {name: orders, namespace: shop, uid: u}\nspec: {}";
        let mut store: KvsStore = serde_yaml::from_str(yaml).unwrap();
        let status = KvsStoreStatus { version: Some("2".into()), replicas: Some(1), ..KvsStoreStatus::default() };
        let assessment = || Assessment { status: status.clone(), notices: Vec::new() };
        writer.write(&store, assessment()).await.unwrap();
        assert!(writer.is_definition_old());
        store.status = Some(KvsStoreStatus { version: None, ..status.clone() });
        for _ in 0..3 {
            writer.write(&store, assessment()).await.unwrap();
        }
        // What differs otherwise is written.
        store.status = Some(KvsStoreStatus { replicas: Some(0), ..status.clone() });
        writer.write(&store, assessment()).await.unwrap();
        drop(writer);
        assert_eq!(written.await.unwrap(), 2);
    }
}
