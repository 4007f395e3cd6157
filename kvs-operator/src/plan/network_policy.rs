//! The NetworkPolicy: who reaches which port of the members.
//!
//! What must hold: only members reach the peer port; health checks and metrics are for whoever asks, because nobody
//! here knows where Prometheus lives and the port shows no key and no value; what leaves a pod is not restricted.
//! `kubectl port-forward`, and so kvs-client --store, comes from the node itself, which no policy stops.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, PEER_PORT};

use super::service_account::metadata;
use crate::backup::job;
use crate::names;
use crate::resource::{AddressBlock, NetworkPeer, NetworkPolicyMode, ServiceType};
use crate::validate::ValidStore;

/// The policy, unless the store wants none.
pub(super) fn build(store: &ValidStore) -> Option<NetworkPolicy> {
    let own = LabelSelector { match_labels: Some(names::selector_labels(&store.name)), match_expressions: None };
    let members = NetworkPolicyPeer { pod_selector: Some(own.clone()), ..NetworkPolicyPeer::default() };
    (store.network_policy.mode == NetworkPolicyMode::Managed).then(|| NetworkPolicy {
        metadata: metadata(store, store.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(own),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                rule(CLIENT_PORT, clients(store)),
                rule(PEER_PORT, Some(vec![members])),
                rule(ADMIN_PORT, None),
            ]),
            egress: None,
        }),
    })
}

/// Who may reach the client port; `None` means anyone. A Service that is reached from outside is wanted from outside, and
/// the addresses that its traffic comes from are the cloud's.
fn clients(store: &ValidStore) -> Option<Vec<NetworkPolicyPeer>> {
    let listed = store.network_policy.clients.as_deref().unwrap_or_default();
    if !listed.is_empty() {
        // Backups are asked for by name, so who makes them need not be listed.
        return Some(listed.iter().map(peer).chain([backups(store)]).collect());
    }
    let namespace = NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() };
    (store.service.service_type == ServiceType::ClusterIp).then(|| vec![namespace])
}

/// The pods of this namespace that make backups of the store.
fn backups(store: &ValidStore) -> NetworkPolicyPeer {
    let labels = job::selector_labels(&store.name);
    let selector = LabelSelector { match_labels: Some(labels), match_expressions: None };
    NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() }
}

fn peer(listed: &NetworkPeer) -> NetworkPolicyPeer {
    let NetworkPeer { pod_selector, namespace_selector, ip_block } = listed.clone();
    NetworkPolicyPeer {
        pod_selector,
        namespace_selector,
        ip_block: ip_block.map(|AddressBlock { cidr, except }| IPBlock { cidr, except }),
    }
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    NetworkPolicyIngressRule { ports: Some(vec![port]), from }
}
