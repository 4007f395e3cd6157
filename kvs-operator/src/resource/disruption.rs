//! `spec.disruption`: what drains of nodes may do to the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What drains of nodes may do to the store.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// Managed: drains leave a quorum of several members. Disabled: nothing holds a drain up. A single member has no
    /// budget either way, because one would hold up its node's drain for good.
    #[serde(default)]
    pub budget: DisruptionBudget,
}

/// Whether there is a PodDisruptionBudget.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DisruptionBudget {
    /// The operator keeps one for stores of several members.
    #[default]
    Managed,
    /// It keeps none.
    Disabled,
}
