//! Wakes a reconcile for each store that something happened to, and leads it through its five steps.
//!
//! What must hold: at most [`Options::concurrency`] reconciles at a time, and one of a store; nothing is decided before
//! every cache is filled; SIGTERM lets the reconciles under way finish and starts no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::{Client, ResourceExt};

use crate::apply::{Applier, Outcome};
use crate::backoff::{Backoff, jittered};
use crate::error::Error;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::observe::{Caches, Freshness, Observer};
use crate::plan::{ObstacleOwner, plan};
use crate::report::{StatusWriter, full_name};
use crate::resource::KvsStore;
use crate::status::{Situation, assess};
use crate::validate::{Settings, validate};
use crate::watches::{Watches, stores_of};

/// Changes that arrive within this time are reconciled together: a StatefulSet and its pod change at once.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A store that nothing happened to is looked at this often, in case a watch missed something. It reads caches only.
const RESYNC: Duration = Duration::from_secs(600);
/// How often to look whether the children of a former store are gone. Their deletion takes a second or two.
const FORMER_STORE_RETRY: Duration = Duration::from_secs(2);
/// How often to look whether a name that is taken became free. No watch tells, because the object has no label of ours.
const NAME_TAKEN_RETRY: Duration = Duration::from_secs(30);

/// How the controller runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The one namespace to serve; `None` means all.
    pub watch_namespace: Option<String>,
    /// Reconciles at a time, at least 1: kube takes 0 for "without bound".
    pub concurrency: u16,
    /// What the operator adds to every store.
    pub settings: Settings,
    /// The operator's pod, as the sender of events.
    pub pod_name: Option<String>,
}

/// What every reconcile uses.
struct Context {
    settings: Settings,
    observer: Observer,
    applier: Applier,
    writer: StatusWriter,
    backoff: Arc<Backoff>,
    metrics: Arc<Metrics>,
}

/// Reconciles until `shutdown` ends, then lets the reconciles under way finish.
pub async fn run(
    client: Client,
    options: Options,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let Options { watch_namespace, concurrency, settings, pod_name } = options;
    let freshness = Arc::new(Freshness::default());
    let backoff = Arc::new(Backoff::new(Arc::clone(&metrics)));
    let watches = Watches::new(client.clone(), watch_namespace, Arc::clone(&metrics));

    let forget = {
        let (freshness, backoff) = (Arc::clone(&freshness), Arc::clone(&backoff));
        move |store: &KvsStore| {
            freshness.forget(store);
            backoff.reset(&store.namespace().unwrap_or_default(), &store.name_any());
        }
    };
    let (stores, store_stream) = watches.stores(forget);
    let (service_accounts, service_account_stream) = watches.children::<ServiceAccount>();
    let (config_maps, config_map_stream) = watches.children::<ConfigMap>();
    let (services, service_stream) = watches.children::<Service>();
    let (stateful_sets, stateful_set_stream) = watches.children::<StatefulSet>();
    let (pods, pod_stream) = watches.children::<Pod>();
    let (claims, claim_stream) = watches.children::<PersistentVolumeClaim>();

    let caches = Caches { service_accounts, config_maps, services, stateful_sets, pods, claims };
    let context = Arc::new(Context {
        settings,
        observer: Observer::new(client.clone(), caches, Arc::clone(&freshness)),
        applier: Applier::new(client.clone(), Arc::clone(&freshness), Arc::clone(&metrics)),
        writer: StatusWriter::new(client, pod_name, freshness, Arc::clone(&metrics)),
        backoff,
        metrics,
    });
    let filled = {
        let (context, stores) = (Arc::clone(&context), stores.clone());
        async move {
            if stores.wait_until_ready().await.is_ok() && context.observer.wait_until_filled().await {
                tracing::info!(stores = stores.len(), "every watch is up");
                health.set_ready();
            }
        }
    };
    let results = Controller::for_stream(store_stream, stores)
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(concurrency.max(1)))
        .watches_stream(service_account_stream, |object| stores_of(&object))
        .watches_stream(config_map_stream, |object| stores_of(&object))
        .watches_stream(service_stream, |object| stores_of(&object))
        .watches_stream(stateful_set_stream, |object| stores_of(&object))
        .watches_stream(pod_stream, |object| stores_of(&object))
        .watches_stream(claim_stream, |object| stores_of(&object))
        .graceful_shutdown_on(shutdown)
        .run(reconcile, retry, context)
        .for_each(|result| async {
            match result {
                // A retained claim or a dying pod of a store that is gone wakes nobody.
                Ok(_) | Err(ControllerError::ObjectNotFound(_)) => {}
                // Someone else wrote first; the next try looks again.
                Err(ControllerError::ReconcilerFailed(error, _)) if error.is_conflict() => {
                    tracing::debug!(%error, "looking again");
                }
                Err(ControllerError::ReconcilerFailed(error, store)) => {
                    tracing::warn!(store = %format!("{}/{}", store.namespace.unwrap_or_default(), store.name), %error, "reconcile failed");
                }
                Err(error) => tracing::warn!(%error, "the controller's queue"),
            }
        });
    // The caches fill while the controller polls their watches.
    futures::pin_mut!(filled, results);
    if let futures::future::Either::Left(((), results)) = futures::future::select(filled, results).await {
        results.await;
    }
}

/// When to try a failed store again.
fn retry(store: Arc<KvsStore>, error: &Error, context: Arc<Context>) -> Action {
    let wait = context.backoff.failed(&store.namespace().unwrap_or_default(), &store.name_any(), error);
    Action::requeue(wait)
}

async fn reconcile(store: Arc<KvsStore>, context: Arc<Context>) -> Result<Action, Error> {
    // Before every cache is filled, "not there" would mean nothing.
    if !context.observer.wait_until_filled().await {
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = context.reconcile(&store).await;
    context.metrics.count_reconcile(started.elapsed(), result.as_ref().err());
    if result.is_ok() {
        context.backoff.reset(&store.namespace().unwrap_or_default(), &store.name_any());
    }
    result
}

impl Context {
    /// The five steps.
    async fn reconcile(&self, store: &Arc<KvsStore>) -> Result<Action, Error> {
        let Some(store) = self.observer.store(Arc::clone(store)).await? else { return Ok(Action::await_change()) };
        if store.metadata.deletion_timestamp.is_some() {
            // Kubernetes deletes the children after their owner; there is nothing to do and nobody to tell.
            return Ok(Action::await_change());
        }
        let mut observed = self.observer.observe(&store).await?;
        let verdict = validate(&store, &self.settings);
        let mut outcome = Outcome::default();
        let mut obstacles = Vec::new();
        if let Ok(valid) = &verdict {
            let mut plan = plan(&observed, valid);
            obstacles = std::mem::take(&mut plan.obstacles);
            outcome = self.applier.apply(&valid.namespace, plan, &mut observed).await;
        }
        if outcome.failure.as_ref().is_some_and(|error| !error.is_refusal()) {
            // The API server is not well: what is known about the store has not changed.
            return outcome.failure.map_or(Ok(Action::await_change()), Err);
        }
        let assessment = assess(&Situation {
            store: &store,
            observed: &observed,
            verdict: verdict.as_ref().map_err(Vec::as_slice),
            obstacles: &obstacles,
            outcome: &outcome,
            now: Time(Timestamp::now()),
        });
        self.writer.write(&store, assessment).await?;
        if let Some(error) = outcome.failure.or(outcome.growth_failure) {
            return Err(error);
        }
        if obstacles.iter().any(|obstacle| obstacle.owner == ObstacleOwner::FormerStore) {
            return Ok(Action::requeue(FORMER_STORE_RETRY));
        }
        if !obstacles.is_empty() {
            return Ok(Action::requeue(jittered(NAME_TAKEN_RETRY)));
        }
        tracing::debug!(store = %full_name(&store), writes = outcome.deeds.len(), "reconciled");
        Ok(Action::requeue(jittered(RESYNC)))
    }
}
