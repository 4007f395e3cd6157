//! The pod of a member: one container, one volume, no rights.
//!
//! What must hold: Pod Security `restricted`; a read-only root; every field that the API server would default is set;
//! the template changes only when the pod must restart, because any change of it restarts the pod.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, KeyToPath, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecretVolumeSource, SecurityContext, TopologySpreadConstraint,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, PEER_PORT};

use crate::access::{AUTHORITIES_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY};
use crate::names;
use crate::resource::Spread;
use crate::validate::{ServerTls, ValidStore};

/// The server in its image.
pub const SERVER_BINARY: &str = "/kvs-server";
/// Where the configuration is mounted.
pub const CONFIG_MOUNT: &str = "/etc/kvs";
/// The configuration's file name.
pub const CONFIG_FILE: &str = "config.yaml";
/// The volume of the configuration.
pub const CONFIG_VOLUME: &str = "config";
/// Where the token's file is mounted, where clients send one.
pub const AUTH_MOUNT: &str = "/etc/kvs-auth";
/// The token's file name.
pub const AUTH_FILE: &str = "tokens";
/// The volume of the token.
pub const AUTH_VOLUME: &str = "auth";
/// Where certificate and key are mounted, where clients speak TLS.
pub const TLS_MOUNT: &str = "/etc/kvs-tls";
/// The volume of certificate and key.
pub const TLS_VOLUME: &str = "tls";
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
/// The mode of files from a Secret, 0440: for the pod's group, which is the server's, and nobody else.
const SECRET_FILE_MODE: i32 = 0o440;

pub(super) fn build(store: &ValidStore, config_hash: &str) -> PodTemplateSpec {
    let hash = (names::CONFIG_HASH.to_owned(), config_hash.to_owned());
    let scheduling = &store.scheduling;
    let template = PodTemplateSpec {
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
            volumes: Some(volumes(store)),
            node_selector: scheduling.node_selector.clone(),
            tolerations: scheduling.tolerations.clone(),
            affinity: scheduling.affinity.clone(),
            priority_class_name: scheduling.priority_class_name.clone(),
            topology_spread_constraints: spread(store),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
            restart_policy: Some("Always".to_owned()),
            dns_policy: Some("ClusterFirst".to_owned()),
            scheduler_name: Some("default-scheduler".to_owned()),
            ..PodSpec::default()
        }),
    };
    store.overlay.lay_over(template)
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
        volume_mounts: Some(volume_mounts(store)),
        ..Container::default()
    }
}

fn volume_mounts(store: &ValidStore) -> Vec<VolumeMount> {
    let read_only = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let data = VolumeMount {
        name: names::DATA_VOLUME.to_owned(),
        mount_path: DATA_MOUNT.to_owned(),
        ..VolumeMount::default()
    };
    let mut mounts = vec![read_only(CONFIG_VOLUME, CONFIG_MOUNT), data];
    mounts.extend(store.token_secret.is_some().then(|| read_only(AUTH_VOLUME, AUTH_MOUNT)));
    mounts.extend(store.tls.is_some().then(|| read_only(TLS_VOLUME, TLS_MOUNT)));
    mounts
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

pub(crate) fn pod_security() -> PodSecurityContext {
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

pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// Whole folders, never single files: Kubernetes swaps a changed Secret only where a folder of it is mounted.
fn volumes(store: &ValidStore) -> Vec<Volume> {
    let mut volumes = vec![config_volume(store)];
    volumes.extend(
        store.token_secret.as_ref().map(|token| secret_volume(AUTH_VOLUME, &token.name, &[(&token.key, AUTH_FILE)])),
    );
    volumes.extend(store.tls.as_ref().map(|ServerTls { secret, is_mutual, issuer: _ }| {
        let own = [(CERTIFICATE_KEY, CERTIFICATE_KEY), (PRIVATE_KEY_KEY, PRIVATE_KEY_KEY)];
        let authorities = is_mutual.then_some((AUTHORITIES_KEY, AUTHORITIES_KEY));
        let items: Vec<_> = own.into_iter().chain(authorities).collect();
        secret_volume(TLS_VOLUME, secret, &items)
    }));
    volumes
}

/// Some keys of a Secret as files.
pub(crate) fn secret_volume(name: &str, secret: &str, items: &[(&str, &str)]) -> Volume {
    let item = |(key, path): &(&str, &str)| KeyToPath { key: (*key).to_owned(), path: (*path).to_owned(), mode: None };
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            items: Some(items.iter().map(item).collect()),
            default_mode: Some(SECRET_FILE_MODE),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn config_volume(store: &ValidStore) -> Volume {
    Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::config_map(&store.name),
            default_mode: Some(CONFIG_FILE_MODE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Members keep apart, so that one node's death costs one member. One member has nothing to keep apart from. A
/// constraint that a person gave for the same topology and the same rigour takes the place of ours, because a pod can't
/// have both.
fn spread(store: &ValidStore) -> Option<Vec<TopologySpreadConstraint>> {
    let scheduling = &store.scheduling;
    let when_unsatisfiable = match scheduling.spread {
        Spread::Preferred => Some("ScheduleAnyway"),
        Spread::Required => Some("DoNotSchedule"),
        Spread::Disabled => None,
    };
    let ours = when_unsatisfiable.filter(|_| store.members > 1).map(|when_unsatisfiable| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: scheduling.topology_key.clone(),
        when_unsatisfiable: when_unsatisfiable.to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector_labels(&store.name)),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    });
    let given = scheduling.topology_spread_constraints.clone().unwrap_or_default();
    let replaces = |ours: &TopologySpreadConstraint| {
        given.iter().any(|given| {
            (&given.topology_key, &given.when_unsatisfiable) == (&ours.topology_key, &ours.when_unsatisfiable)
        })
    };
    let all: Vec<_> = ours.filter(|ours| !replaces(ours)).into_iter().chain(given.iter().cloned()).collect();
    (!all.is_empty()).then_some(all)
}
