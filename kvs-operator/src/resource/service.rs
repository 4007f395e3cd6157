//! `spec.service`: the Service that clients use.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service `<name>`, port 4000.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOptions {
    /// Who can reach it: ClusterIP from inside, NodePort on each node, LoadBalancer from outside.
    #[serde(rename = "type", default)]
    pub service_type: ServiceType,

    /// Annotations of the Service, such as those that a cloud's load balancer reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// How a Service is reached.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// By an address inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Also by a port on each node.
    NodePort,
    /// Also by an address that the cloud gives.
    LoadBalancer,
}

impl ServiceType {
    /// The word that a Service uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}
