//! The pod of a member: one container, one volume, no rights.
//!
//! What must hold: Pod Security `restricted`; a read-only root; every field that the API server would default is set;
//! the template changes only when the pod must restart, because any change of it restarts the pod.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, SeccompProfile, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, PEER_PORT};

use crate::names;
use crate::validate::ValidStore;

/// The server in its image.
pub const SERVER_BINARY: &str = "/kvs-server";
/// Where the configuration is mounted.
pub const CONFIG_MOUNT: &str = "/etc/kvs";
/// The configuration's file name.
pub const CONFIG_FILE: &str = "config.yaml";
/// Where the volume is mounted.
pub const DATA_MOUNT: &str = "/var/lib/kvs";
/// The data's folder in the volume. Not its top: a new ext4 file system has a folder `lost+found` there.
pub const DATA_FOLDER: &str = "/var/lib/kvs/data";
/// Where the server leaves the cause when it can't go on.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
/// The name of the port for clients.
pub const CLIENT_PORT_NAME: &str = "client";
/// The name of the port between members.
pub const PEER_PORT_NAME: &str = "peer";
/// The name of the port for health checks and metrics.
pub const ADMIN_PORT_NAME: &str = "admin";

/// The user and group of every image of ours.
const USER_ID: i64 = 65532;
/// Seconds from SIGTERM to SIGKILL: to finish requests under way, seal the log and close.
const TERMINATION_GRACE_SECONDS: i64 = 60;
/// Times that the startup probe may fail, one second apart: an hour to read a large log back.
const STARTUP_FAILURES: i32 = 3600;
/// The mode of files from a ConfigMap, 0644, which is the API server's default.
const CONFIG_FILE_MODE: i32 = 0o644;

pub(super) fn build(store: &ValidStore, config_hash: &str) -> PodTemplateSpec {
    let hash = (names::CONFIG_HASH.to_owned(), config_hash.to_owned());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&store.name)),
            annotations: Some([hash].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(names::service_account(&store.name)),
            automount_service_account_token: Some(false),
            // A Service called `kvs` would otherwise set KVS_PORT and the like, which the server reads as its settings.
            enable_service_links: Some(false),
            security_context: Some(pod_security()),
            containers: vec![container(store)],
            image_pull_secrets: (!store.image_pull_secrets.is_empty()).then(|| store.image_pull_secrets.clone()),
            volumes: Some(vec![config_volume(store)]),
            topology_spread_constraints: spread(store),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
            restart_policy: Some("Always".to_owned()),
            dns_policy: Some("ClusterFirst".to_owned()),
            scheduler_name: Some("default-scheduler".to_owned()),
            ..PodSpec::default()
        }),
    }
}

fn container(store: &ValidStore) -> Container {
    Container {
        name: names::SERVER_CONTAINER.to_owned(),
        image: Some(store.image.clone()),
        image_pull_policy: Some(store.image_pull_policy.as_str().to_owned()),
        command: Some(vec![SERVER_BINARY.to_owned(), "--config".to_owned(), format!("{CONFIG_MOUNT}/{CONFIG_FILE}")]),
        ports: Some(vec![
            port(CLIENT_PORT_NAME, CLIENT_PORT),
            port(PEER_PORT_NAME, PEER_PORT),
            port(ADMIN_PORT_NAME, ADMIN_PORT),
        ]),
        resources: Some(store.resources.clone()),
        startup_probe: Some(probe("/livez", 1, STARTUP_FAILURES)),
        // Two seconds: a store that lost its disk leaves the Service quickly, one that came back joins it quickly.
        readiness_probe: Some(probe("/readyz", 2, 2)),
        // A minute of silence, so that a slow disk is not made slower by a restart.
        liveness_probe: Some(probe("/livez", 10, 6)),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "config".to_owned(),
                mount_path: CONFIG_MOUNT.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: names::DATA_VOLUME.to_owned(),
                mount_path: DATA_MOUNT.to_owned(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// A probe of the admin port, with every default spelled out.
fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN_PORT_NAME.to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        success_threshold: Some(1),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER_ID),
        run_as_group: Some(USER_ID),
        fs_group: Some(USER_ID),
        // Walking a large volume at each start to change what is right already would take minutes.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn config_volume(store: &ValidStore) -> Volume {
    Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::config_map(&store.name),
            default_mode: Some(CONFIG_FILE_MODE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Members prefer different nodes, so that one node's death costs one member. One member has nothing to spread.
fn spread(store: &ValidStore) -> Option<Vec<TopologySpreadConstraint>> {
    (store.members > 1).then(|| {
        vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some(names::selector_labels(&store.name)),
                match_expressions: None,
            }),
            ..TopologySpreadConstraint::default()
        }]
    })
}
