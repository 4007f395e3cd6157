//! `spec.podTemplate`: what a person lays over the pods that the operator makes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scheduling::any_object_schema;

/// Laid over the pods' template: maps are merged, lists that Kubernetes keys (containers, volumes, ports, env) by their
/// keys, other lists are replaced. What the operator owns (its labels and annotations, the server's command, image,
/// ports and KVS_ variables, the volumes data, config, auth and tls) can't be overlaid.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplateOverlay {
    /// Labels and annotations of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<OverlayMetadata>,

    /// Parts of a pod's spec. They are checked by the operator, which refuses a field that no pod has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub spec: Option<Value>,
}

/// Labels and annotations of the pods.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OverlayMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: Option<BTreeMap<String, String>>,

    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: Option<BTreeMap<String, String>>,
}
