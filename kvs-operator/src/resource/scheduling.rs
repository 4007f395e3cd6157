//! `spec.scheduling`: on which nodes the members run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::network_policy::selector_schema;

/// On which nodes the members run. A change restarts the server on the same data.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Whether several members keep apart: Preferred, Required (a member waits for a place of its own) or Disabled. A
    /// single member has nothing to keep apart from.
    #[serde(default)]
    pub spread: Spread,

    /// The label of nodes whose values several members spread over.
    #[serde(default = "hostname")]
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,

    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints that the pods put up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tolerations_schema")]
    pub tolerations: Option<Vec<Toleration>>,

    /// The pods' affinity, as a pod has it. It is checked by the operator, which refuses a field that no pod has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub affinity: Option<Value>,

    /// Further constraints on how the pods spread. One of the same topologyKey and whenUnsatisfiable replaces that of
    /// `spread`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "constraints_schema")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,

    /// The pods' priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            spread: Spread::default(),
            topology_key: hostname(),
            node_selector: None,
            tolerations: None,
            affinity: None,
            topology_spread_constraints: None,
            priority_class_name: None,
        }
    }
}

/// Whether several members keep apart.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Where there is room.
    #[default]
    Preferred,
    /// Always.
    Required,
    /// No.
    Disabled,
}

/// The default of `topologyKey`.
fn hostname() -> String {
    "kubernetes.io/hostname".to_owned()
}

/// An object of any shape: a schema of it would be larger than all the rest of the definition.
pub(super) fn any_object_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Tolerations in the words of a pod.
fn tolerations_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "properties": {
                "key": {"type": "string", "maxLength": 317},
                "operator": {"type": "string", "enum": ["Exists", "Equal", "Lt", "Gt"]},
                "value": {"type": "string", "maxLength": 63},
                "effect": {"type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                "tolerationSeconds": {"type": "integer", "format": "int64"}
            }
        }
    })
}

/// Spread constraints in the words of a pod.
fn constraints_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let selector = selector_schema(generator);
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["maxSkew", "topologyKey", "whenUnsatisfiable"],
            "properties": {
                "maxSkew": {"type": "integer", "format": "int32", "minimum": 1},
                "topologyKey": {"type": "string", "minLength": 1, "maxLength": 317},
                "whenUnsatisfiable": {"type": "string", "enum": ["DoNotSchedule", "ScheduleAnyway"]},
                "labelSelector": selector,
                "matchLabelKeys": {"type": "array", "maxItems": 16, "items": {"type": "string", "maxLength": 317}},
                "minDomains": {"type": "integer", "format": "int32", "minimum": 1},
                "nodeAffinityPolicy": {"type": "string", "enum": ["Honor", "Ignore"]},
                "nodeTaintsPolicy": {"type": "string", "enum": ["Honor", "Ignore"]}
            }
        }
    })
}
