//! `spec.service`: the Service that clients use.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service `<name>`.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.externalTrafficPolicy) || has(self.type) && self.type != 'ClusterIP'").message(
    "service.externalTrafficPolicy needs service.type NodePort or LoadBalancer: nothing comes from outside to a ClusterIP"
))]
#[x_kube(validation = Rule::new("!has(self.loadBalancerSourceRanges) || has(self.type) && self.type == 'LoadBalancer'").message(
    "service.loadBalancerSourceRanges needs service.type LoadBalancer"
))]
pub struct ServiceOptions {
    /// Who can reach it: ClusterIP from inside, NodePort on each node, LoadBalancer from outside.
    #[serde(rename = "type", default)]
    pub service_type: ServiceType,

    /// Annotations of the Service, such as those that a cloud's load balancer reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: Option<BTreeMap<String, String>>,

    /// The Service's port. Unset means 4000; the pods listen on 4000 in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,

    /// Where traffic from inside goes: Cluster, to any member; Local, to one on the same node. Unset means Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<TrafficPolicy>,

    /// Where traffic from outside goes: Cluster, to any member; Local, to one on the node that it reached, which then
    /// sees the client's address. Unset means Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,

    /// Addresses that a load balancer lets in, such as 192.168.0.0/16. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
}

/// Where a Service's traffic goes.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// To any member.
    #[default]
    Cluster,
    /// To a member on the same node, or nowhere.
    Local,
}

impl TrafficPolicy {
    /// The word that a Service uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
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
