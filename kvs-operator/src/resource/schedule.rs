//! `KvsBackupSchedule`: backups of a store at times that repeat.
//!
//! What must hold: a backup that is not yet complete is never followed by another one; an old backup goes only when a
//! newer one is complete.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::{BackupTarget, StoreRef};
use super::status::conditions_schema;

/// What to back up, where to, and when.
#[derive(CustomResource, KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "kvs.aryavarth.io",
    version = "v1alpha1",
    kind = "KvsBackupSchedule",
    plural = "kvsbackupschedules",
    singular = "kvsbackupschedule",
    category = "aryavarth",
    namespaced,
    cel,
    status = "KvsBackupScheduleStatus",
    derive = "PartialEq",
    doc = "Backups of a KvsStore at times that repeat, of which the last few are kept.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Time Zone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.active"),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 35").message(
        "metadata.name must be at most 35 characters, because the names of its backups are made from it"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name must hold only a-z, 0-9 and '-', because the names of its backups are made from it"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct KvsBackupScheduleSpec {
    /// The store, of this namespace. Its engine must be kvs.
    pub store_ref: StoreRef,

    /// Where the backups go. Those that went elsewhere before a change of it are kept.
    pub target: BackupTarget,

    /// When, in the five fields of cron: minute, hour, day of the month, month, day of the week. `0 2 * * *` is each day
    /// at two.
    #[schemars(length(min = 9, max = 200))]
    pub schedule: String,

    /// The time zone of the schedule, such as Asia/Kolkata.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// If a backup is not complete when the next time comes: Forbid waits for its end, and makes up for the last time.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,

    /// Which backups are kept.
    #[serde(default)]
    pub keep: Keep,

    /// Whether no backup is to begin. Times that pass meanwhile are not made up for, but for the last one.
    #[serde(default)]
    pub suspend: bool,
}

/// What happens when the next time comes and a backup is not complete yet.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConcurrencyPolicy {
    /// One at a time.
    #[default]
    Forbid,
}

/// Which backups of a schedule are kept.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// So many of the newest that are complete. An older one goes, with its data, when a newer one is complete.
    #[serde(default = "seven")]
    #[schemars(range(min = 1, max = 1000))]
    pub last: i32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: seven() }
    }
}

/// What a schedule did.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KvsBackupScheduleStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Scheduled: whether the schedule is understood and not suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,

    /// The last time of the schedule for which a backup was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_schedule_time: Option<String>,

    /// When the newest of its backups was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_successful_time: Option<String>,

    /// The KvsBackup that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
}

/// The default of `timeZone`.
fn utc() -> String {
    "UTC".to_owned()
}

/// The default of `keep.last`: a week of nights.
const fn seven() -> i32 {
    7
}
