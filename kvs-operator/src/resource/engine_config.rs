//! `spec.engineConfig`: when writes are durable and when the log is compacted.

use kube::KubeSchema;
use kvs_protocol::names::SyncMode;
use serde::{Deserialize, Serialize};

/// How the engine writes. A change restarts the server on the same data.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EngineConfig {
    /// Dead bytes in the log that start a compaction, such as 1Mi. Only for engine kvs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message(
        "engineConfig.compactionThreshold must be a positive quantity of bytes, such as 1Mi"
    ))]
    pub compaction_threshold: Option<String>,

    /// Memory in which sled keeps pages, such as 256Mi. Only for engine sled. Unset means 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new(
        "isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('1Ti')) <= 0"
    ).message("engineConfig.cacheCapacity must be a quantity of 1Mi to 1Ti, such as 256Mi"))]
    pub cache_capacity: Option<String>,

    /// When an acknowledged write is on stable storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_policy: Option<SyncPolicy>,
}

/// When an acknowledged write is on stable storage.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.mode == 'interval') == has(self.intervalMilliseconds)").message(
    "syncPolicy.intervalMilliseconds belongs to mode interval: give both or neither"
))]
pub struct SyncPolicy {
    /// `always`: before it is acknowledged. `interval`: within intervalMilliseconds after it. `os`: when the system likes.
    #[serde(default)]
    pub mode: SyncMode,

    /// Milliseconds of acknowledged writes that the loss of power may cost, 1 to 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 60_000))]
    pub interval_milliseconds: Option<i32>,
}
