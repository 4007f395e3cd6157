//! What is there of a backup: its Job and what its pods say; while there is no Job, what one would need.
//!
//! What must hold: after a write nothing is decided on what was there before it; of Secrets nothing is kept but what they
//! are good for; a backup that has ended is not looked at.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PersistentVolumeClaim, Pod, Secret};
use kube::api::ListParams;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use kvs_protocol::backup_record::BackupReport;
use serde_json::Value;

use super::job;
use super::plan::{Ground, Observed, Words, ended};
use crate::access::{self, Access};
use crate::error::{Error, in_time};
use crate::names;
use crate::observe::Freshness;
use crate::resource::{KvsBackup, KvsStore};
use crate::validate::{Settings, ValidStore, validate};

/// Observes one backup after another.
pub(super) struct Observer {
    client: Client,
    jobs: Store<Job>,
    freshness: Arc<Freshness>,
    settings: Settings,
}

impl Observer {
    pub(super) fn new(client: Client, jobs: Store<Job>, freshness: Arc<Freshness>, settings: Settings) -> Self {
        Self { client, jobs, freshness, settings }
    }

    /// Waits until the watch of Jobs has delivered what is there.
    pub(super) async fn wait_until_filled(&self) -> bool {
        self.jobs.wait_until_ready().await.is_ok()
    }

    /// Everything that a plan looks at.
    pub(super) async fn observe(&self, backup: &KvsBackup) -> Result<Observed, Error> {
        let namespace = backup.namespace().unwrap_or_default();
        let job = self.job(&namespace, &job::name(backup)).await?;
        let words = match &job {
            Some(job) => self.words(&namespace, job).await?,
            None => None,
        };
        let ground = if job.is_none() { Some(self.ground(&namespace, backup).await?) } else { None };
        Ok(Observed { job, words, ground })
    }

    async fn job(&self, namespace: &str, name: &str) -> Result<Option<Arc<Job>>, Error> {
        match self.jobs.get(&ObjectRef::new(name).within(namespace)) {
            Some(cached) if self.freshness.is_current(cached.as_ref()) => Ok(Some(cached)),
            _ => self.live::<Job>(namespace, name).await.map(|live| live.map(Arc::new)),
        }
    }

    /// What the pods of a Job say. They are listed by their Job, which is all that the operator has to know of them.
    async fn words(&self, namespace: &str, job: &Job) -> Result<Option<Words>, Error> {
        let status = job.status.clone().unwrap_or_default();
        let is_at_work = status.ready.unwrap_or(0) > 0 && status.failed.unwrap_or(0) == 0;
        if is_at_work && ended(job).is_none() {
            return Ok(None);
        }
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let of_job = format!("{}={}", names::BACKUP_JOB_UID, job.uid().unwrap_or_default());
        let action = format!("listing the pods of Job {namespace}/{}", job.name_any());
        let list = in_time(action, pods.list(&ListParams::default().labels(&of_job))).await?;
        Ok(words_of(&list.items))
    }

    async fn ground(&self, namespace: &str, backup: &KvsBackup) -> Result<Ground, Error> {
        let claim = &backup.spec.target.persistent_volume_claim.claim_name;
        let claim = self.live::<PersistentVolumeClaim>(namespace, claim).await?;
        let store = self.live::<KvsStore>(namespace, &backup.spec.store_ref.name).await?;
        let store = store.map(|store| {
            let verdict = validate(&store, &self.settings);
            (store, verdict)
        });
        let access = match store.as_ref().map(|(_, verdict)| verdict) {
            Some(Ok(valid)) => self.access(valid).await?,
            _ => Access::default(),
        };
        Ok(Ground { store, has_claim: claim.is_some_and(|claim| claim.metadata.deletion_timestamp.is_none()), access })
    }

    /// What the Secrets of a store are good for. Where they may not be read, the Job finds out by itself.
    async fn access(&self, store: &ValidStore) -> Result<Access, Error> {
        let mut access = Access::default();
        if let Some(token) = &store.token_secret {
            let secret = self.secret(&store.namespace, &token.name).await?;
            access.token = secret.map(|secret| access::judge_token(store, token, secret.as_ref()));
        }
        if let Some(tls) = &store.tls {
            let secret = self.secret(&store.namespace, &tls.secret).await?;
            access.certificate = secret.map(|secret| access::judge_certificate(store, tls, secret.as_ref(), true));
        }
        Ok(access)
    }

    /// A Secret by its name; `None` where the operator may not read it.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Option<Secret>>, Error> {
        match self.live::<Secret>(namespace, name).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn live<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        in_time(format!("reading {} {namespace}/{name}", K::kind(&())), api.get_opt(name)).await
    }
}

/// What pods say: a report counts before the last failure, and that before what keeps the newest from starting.
fn words_of(pods: &[Pod]) -> Option<Words> {
    let ends = pods.iter().filter_map(|pod| last_end(pod));
    let mut ends: Vec<&ContainerStateTerminated> = ends.collect();
    ends.sort_by_key(|end| end.finished_at.as_ref().map(|time| time.0));
    let said = |end: &&ContainerStateTerminated| {
        end.message.as_deref().and_then(|line| serde_json::from_str::<BackupReport>(line).ok())
    };
    if let Some(report) = ends.iter().rev().find_map(said) {
        return Some(Words::Report(report));
    }
    let failed = ends.iter().rev().find(|end| end.exit_code != 0).map(|end| Words::Failed(cause_of(end)));
    failed.or_else(|| pods.iter().find_map(why_waiting).map(Words::Waiting))
}

fn last_end(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == job::CONTAINER)?;
    status.state.as_ref()?.terminated.as_ref()
}

/// The client's own words, or how its container ended.
fn cause_of(end: &ContainerStateTerminated) -> String {
    let said = end.message.as_deref().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let said = said.and_then(|said| said["error"]["message"].as_str().map(str::to_owned));
    said.unwrap_or_else(|| {
        let reason = end.reason.as_deref().unwrap_or("Error");
        format!("the pod ended with exit code {} ({reason}) and without a word", end.exit_code)
    })
}

/// What keeps a pod from starting. Kubernetes says both of these for as long as they last.
fn why_waiting(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some(format!("no node takes pod {name}: {}", condition.message.as_deref().unwrap_or_default()));
    }
    let waiting =
        status.container_statuses.iter().flatten().find_map(|status| status.state.as_ref()?.waiting.as_ref())?;
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => Some(format!(
            "the node can't get the image of pod {name}; check spec.image of the store and the pull secrets"
        )),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(format!("the node can't start pod {name}; see kubectl describe pod {name}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(state: &str) -> Pod {
        let status = format!(
            "{{containerStatuses: [{{name: kvs-backup, image: i, imageID: '', ready: false, restartCount: 0, state: {state}}}]}}"
        );
        serde_yaml::from_str(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nstatus: {status}")).unwrap()
    }

    fn ended_at(second: u8, code: i32, message: &str) -> Pod {
        pod(&format!(
            "{{terminated: {{exitCode: {code}, finishedAt: '2026-12-01T00:00:0{second}Z', message: '{message}'}}}}"
        ))
    }

    const REPORT: &str =
        r#"{"folder": "/backups/orders/monday", "files": 3, "bytes": 99, "last_sequence": 7, "sha256": "ab"}"#;
    const ERROR: &str = r#"{"error": {"code": "connect", "message": "cannot connect", "exit": 3}}"#;

    #[test]
    fn a_report_counts_before_failures_and_of_these_the_last() {
        let failed = ended_at(1, 3, ERROR);
        assert_eq!(words_of(&[]), None);
        assert_eq!(words_of(std::slice::from_ref(&failed)), Some(Words::Failed("cannot connect".into())));
        let killed = ended_at(2, 137, "");
        let Some(Words::Failed(cause)) = words_of(&[killed, failed.clone()]) else { panic!("it failed") };
        assert!(cause.contains("exit code 137"), "{cause}");
        let Some(Words::Report(report)) = words_of(&[ended_at(3, 0, REPORT), failed]) else { panic!("it is whole") };
        assert_eq!((report.files, report.bytes, report.last_sequence), (3, 99, 7));
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_said_the_same_in_each_round() {
        let pulls = ["ErrImagePull", "ImagePullBackOff"]
            .map(|reason| words_of(&[pod(&format!("{{waiting: {{reason: {reason}}}}}"))]));
        assert_eq!(pulls[0], pulls[1]);
        assert!(matches!(&pulls[0], Some(Words::Waiting(cause)) if cause.contains("can't get the image")));
        assert_eq!(words_of(&[pod("{waiting: {reason: ContainerCreating}}")]), None);
    }
}
