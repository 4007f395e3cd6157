//! `spec.networkPolicy`: who reaches the store's pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who reaches the store's pods, where the cluster's network enforces NetworkPolicies.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyOptions {
    /// Managed: the operator keeps a NetworkPolicy for the pods. Disabled: it keeps none.
    #[serde(default)]
    pub mode: NetworkPolicyMode,

    /// Who may reach the client port. Empty means any pod of this namespace; for a Service of type NodePort or
    /// LoadBalancer, anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub clients: Option<Vec<NetworkPeer>>,
}

/// Whether there is a NetworkPolicy.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkPolicyMode {
    /// The operator keeps one.
    #[default]
    Managed,
    /// It keeps none.
    Disabled,
}

/// Pods, namespaces or addresses that may reach the client port.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))").message(
    "each of networkPolicy.clients needs either ipBlock, or podSelector, namespaceSelector or both"
))]
pub struct NetworkPeer {
    /// Pods by their labels, of this namespace unless namespaceSelector says otherwise; {} means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub pod_selector: Option<LabelSelector>,

    /// Namespaces by their labels; {} means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector_schema")]
    pub namespace_selector: Option<LabelSelector>,

    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<AddressBlock>,
}

/// A range of addresses.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddressBlock {
    /// The range, such as 192.168.1.0/24.
    #[schemars(length(min = 1, max = 64))]
    pub cidr: String,

    /// Ranges in it that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub except: Option<Vec<String>>,
}

/// A selector of labels, in the words of Kubernetes.
pub(super) fn selector_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {"type": "object", "maxProperties": 32, "additionalProperties": {"type": "string"}},
            "matchExpressions": {
                "type": "array",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "minLength": 1, "maxLength": 317},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}}
                    }
                }
            }
        }
    })
}
