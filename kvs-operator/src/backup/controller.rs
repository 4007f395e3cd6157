//! Wakes the reconciles of backups and of their schedules, and leads through them.
//!
//! What must hold: as for stores: bounded concurrency, one reconcile of an object at a time, nothing decided before every
//! cache is filled and this process leads, and a failure waits its own exponential time.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{self, Either};
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::observe::Observer;
use super::plan::{Step, ended, plan};
use super::report::Reporter;
use super::schedule;
use super::status::assess;
use crate::backoff::{Backoff, jittered};
use crate::error::{Error, in_time};
use crate::metrics::Metrics;
use crate::names;
use crate::observe::Freshness;
use crate::resource::{KvsBackup, KvsBackupSchedule};
use crate::validate::Settings;
use crate::watches::Watches;

/// Changes that arrive within this time are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// An object that nothing happened to is looked at this often, in case a watch missed something.
const RESYNC: Duration = Duration::from_secs(600);
/// How often to look whether what stands in a backup's way has gone: no watch tells of a claim or of a Secret.
const WAITING_RETRY: Duration = Duration::from_secs(10);
/// How often to look at a Job whose pod may not be able to start.
const RUNNING_RETRY: Duration = Duration::from_secs(15);
/// How soon to look again when a cache is behind our own write: its watch brings it within milliseconds.
const BEHIND_RETRY: Duration = Duration::from_millis(100);

/// What every reconcile uses.
pub(crate) struct Parts {
    /// Makes the writes.
    pub(crate) client: Client,
    /// What the operator adds to every store.
    pub(crate) settings: Settings,
    /// Reconciles at a time.
    pub(crate) concurrency: u16,
    /// The operator's pod, as the sender of events.
    pub(crate) pod_name: Option<String>,
    /// What was written and may not be in a cache yet.
    pub(crate) freshness: Arc<Freshness>,
    /// Objects that wait after a failure.
    pub(crate) backoff: Arc<Backoff>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Whether this process leads, and the caches of stores are filled.
    pub(crate) may_begin: watch::Receiver<bool>,
}

struct Context {
    client: Client,
    observer: Observer,
    reporter: Reporter,
    freshness: Arc<Freshness>,
    backoff: Arc<Backoff>,
    metrics: Arc<Metrics>,
    /// Every backup, for schedules.
    backups: Store<KvsBackup>,
    /// Whether every cache is filled.
    is_filled: watch::Receiver<bool>,
    /// Whether this process leads.
    may_begin: watch::Receiver<bool>,
}

/// Reconciles until `shutdown` ends, then lets the reconciles under way finish.
pub(crate) async fn run(
    parts: Parts,
    watches: &Watches,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let Parts { client, settings, concurrency, pod_name, freshness, backoff, metrics, may_begin } = parts;
    let (backups, backup_stream) = watches.objects::<KvsBackup>();
    // The same again: a schedule is woken by its backups, and a stream wakes one controller.
    let (scheduled, scheduled_stream) = watches.objects::<KvsBackup>();
    let (schedules, schedule_stream) = watches.objects::<KvsBackupSchedule>();
    let (jobs, job_stream) = watches.children::<Job>();
    let (filling, is_filled) = watch::channel(false);
    let context = Arc::new(Context {
        observer: Observer::new(client.clone(), jobs, Arc::clone(&freshness), settings),
        reporter: Reporter::new(client.clone(), pod_name, Arc::clone(&freshness), Arc::clone(&metrics)),
        client,
        freshness,
        backoff,
        metrics,
        backups: scheduled.clone(),
        is_filled,
        may_begin,
    });
    let filled = {
        let (context, backups, schedules) = (Arc::clone(&context), backups.clone(), schedules.clone());
        async move {
            let are_filled = backups.wait_until_ready().await.is_ok()
                && scheduled.wait_until_ready().await.is_ok()
                && schedules.wait_until_ready().await.is_ok()
                && context.observer.wait_until_filled().await;
            if are_filled {
                filling.send_replace(true);
            }
        }
    };
    let config = || Config::default().debounce(DEBOUNCE).concurrency(concurrency.max(1));
    let of_backups = Controller::for_stream(backup_stream, backups)
        .with_config(config())
        .watches_stream(job_stream, |job| backup_of(&job))
        .graceful_shutdown_on(shutdown.clone())
        .run(reconcile_backup, retry::<KvsBackup>, Arc::clone(&context));
    let of_schedules = Controller::for_stream(schedule_stream, schedules)
        .with_config(config())
        .watches_stream(scheduled_stream, |backup| schedule_of(&backup))
        .graceful_shutdown_on(shutdown)
        .run(reconcile_schedule, retry::<KvsBackupSchedule>, context);
    let work = future::join(report(of_backups), report(of_schedules));
    // The caches fill while the controllers poll their watches.
    futures::pin_mut!(filled, work);
    if let Either::Left(((), work)) = future::select(filled, work).await {
        work.await;
    }
}

/// Says what failed.
async fn report<K>(results: impl Stream<Item = Result<(ObjectRef<K>, Action), ControllerError<Error, watcher::Error>>>)
where
    K: Resource<DynamicType = ()>,
{
    results
        .for_each(|result| async {
            match result {
                Ok(_) | Err(ControllerError::ObjectNotFound(_)) => {}
                // Someone else wrote first; the next try looks again.
                Err(ControllerError::ReconcilerFailed(error, _)) if error.is_conflict() => {
                    tracing::debug!(%error, "looking again");
                }
                Err(ControllerError::ReconcilerFailed(error, object)) => {
                    tracing::warn!(%object, %error, "reconcile failed");
                }
                Err(error) => tracing::warn!(%error, "the controller's queue"),
            }
        })
        .await;
}

/// The backup that a Job belongs to, by its owner and by its label.
fn backup_of(job: &Job) -> Vec<ObjectRef<KvsBackup>> {
    let Some(namespace) = job.namespace() else { return Vec::new() };
    let owners = job.owner_references().iter().filter(|owner| owner.kind == KvsBackup::kind(&()));
    let mut names: Vec<&str> = owners.map(|owner| owner.name.as_str()).collect();
    names.extend(job.labels().get(names::BACKUP).map(String::as_str));
    names.dedup();
    names.into_iter().map(|name| ObjectRef::new(name).within(&namespace)).collect()
}

/// The schedule that made a backup.
fn schedule_of(backup: &KvsBackup) -> Option<ObjectRef<KvsBackupSchedule>> {
    let name = backup.labels().get(names::BACKUP_SCHEDULE)?;
    Some(ObjectRef::new(name).within(&backup.namespace()?))
}

/// When to try a failed object again. Stores are counted beside these, so the kind tells them apart.
fn retry<K: Resource<DynamicType = ()>>(object: Arc<K>, error: &Error, context: Arc<Context>) -> Action {
    let (place, name) = backoff_key(object.as_ref());
    Action::requeue(context.backoff.failed(&place, &name, error))
}

fn backoff_key<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    (format!("{} {}", K::kind(&()), object.namespace().unwrap_or_default()), object.name_any())
}

async fn reconcile_backup(backup: Arc<KvsBackup>, context: Arc<Context>) -> Result<Action, Error> {
    let is_ended = backup.status.as_ref().is_some_and(|status| status.is_final());
    if is_ended || backup.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    context.measured(backup.as_ref(), context.backup(&backup)).await
}

async fn reconcile_schedule(schedule: Arc<KvsBackupSchedule>, context: Arc<Context>) -> Result<Action, Error> {
    if schedule.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    context.measured(schedule.as_ref(), context.schedule(&schedule)).await
}

impl Context {
    /// Does a reconcile once every cache is filled and this process leads, and counts it.
    async fn measured<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        work: impl Future<Output = Result<Action, Error>>,
    ) -> Result<Action, Error> {
        // Before every cache is filled, "not there" would mean nothing; and who does not lead may write nothing.
        if !(*self.is_filled.borrow() && *self.may_begin.borrow()) {
            let (mut is_filled, mut may_begin) = (self.is_filled.clone(), self.may_begin.clone());
            if is_filled.wait_for(|filled| *filled).await.is_err() || may_begin.wait_for(|begin| *begin).await.is_err()
            {
                return Ok(Action::await_change());
            }
            // Hours may have passed: what is there now is looked at.
            return Ok(Action::requeue(BEHIND_RETRY));
        }
        if !self.freshness.is_current(object) {
            return Ok(Action::requeue(BEHIND_RETRY));
        }
        let started = Instant::now();
        let result = work.await;
        self.metrics.count_reconcile(started.elapsed(), result.as_ref().err());
        if result.is_ok() {
            let (place, name) = backoff_key(object);
            self.backoff.reset(&place, &name);
        }
        result
    }

    async fn backup(&self, backup: &KvsBackup) -> Result<Action, Error> {
        let mut observed = self.observer.observe(backup).await?;
        let step = plan(&observed, backup);
        let name = super::job::name(backup);
        match &step {
            Step::Start(job) => {
                let parameters = PatchParams::apply(names::OPERATOR).force().validation_strict();
                observed.job =
                    Some(Arc::new(self.write(backup, &name, &parameters, "apply", &Patch::Apply(job)).await?));
            }
            Step::Mend(fields) => {
                let parameters =
                    PatchParams { field_manager: Some(names::OPERATOR.to_owned()), ..PatchParams::default() };
                observed.job =
                    Some(Arc::new(self.write(backup, &name, &parameters, "patch", &Patch::Merge(fields)).await?));
            }
            Step::Nothing | Step::Wait(_) | Step::Refuse(_) => {}
        }
        let (status, telling) = assess(backup, &observed, &step, Timestamp::now());
        if backup.status.as_ref() != Some(&status) {
            self.reporter.status(backup, &status).await?;
            if let Some(telling) = telling {
                self.reporter.tell(backup, telling).await;
            }
        }
        let is_over = observed.job.as_ref().is_some_and(|job| ended(job).is_some());
        Ok(match step {
            _ if status.is_final() => Action::await_change(),
            Step::Wait(_) => Action::requeue(jittered(WAITING_RETRY)),
            _ if is_over => Action::requeue(jittered(RESYNC)),
            _ => Action::requeue(jittered(RUNNING_RETRY)),
        })
    }

    async fn schedule(&self, schedule: &KvsBackupSchedule) -> Result<Action, Error> {
        let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
        let backups: Vec<Arc<KvsBackup>> = self.backups.state();
        let backups: Vec<Arc<KvsBackup>> = backups
            .into_iter()
            .filter(|backup| backup.namespace().as_deref() == Some(namespace.as_str()))
            .filter(|backup| backup.labels().get(names::BACKUP_SCHEDULE) == Some(&name))
            .collect();
        let now = Timestamp::now();
        let schedule::Plan { create, delete, status, tellings, next } = schedule::plan(schedule, &backups, now);
        if let Some(new) = create {
            let parameters = PatchParams::apply(names::OPERATOR).force().validation_strict();
            self.write::<KvsBackup, _, _>(schedule, &new.name_any(), &parameters, "apply", &Patch::Apply(&new)).await?;
        }
        for (name, uid) in delete {
            self.delete(&namespace, &name, uid).await?;
        }
        if schedule.status.as_ref() != Some(&status) {
            self.reporter.status(schedule, &status).await?;
        }
        for telling in tellings {
            self.reporter.tell(schedule, telling).await;
        }
        let wait = next.map(|next| Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default());
        Ok(Action::requeue(wait.map_or_else(|| jittered(RESYNC), |wait| wait.min(jittered(RESYNC)))))
    }

    /// Makes one write of an object of this namespace.
    async fn write<K, O, P>(
        &self,
        owner: &O,
        name: &str,
        parameters: &PatchParams,
        verb: &str,
        patch: &Patch<P>,
    ) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        O: Resource,
        P: Serialize + Debug,
    {
        let (kind, namespace) = (K::kind(&()), owner.meta().namespace.clone().unwrap_or_default());
        let api = Api::<K>::namespaced(self.client.clone(), &namespace);
        let answer = in_time(format!("writing {kind} {namespace}/{name}"), api.patch(name, parameters, patch)).await;
        self.metrics.count_write(&kind, verb, answer.as_ref().map(|_| ()));
        let written = answer?;
        self.freshness.wrote(&written);
        Ok(written)
    }

    /// Deletes a backup that is no longer kept; its data is gone, or there never was any.
    async fn delete(&self, namespace: &str, name: &str, uid: String) -> Result<(), Error> {
        let api = Api::<KvsBackup>::namespaced(self.client.clone(), namespace);
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let answer = in_time(format!("deleting KvsBackup {namespace}/{name}"), api.delete(name, &parameters)).await;
        self.metrics.count_write("KvsBackup", "delete", answer.as_ref().map(|_| ()));
        match answer {
            // Gone already, or another one in its place.
            Err(error) if matches!(error.reason(), "notFound" | "conflict") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
