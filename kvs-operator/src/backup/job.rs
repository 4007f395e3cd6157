//! The Job of a backup: one pod that receives the backup from the store and writes it onto the volume.
//!
//! What must hold: Pod Security `restricted`, a read-only root, and no token of Kubernetes; a try that fails leaves its pod,
//! whose last words say why; a try that is repeated after a success finds the backup and reports it again.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::access::{AUTHORITIES_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY};
use crate::names;
use crate::plan::pod_template::{
    AUTH_FILE, AUTH_MOUNT, AUTH_VOLUME, TERMINATION_LOG, TLS_MOUNT, TLS_VOLUME, container_security, pod_security,
    secret_volume,
};
use crate::resource::KvsBackup;
use crate::validate::ValidStore;

/// The client in the server's image.
const CLIENT_BINARY: &str = "/kvs-client";
/// The Job's container.
pub const CONTAINER: &str = "kvs-backup";
/// The volume that backups lie on.
pub const VOLUME: &str = "kvs-backups";
/// Where it is mounted.
pub const MOUNT: &str = "/backups";
/// The longest that a backup may take with all its tries, in seconds: six hours.
const ACTIVE_DEADLINE_SECONDS: i64 = 6 * 3600;
/// Tries after the first one, ten seconds apart and then twice as long each time.
const RETRIES: i32 = 4;
/// How long a Job that has ended stays for people who look at its log, in seconds: a day.
const TTL_SECONDS: i32 = 24 * 3600;
/// The longest silence of the server in the middle of a backup, in seconds.
const SILENCE_SECONDS: u32 = 60;
/// What the client is given: it holds a few megabytes of a stream at a time.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "64Mi")];
/// Memory alone: a limit of processor time would make backups slower and nothing better.
const LIMITS: [(&str, &str); 1] = [("memory", "256Mi")];

/// Characters of a uid that tell two backups of one name apart.
const UID_PART: usize = 8;

/// The name of a backup's Job.
#[must_use]
pub fn name(backup: &KvsBackup) -> String {
    format!("{}-backup", backup.name_any())
}

/// The backup's folder on its volume. It bears a part of the uid: a later backup of the same name is another one, and must
/// not find this one and report it as its own.
#[must_use]
pub fn path(backup: &KvsBackup) -> String {
    let uid = backup.uid().unwrap_or_default();
    let part = uid.get(..UID_PART).unwrap_or(&uid);
    format!("{}/{}-{part}", backup.spec.folder(), backup.name_any())
}

/// What selects the pods that make backups of a store, for the store's NetworkPolicy.
#[must_use]
pub fn selector_labels(store: &str) -> BTreeMap<String, String> {
    let mut labels = names::selector_labels(store);
    labels.insert("app.kubernetes.io/component".to_owned(), "backup".to_owned());
    labels
}

/// The Job of a backup of this store.
#[must_use]
pub fn build(backup: &KvsBackup, store: &ValidStore) -> Job {
    Job {
        metadata: ObjectMeta {
            name: Some(name(backup)),
            namespace: backup.namespace(),
            labels: Some(labels(backup)),
            owner_references: Some(vec![owner(backup)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            suspend: Some(false),
            active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
            backoff_limit: Some(RETRIES),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(backup)), ..ObjectMeta::default() }),
                spec: Some(pod(backup, store)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What of a Job can be changed while it is there, as it is to be.
#[must_use]
pub fn lasting(backup: &KvsBackup) -> Value {
    json!({
        "metadata": {"labels": labels(backup), "ownerReferences": [owner(backup)]},
        "spec": {
            "parallelism": 1,
            "suspend": false,
            "activeDeadlineSeconds": ACTIVE_DEADLINE_SECONDS,
            "backoffLimit": RETRIES,
            "ttlSecondsAfterFinished": TTL_SECONDS,
        },
    })
}

fn pod(backup: &KvsBackup, store: &ValidStore) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        // A Service called `kvs` would otherwise set KVS_PORT and the like, which the client reads as its settings.
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        containers: vec![container(backup, store)],
        image_pull_secrets: (!store.image_pull_secrets.is_empty()).then(|| store.image_pull_secrets.clone()),
        volumes: Some(volumes(backup, store)),
        node_selector: store.scheduling.node_selector.clone(),
        tolerations: store.scheduling.tolerations.clone(),
        // Never again in the same pod: each try keeps its last words.
        restart_policy: Some("Never".to_owned()),
        ..PodSpec::default()
    }
}

fn container(backup: &KvsBackup, store: &ValidStore) -> Container {
    let amounts = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(store.image.clone()),
        image_pull_policy: Some(store.image_pull_policy.as_str().to_owned()),
        command: Some(command(backup, store)),
        resources: Some(ResourceRequirements {
            requests: Some(amounts(&REQUESTS)),
            limits: Some(amounts(&LIMITS)),
            claims: None,
        }),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts(store)),
        ..Container::default()
    }
}

fn command(backup: &KvsBackup, store: &ValidStore) -> Vec<String> {
    let mut words = vec![
        CLIENT_BINARY.to_owned(),
        "backup".to_owned(),
        format!("{MOUNT}/{}", path(backup)),
        "--parents".to_owned(),
        "--reuse".to_owned(),
        format!("--termination-log={TERMINATION_LOG}"),
        format!("--addr={}:{}", store.host(), store.service_port),
        format!("--timeout={SILENCE_SECONDS}"),
        "--output=json".to_owned(),
    ];
    words.extend(store.token_secret.iter().map(|_| format!("--token-file={AUTH_MOUNT}/{AUTH_FILE}")));
    if let Some(tls) = &store.tls {
        words.push(format!("--tls-ca={TLS_MOUNT}/{AUTHORITIES_KEY}"));
        words.push(format!("--tls-server-name={}", store.host()));
        if tls.is_mutual {
            words.push(format!("--tls-cert={TLS_MOUNT}/{CERTIFICATE_KEY}"));
            words.push(format!("--tls-key={TLS_MOUNT}/{PRIVATE_KEY_KEY}"));
        }
    }
    words.extend(backup.spec.replaces.iter().map(|name| format!("--remove={name}")));
    words
}

fn mounts(store: &ValidStore) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(VOLUME, MOUNT, false)];
    mounts.extend(store.token_secret.is_some().then(|| mount(AUTH_VOLUME, AUTH_MOUNT, true)));
    mounts.extend(store.tls.is_some().then(|| mount(TLS_VOLUME, TLS_MOUNT, true)));
    mounts
}

fn volumes(backup: &KvsBackup, store: &ValidStore) -> Vec<Volume> {
    let mut volumes = vec![backup_volume(&backup.spec.target.persistent_volume_claim.claim_name)];
    volumes.extend(
        store.token_secret.as_ref().map(|token| secret_volume(AUTH_VOLUME, &token.name, &[(&token.key, AUTH_FILE)])),
    );
    volumes.extend(store.tls.as_ref().map(|tls| {
        let own = [(CERTIFICATE_KEY, CERTIFICATE_KEY), (PRIVATE_KEY_KEY, PRIVATE_KEY_KEY)];
        let own = own.into_iter().filter(|_| tls.is_mutual);
        let items: Vec<_> = std::iter::once((AUTHORITIES_KEY, AUTHORITIES_KEY)).chain(own).collect();
        secret_volume(TLS_VOLUME, &tls.secret, &items)
    }));
    volumes
}

/// The volume that backups lie on.
pub(crate) fn backup_volume(claim: &str) -> Volume {
    Volume {
        name: VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

fn labels(backup: &KvsBackup) -> BTreeMap<String, String> {
    let mut labels = names::labels(&backup.spec.store_ref.name);
    labels.extend(selector_labels(&backup.spec.store_ref.name));
    labels.insert(names::BACKUP.to_owned(), backup.name_any());
    labels
}

/// The reference by which Kubernetes deletes the Job after its backup.
fn owner(backup: &KvsBackup) -> OwnerReference {
    OwnerReference {
        api_version: KvsBackup::api_version(&()).into_owned(),
        kind: KvsBackup::kind(&()).into_owned(),
        name: backup.name_any(),
        uid: backup.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}
