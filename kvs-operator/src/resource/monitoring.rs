//! `spec.monitoring`: how Prometheus finds the store.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How Prometheus finds the store's metrics.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Auto: a PodMonitor where the cluster knows that kind. Enabled: the same, and a warning where it does not.
    /// Disabled: none.
    #[serde(default)]
    pub pod_monitor: PodMonitorMode,

    /// Labels of the PodMonitor, by which a Prometheus may choose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Whether there is a PodMonitor.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodMonitorMode {
    /// Where the cluster knows the kind.
    #[default]
    Auto,
    /// Yes, and say so where it can't be.
    Enabled,
    /// No.
    Disabled,
}
