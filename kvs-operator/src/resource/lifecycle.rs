//! `spec.reconcilePolicy` and `spec.desiredState`: whether the operator acts, and whether the store runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the operator acts.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReconcilePolicy {
    /// The operator keeps everything of the store as the spec asks.
    #[default]
    Managed,
    /// The operator keeps the status current and writes nothing else; condition Paused says what it would write.
    Paused,
}

/// Whether the store runs.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesiredState {
    /// The store serves.
    #[default]
    Running,
    /// No pods; volumes, Services and configuration stay, and Running resumes on the same data.
    Hibernated,
}
