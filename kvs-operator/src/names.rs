//! What the children of a store are called, and the labels and annotations by which they are found.
//!
//! What must hold: selector labels never change, because a StatefulSet's selector can't; every child bears
//! [`MANAGED_BY`], because the operator watches nothing else.

use std::collections::BTreeMap;

/// The operator's name as field manager, event reporter and value of `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "kvs-operator";
/// Says who made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Says which store an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The annotation that keeps a hash of what the operator last applied to a child.
pub const APPLIED_HASH: &str = "kvs.aryavarth.io/applied-hash";
/// The annotation of a pod that keeps a hash of the configuration which the server reads at its start.
pub const CONFIG_HASH: &str = "kvs.aryavarth.io/config-hash";
/// The label of a Job and its pods that says which KvsBackup they belong to.
pub const BACKUP: &str = "kvs.aryavarth.io/backup";
/// The label by which Kubernetes tells whose Job a pod is, with the Job's uid.
pub const BACKUP_JOB_UID: &str = "batch.kubernetes.io/controller-uid";
/// The label of a KvsBackup that says which KvsBackupSchedule made it.
pub const BACKUP_SCHEDULE: &str = "kvs.aryavarth.io/backup-schedule";
/// The annotation of a KvsBackup that says for which time of its schedule it was made.
pub const SCHEDULED_AT: &str = "kvs.aryavarth.io/scheduled-at";
/// The volume, and the prefix of its claims.
pub const DATA_VOLUME: &str = "data";
/// The server's container.
pub const SERVER_CONTAINER: &str = "kvs-server";

/// The container that restores a backup before the server starts.
pub const RESTORE_CONTAINER: &str = "kvs-restore";

/// The selector of everything that the operator made, in any store.
pub const ALL_CHILDREN: &str = "app.kubernetes.io/managed-by=kvs-operator";

/// The Service that names every member.
#[must_use]
pub fn peers_service(store: &str) -> String {
    format!("{store}-peers")
}

/// The ConfigMap with the server's configuration.
#[must_use]
pub fn config_map(store: &str) -> String {
    format!("{store}-config")
}

/// The account that the server runs under. It can't be the store's own name: each namespace has an account `default`.
#[must_use]
pub fn service_account(store: &str) -> String {
    format!("{store}-server")
}

/// The Secret in which cert-manager keeps the certificate of a store that names an issuer.
#[must_use]
pub fn tls_secret(store: &str) -> String {
    format!("{store}-tls")
}

/// A member's pod. Ordinals count from 0.
#[must_use]
pub fn member(store: &str, ordinal: u8) -> String {
    format!("{store}-{ordinal}")
}

/// The claim of a member's volume, as a StatefulSet names it.
#[must_use]
pub fn claim(store: &str, ordinal: u8) -> String {
    format!("{DATA_VOLUME}-{store}-{ordinal}")
}

/// The labels that select the pods of a store. They can never change.
#[must_use]
pub fn selector_labels(store: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "kvs-store".to_owned()),
        (INSTANCE.to_owned(), store.to_owned()),
        ("app.kubernetes.io/component".to_owned(), "server".to_owned()),
    ])
}

/// The labels of every child. They hold no version, or an upgrade of the operator would write to every child.
#[must_use]
pub fn labels(store: &str) -> BTreeMap<String, String> {
    let mut labels = selector_labels(store);
    labels.insert("app.kubernetes.io/part-of".to_owned(), "aryavarth-kvs".to_owned());
    labels.insert(MANAGED_BY.to_owned(), OPERATOR.to_owned());
    labels
}

/// The selector of a store's pods in one line, for the scale subresource.
#[must_use]
pub fn selector(store: &str) -> String {
    let pairs: Vec<String> = selector_labels(store).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
