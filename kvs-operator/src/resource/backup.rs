//! `KvsBackup`: one backup of a store onto a volume, and what became of it.
//!
//! What must hold: a spec never changes, because it says where a backup lies; a status that says Complete or Failed
//! never changes either.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::conditions_schema;

/// What to back up, and where to.
#[derive(CustomResource, KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "kvs.aryavarth.io",
    version = "v1alpha1",
    kind = "KvsBackup",
    plural = "kvsbackups",
    singular = "kvsbackup",
    shortname = "kvsb",
    category = "aryavarth",
    namespaced,
    cel,
    status = "KvsBackupStatus",
    derive = "PartialEq",
    doc = "One backup of a KvsStore, made by a Job onto a volume of the same namespace.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Complete")].reason"#),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.sizeBytes"),
    printcolumn(name = "Completed", type_ = "date", json_path = ".status.completedAt"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Complete")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 48").message(
        "metadata.name must be at most 48 characters, because the names of its Job and pods are made from it"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name must hold only a-z, 0-9 and '-', because the backup's folder and its Job bear it"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message(
    "a KvsBackup is one run and can't be changed; create another one"
))]
pub struct KvsBackupSpec {
    /// The store, of this namespace. Its engine must be kvs.
    pub store_ref: StoreRef,

    /// Where the backup goes.
    pub target: BackupTarget,

    /// Older backups beside this one, by the last part of their status.path: their data is removed when this one is whole,
    /// and not before. A KvsBackupSchedule says so of those that it no longer keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 57), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub replaces: Vec<String>,
}

/// A store of the same namespace.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Its name.
    #[schemars(length(min = 1, max = 48))]
    pub name: String,
}

/// Where backups go.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupTarget {
    /// A volume of this namespace.
    pub persistent_volume_claim: BackupVolume,
}

/// A folder on a volume.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupVolume {
    /// The volume claim, which must exist. The operator never makes, grows or deletes it.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,

    /// The folder in it that gets a folder for each backup; it is made where it is missing. Unset means the store's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[-._a-zA-Z0-9]+(/[-._a-zA-Z0-9]+)*$"))]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message(
        "path must name a folder inside of the volume, without '.' and '..'"
    ))]
    pub path: Option<String>,
}

impl KvsBackupSpec {
    /// The folder on the volume that gets a folder for each backup.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.target.persistent_volume_claim.path.as_deref().unwrap_or(&self.store_ref.name)
    }
}

/// What became of a backup.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KvsBackupStatus {
    /// Complete and Failed. One of them becomes True in the end, and stays so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// When its Job was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,

    /// When it was complete, or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub completed_at: Option<String>,

    /// The backup's folder on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,

    /// Bytes of its files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,

    /// Every write up to this sequence of the store's log is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,

    /// The SHA-256 of its list of checksums, and so of all of it. A restore asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl KvsBackupStatus {
    /// Whether a condition is True.
    #[must_use]
    pub fn says(&self, condition: &str) -> bool {
        self.conditions.iter().any(|candidate| candidate.type_ == condition && candidate.status == "True")
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.says("Complete") || self.says("Failed")
    }
}
