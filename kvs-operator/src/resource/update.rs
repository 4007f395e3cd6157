//! `spec.update`: when pods are replaced after a change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When pods are replaced after a change of what they are made from.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UpdateOptions {
    /// LeaderLast: one after the other. OnDelete: each when a person deletes it.
    #[serde(default)]
    pub strategy: UpdateStrategy,

    /// Paused: pods stay as they are, and a pod that dies comes back as it was, until this is Active again.
    #[serde(default)]
    pub rollout: Rollout,
}

/// Who replaces pods.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// Kubernetes, one after the other.
    #[default]
    LeaderLast,
    /// A person, by deleting them.
    OnDelete,
}

/// Whether pods are replaced.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// They are.
    #[default]
    Active,
    /// Not now.
    Paused,
}
