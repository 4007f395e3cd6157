//! Wakes a reconcile for each store that something happened to, and leads it through its five steps.
//!
//! What must hold: at most [`Options::concurrency`] reconciles at a time, and one of a store; nothing is decided before
//! every cache is filled and this process leads, and what is decided then is of what is there then; SIGTERM lets the
//! reconciles under way finish and starts no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use crate::access::Access;
use crate::apply::{Applier, Outcome};
use crate::backoff::{Backoff, jittered};
use crate::backup;
use crate::error::Error;
use crate::health::Health;
use crate::kinds::{self, Kinds};
use crate::metrics::Metrics;
use crate::observe::{Caches, Freshness, Observer, Settled};
use crate::orphans::Orphans;
use crate::plan::{Obstacle, ObstacleOwner, plan};
use crate::report::{StatusWriter, full_name};
use crate::resource::KvsStore;
use crate::status::{Situation, assess, deeds};
use crate::validate::{Settings, validate};
use crate::watches::{Memory, Watches, stores_of};

/// Changes that arrive within this time are reconciled together: a StatefulSet and its pod change at once.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A store that nothing happened to is looked at this often, in case a watch missed something. It reads caches only.
const RESYNC: Duration = Duration::from_secs(600);
/// How often to look whether the children of a former store are gone. Their deletion takes a second or two.
const FORMER_STORE_RETRY: Duration = Duration::from_secs(2);
/// How often to look whether a StatefulSet that is to be made again is gone. Its deletion takes less than a second.
const RECREATION_RETRY: Duration = Duration::from_secs(2);
/// How often to look whether a name that is taken became free. No watch tells, because the object has no label of ours.
const NAME_TAKEN_RETRY: Duration = Duration::from_secs(30);

/// How often to look whether a Secret that is of no use was mended, or a backup is complete. No watch tells.
const SECRET_MISSING_RETRY: Duration = Duration::from_secs(10);
/// How often to look at the Secrets of a store that has some, for the date in its status.
const SECRET_RESYNC: Duration = Duration::from_secs(120);

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
    writer: Arc<StatusWriter>,
    backoff: Arc<Backoff>,
    metrics: Arc<Metrics>,
    /// The stores as they are.
    stores: Store<KvsStore>,
    /// Whether every cache is filled and this process leads.
    may_begin: watch::Receiver<bool>,
}

/// Fills its caches, reconciles from the time when `is_leading` says so until `shutdown` ends, then lets the reconciles
/// under way finish.
pub async fn run(
    client: Client,
    options: Options,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    mut is_leading: watch::Receiver<bool>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let Options { watch_namespace, concurrency, settings, pod_name } = options;
    let shutdown = shutdown.shared();
    let (freshness, settled) = (Arc::new(Freshness::default()), Arc::new(Settled::default()));
    let backoff = Arc::new(Backoff::new(Arc::clone(&metrics)));
    let memory = Memory { freshness: Arc::clone(&freshness), settled: Arc::clone(&settled) };
    let watches = Watches::new(client.clone(), watch_namespace, memory, Arc::clone(&metrics));
    let writer =
        Arc::new(StatusWriter::new(client.clone(), pod_name.clone(), Arc::clone(&freshness), Arc::clone(&metrics)));

    let forget = {
        let (freshness, backoff, writer) = (Arc::clone(&freshness), Arc::clone(&backoff), Arc::clone(&writer));
        move |store: &KvsStore| {
            freshness.forget(store);
            writer.forget(store);
            backoff.reset(&store.namespace().unwrap_or_default(), &store.name_any());
        }
    };
    // Whether every store is listed, and whether reconciles may begin. Caches wake one waiter each, so there is one: the
    // reconciles, of which there are many, wait for what it says.
    let (listed, mut is_listed) = watch::channel(false);
    let (begin, may_begin) = watch::channel(false);
    let (stores, store_stream) = watches.stores(forget, listed);
    metrics.count_stores_of(stores.clone());
    let (service_accounts, service_account_stream) = watches.children::<ServiceAccount>();
    let (config_maps, config_map_stream) = watches.children::<ConfigMap>();
    let (services, service_stream) = watches.children::<Service>();
    let (network_policies, network_policy_stream) = watches.children::<NetworkPolicy>();
    let (stateful_sets, stateful_set_stream) = watches.children::<StatefulSet>();
    let (pods, pod_stream) = watches.children::<Pod>();
    let (claims, claim_stream) = watches.children::<PersistentVolumeClaim>();

    let kinds = Arc::new(Kinds::new(client.clone()));
    let certificates = watches.foreign(kinds::certificate(), Arc::clone(&kinds), stores.clone());
    let pod_monitors = watches.foreign(kinds::pod_monitor(), Arc::clone(&kinds), stores.clone());

    let orphans = Orphans::new(client.clone(), stores.clone(), pods.clone(), Arc::clone(&metrics));
    let backups = backup::controller::run(
        backup::controller::Parts {
            client: client.clone(),
            settings: settings.clone(),
            concurrency,
            pod_name,
            freshness: Arc::clone(&freshness),
            backoff: Arc::clone(&backoff),
            metrics: Arc::clone(&metrics),
            may_begin: may_begin.clone(),
        },
        &watches,
        shutdown.clone(),
    );
    let caches = Caches { service_accounts, config_maps, services, network_policies, stateful_sets, pods, claims };
    let context = Arc::new(Context {
        settings,
        observer: Observer::new(client.clone(), caches, kinds, Arc::clone(&freshness), Arc::clone(&settled)),
        applier: Applier::new(client, freshness, settled, Arc::clone(&metrics)),
        writer,
        backoff,
        metrics,
        stores: stores.clone(),
        may_begin,
    });
    let beside = {
        let (context, stores) = (Arc::clone(&context), stores.clone());
        async move {
            if is_listed.wait_for(|listed| *listed).await.is_err() || !context.observer.wait_until_filled().await {
                return;
            }
            tracing::info!(stores = stores.len(), "every watch is up");
            health.set_ready();
            if is_leading.wait_for(|leads| *leads).await.is_ok() {
                begin.send_replace(true);
                orphans.run().await;
            }
        }
    };
    let results = Controller::for_stream(store_stream, stores)
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(concurrency.max(1)))
        .watches_stream(service_account_stream, |object| stores_of(&object))
        .watches_stream(config_map_stream, |object| stores_of(&object))
        .watches_stream(service_stream, |object| stores_of(&object))
        .watches_stream(network_policy_stream, |object| stores_of(&object))
        .watches_stream(stateful_set_stream, |object| stores_of(&object))
        .watches_stream(pod_stream, |object| stores_of(&object))
        .watches_stream(claim_stream, |object| stores_of(&object))
        .reconcile_on(certificates)
        .reconcile_on(pod_monitors)
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
    let work = futures::future::join(results, backups);
    // The caches fill while the controller polls their watches.
    futures::pin_mut!(beside, work);
    if let futures::future::Either::Left(((), work)) = futures::future::select(beside, work).await {
        work.await;
    }
}

/// When to try a failed store again.
fn retry(store: Arc<KvsStore>, error: &Error, context: Arc<Context>) -> Action {
    let wait = context.backoff.failed(&store.namespace().unwrap_or_default(), &store.name_any(), error);
    Action::requeue(wait)
}

async fn reconcile(store: Arc<KvsStore>, context: Arc<Context>) -> Result<Action, Error> {
    // Before every cache is filled, "not there" would mean nothing; and who does not lead may write nothing.
    if context.may_begin.clone().wait_for(|may_begin| *may_begin).await.is_err() {
        return Ok(Action::await_change());
    }
    // Hours may have passed.
    let Some(store) = context.stores.get(&ObjectRef::from_obj(store.as_ref())) else {
        return Ok(Action::await_change());
    };
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
        let verdict = validate(&store, &self.settings);
        let mut observed = self.observer.observe(&store, verdict.as_ref().ok()).await?;
        let mut outcome = Outcome::default();
        let mut obstacles = Vec::new();
        let mut held_back = None;
        if let Ok(valid) = &verdict {
            let mut plan = plan(&observed, valid);
            obstacles = std::mem::take(&mut plan.obstacles);
            if valid.is_paused {
                held_back = Some(plan.summary());
            } else {
                outcome = self.applier.apply(&valid.namespace, plan, &mut observed).await;
            }
        }
        if outcome.failure.as_ref().is_some_and(|error| !error.is_refusal()) {
            // The API server is not well: what is known about the store has not changed. No later look knows of what was
            // done before it fell ill.
            self.writer.tell(&store, deeds(&store, &observed, &outcome)).await;
            return outcome.failure.map_or(Ok(Action::await_change()), Err);
        }
        let assessment = assess(&Situation {
            store: &store,
            observed: &observed,
            verdict: verdict.as_ref().map_err(Vec::as_slice),
            obstacles: &obstacles,
            held_back: held_back.as_deref(),
            outcome: &outcome,
            is_definition_old: self.writer.is_definition_old(),
            now: Time(Timestamp::now()),
        });
        if let Err(error) = self.writer.write(&store, assessment).await {
            self.writer.tell(&store, deeds(&store, &observed, &outcome)).await;
            return Err(error);
        }
        if let Some(error) = outcome.failure.or(outcome.growth_failure) {
            return Err(error);
        }
        if obstacles.iter().any(|obstacle| obstacle.owner == ObstacleOwner::FormerStore) {
            return Ok(Action::requeue(FORMER_STORE_RETRY));
        }
        if observed.stateful_set.as_ref().is_some_and(|set| set.metadata.deletion_timestamp.is_some()) {
            return Ok(Action::requeue(RECREATION_RETRY));
        }
        if obstacles.iter().any(Obstacle::blocks) {
            return Ok(Action::requeue(jittered(NAME_TAKEN_RETRY)));
        }
        tracing::debug!(store = %full_name(&store), writes = outcome.deeds.len(), "reconciled");
        let Access { token, certificate } = &observed.access;
        let waits_for_backup = observed.origin.blocked().is_some();
        let is_of_no_use = waits_for_backup
            || token.as_ref().is_some_and(Result::is_err)
            || certificate.as_ref().is_some_and(Result::is_err);
        Ok(Action::requeue(jittered(match (is_of_no_use, token.is_some() || certificate.is_some()) {
            (true, _) => SECRET_MISSING_RETRY,
            (false, true) => SECRET_RESYNC,
            (false, false) => RESYNC,
        })))
    }
}
