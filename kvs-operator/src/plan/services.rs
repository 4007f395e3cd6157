//! The two Services: `<name>` for clients, `<name>-peers` for members.
//!
//! What must hold: fields that the API server fills in (addresses, families, node ports) are never set; fields that it
//! would default to a constant always are, so that a change of them by hand is seen and repaired.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, PEER_PORT};

use super::pod_template::{ADMIN_PORT_NAME, CLIENT_PORT_NAME, PEER_PORT_NAME};
use super::service_account::metadata;
use crate::names;
use crate::resource::{ServiceOptions, ServiceType};
use crate::validate::ValidStore;

/// The Service that clients use: ready members only.
pub(super) fn build_client(store: &ValidStore) -> Service {
    let mut metadata = metadata(store, store.name.clone());
    let ServiceOptions {
        service_type,
        annotations,
        port: _,
        internal_traffic_policy,
        external_traffic_policy,
        load_balancer_source_ranges,
    } = &store.service;
    metadata.annotations = annotations.clone().filter(|annotations| !annotations.is_empty());
    let outside = *service_type != ServiceType::ClusterIp;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type.as_str().to_owned()),
            selector: Some(names::selector_labels(&store.name)),
            ports: Some(vec![port(CLIENT_PORT_NAME, store.service_port)]),
            session_affinity: Some("None".to_owned()),
            internal_traffic_policy: Some(internal_traffic_policy.unwrap_or_default().as_str().to_owned()),
            external_traffic_policy: outside.then(|| external_traffic_policy.unwrap_or_default().as_str().to_owned()),
            load_balancer_source_ranges: load_balancer_source_ranges.clone().filter(|ranges| !ranges.is_empty()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The headless Service of the members. It names them before they are ready, because a member must find its peers to
/// become ready; and it gives each pod a name that outlives it.
pub(super) fn build_peers(store: &ValidStore) -> Service {
    Service {
        metadata: metadata(store, names::peers_service(&store.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector_labels(&store.name)),
            ports: Some(vec![
                port(CLIENT_PORT_NAME, CLIENT_PORT),
                port(PEER_PORT_NAME, PEER_PORT),
                port(ADMIN_PORT_NAME, ADMIN_PORT),
            ]),
            session_affinity: Some("None".to_owned()),
            internal_traffic_policy: Some("Cluster".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A port that leads to the container port of the same name.
fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
