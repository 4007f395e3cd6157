//! `Origin`: whether a store begins with a backup, and how far that is.
//!
//! What must hold: it is pure; a store that is to begin with a backup gets no pod that would begin without it. Once the data
//! is restored, which the status remembers, neither the KvsBackup nor its volume is needed any more. The container that
//! restored it then goes with the next change of the pods' template, or when no pod runs, so that its going restarts nobody.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec, VolumeMount};
use serde_json::json;

use crate::backup::job::{self, MOUNT, VOLUME};
use crate::names;
use crate::plan::drifted_fields;
use crate::plan::pod_template::{DATA_FOLDER, DATA_MOUNT, SERVER_BINARY, TERMINATION_LOG, container_security};
use crate::resource::{KvsBackup, KvsBackupStatus, Restored};
use crate::validate::ValidStore;

/// How a store begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// With nothing, or with what is on its volume.
    #[default]
    Nothing,
    /// With this backup, which is complete.
    Backup(Restored),
    /// It began with this backup, some time ago.
    Restored(Restored),
    /// With a backup that can't be restored yet.
    Blocked(Blocked),
}

/// Why a backup can't be restored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// One word, which programs may decide by.
    pub reason: &'static str,
    /// Which backup, what is wrong, and what to do.
    pub message: String,
    /// Whether a person must act; otherwise the backup is under way.
    pub is_fault: bool,
}

/// The reason of a backup that is under way.
pub const PENDING: &str = "WaitingForBackup";

impl Origin {
    /// Judges the backup that a store names, unless it was restored already.
    #[must_use]
    pub fn judge(name: &str, restored: Option<&Restored>, backup: Option<&KvsBackup>) -> Self {
        if let Some(restored) = restored.filter(|restored| restored.backup == name) {
            return Self::Restored(restored.clone());
        }
        let blocked = |reason, message, is_fault| Self::Blocked(Blocked { reason, message, is_fault });
        let Some(backup) = backup else {
            let message = format!(
                "KvsBackup {name}, which spec.bootstrap names, does not exist in this namespace; make it, or create the store anew with another one"
            );
            return blocked("BackupMissing", message, true);
        };
        let status = backup.status.clone().unwrap_or_default();
        let is_complete = status.says("Complete");
        match status {
            KvsBackupStatus { path: Some(path), sha256: Some(sha256), .. } if is_complete => Self::Backup(Restored {
                backup: name.to_owned(),
                sha256,
                claim_name: backup.spec.target.persistent_volume_claim.claim_name.clone(),
                path,
            }),
            status if status.says("Failed") => {
                let message = format!(
                    "KvsBackup {name}, which spec.bootstrap names, failed; create the store anew with another one"
                );
                blocked("BackupFailed", message, true)
            }
            _ => blocked(PENDING, format!("KvsBackup {name} is not complete yet; the store begins when it is"), false),
        }
    }

    /// What keeps the store from having pods.
    #[must_use]
    pub fn blocked(&self) -> Option<&Blocked> {
        match self {
            Self::Blocked(blocked) => Some(blocked),
            Self::Nothing | Self::Backup(_) | Self::Restored(_) => None,
        }
    }

    /// Puts the container that restores the backup into the pods' template, while that is needed or its going would restart
    /// a pod.
    pub fn complete(&self, store: &ValidStore, set: &mut StatefulSet, live: Option<&StatefulSet>, pods: &[Arc<Pod>]) {
        let (source, is_done) = match self {
            Self::Nothing | Self::Blocked(_) => return,
            Self::Backup(source) => (source, false),
            Self::Restored(source) => (source, true),
        };
        let Some(spec) = &mut set.spec else { return };
        let mut template = spec.template.clone();
        add(&mut template, store, source);
        if !is_done || is_in_use(source, &template, live, pods) {
            spec.template = template;
        }
    }

    /// What the status is to remember.
    #[must_use]
    pub fn restored(&self, pods: &[Arc<Pod>]) -> Option<Restored> {
        match self {
            Self::Nothing | Self::Blocked(_) => None,
            Self::Restored(restored) => Some(restored.clone()),
            Self::Backup(source) => pods.iter().any(|pod| has_restored(pod, source)).then(|| source.clone()),
        }
    }
}

/// Whether a pod runs on this very template, so that another one would replace it.
fn is_in_use(source: &Restored, template: &PodTemplateSpec, live: Option<&StatefulSet>, pods: &[Arc<Pod>]) -> bool {
    let is_running = |pod: &Arc<Pod>| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && restore_container(pod).is_some()
    };
    let wanted = json!({"template": template});
    // A StatefulSet that is being made again is not there, and its pods are.
    let is_same = live
        .and_then(|live| live.spec.as_ref())
        .is_none_or(|live| drifted_fields(&wanted, &json!({"template": live.template})).is_empty());
    // Between its first container's end and its server's start a pod does not run yet.
    is_same && pods.iter().any(|pod| is_running(pod) || has_restored(pod, source))
}

/// Whether a pod's first container has restored this backup.
fn has_restored(pod: &Pod, source: &Restored) -> bool {
    let command = restore_container(pod).and_then(|container| container.command.as_ref());
    let is_of_source = command.is_some_and(|command| command.contains(&source.sha256));
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let mut of_restore = statuses.filter(|status| status.name == names::RESTORE_CONTAINER);
    let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        state.and_then(|state| state.terminated.as_ref()).is_some_and(|end| end.exit_code == 0)
    };
    is_of_source && of_restore.any(|status| ended(status.state.as_ref()))
}

fn restore_container(pod: &Pod) -> Option<&Container> {
    let containers = pod.spec.as_ref()?.init_containers.as_ref()?;
    containers.iter().find(|container| container.name == names::RESTORE_CONTAINER)
}

/// Adds the container and the backup's volume. Before everything else, so that no other container sees half a folder.
fn add(template: &mut PodTemplateSpec, store: &ValidStore, source: &Restored) {
    let Some(spec) = &mut template.spec else { return };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let Restored { backup: _, sha256, claim_name, path } = source;
    let from = format!("{MOUNT}/{path}");
    let words = [
        SERVER_BINARY,
        "restore",
        "--from",
        &from,
        "--sha256",
        sha256,
        "--data-dir",
        DATA_FOLDER,
        "--engine",
        "kvs",
        "--store",
        &format!("{}/{}", store.namespace, store.name),
        "--termination-log",
        TERMINATION_LOG,
    ];
    let container = Container {
        name: names::RESTORE_CONTAINER.to_owned(),
        image: Some(store.image.clone()),
        image_pull_policy: Some(store.image_pull_policy.as_str().to_owned()),
        command: Some(words.map(str::to_owned).to_vec()),
        resources: Some(store.resources.clone()),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(vec![mount(names::DATA_VOLUME, DATA_MOUNT, false), mount(VOLUME, MOUNT, true)]),
        ..Container::default()
    };
    spec.init_containers.get_or_insert_default().insert(0, container);
    spec.volumes.get_or_insert_default().push(job::backup_volume(claim_name));
}
