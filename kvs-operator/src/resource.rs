//! `KvsStore`: what a person asks for, and what the operator answers in its status. The resources about backups stand in
//! `resource/backup.rs` and `resource/schedule.rs`.
//!
//! What must hold: a field that no code serves is not here; every default satisfies the rules of its object; a rule's
//! message says what to do to someone who has never read the rule. The definition is generated from these types by
//! `kvs-operator crd`, so this file is the reference of the resource.

#![allow(unreachable_pub, reason = "the schema derive makes private copies of public types and lints them")]

mod auth;
mod backup;
mod bootstrap;
mod definition;
mod disruption;
mod engine_config;
mod lifecycle;
mod logging;
mod monitoring;
mod network_policy;
mod pod_template;
mod resources;
mod schedule;
mod scheduling;
mod service;
mod status;
mod storage;
mod thread_pool;
mod tls;
mod update;
mod values_schema;

use k8s_openapi::api::core::v1::LocalObjectReference;
use kube::{CustomResource, KubeSchema};
use kvs_protocol::names::EngineName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auth::{Auth, AuthMode, SecretKeyRef};
pub use backup::{BackupTarget, BackupVolume, KvsBackup, KvsBackupSpec, KvsBackupStatus, StoreRef};
pub use bootstrap::{BackupRef, Bootstrap};
pub use definition::definitions_yaml;
pub use disruption::{Disruption, DisruptionBudget};
pub use engine_config::{EngineConfig, SyncPolicy};
pub use lifecycle::{DesiredState, ReconcilePolicy};
pub use logging::{LogLevel, Logging};
pub use monitoring::{Monitoring, PodMonitorMode};
pub use network_policy::{AddressBlock, NetworkPeer, NetworkPolicyMode, NetworkPolicyOptions};
pub use pod_template::{OverlayMetadata, PodTemplateOverlay};
pub use resources::Resources;
pub use schedule::{ConcurrencyPolicy, Keep, KvsBackupSchedule, KvsBackupScheduleSpec, KvsBackupScheduleStatus};
pub use scheduling::{Scheduling, Spread};
pub use service::{ServiceOptions, ServiceType, TrafficPolicy};
pub use status::{Endpoints, KvsStoreStatus, Member, Restored, StorageStatus, TlsStatus};
pub use storage::{ClaimRetention, RetentionPolicy, Storage};
pub use thread_pool::ThreadPool;
pub use tls::{IssuerKind, IssuerRef, Tls, TlsMode};
pub use update::{Rollout, UpdateOptions, UpdateStrategy};
pub use values_schema::store_values_schema;

/// What the store is to be. Every field has a default.
#[derive(CustomResource, KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kvs.aryavarth.io",
    version = "v1alpha1",
    kind = "KvsStore",
    plural = "kvsstores",
    singular = "kvsstore",
    shortname = "kvs",
    category = "aryavarth",
    namespaced,
    cel,
    status = "KvsStoreStatus",
    derive = "PartialEq",
    doc = "A persistent key-value store served by kvs-server and managed by the Aryavarth KVS operator.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.engine",
    printcolumn(name = "Engine", type_ = "string", json_path = ".spec.engine"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.threadPool.strategy"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Storage", type_ = "string", json_path = ".status.storage.capacity", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 48").message(
        "metadata.name must be at most 48 characters, because the names of its pods and Services are made from it"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name must begin with a letter and hold only a-z, 0-9 and '-', because a Service bears it"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.engineConfig) || !has(self.engineConfig.compactionThreshold) || self.engine == 'kvs'")
        .message("engineConfig.compactionThreshold may be set only when engine is kvs; sled compacts by itself")
)]
#[x_kube(
    validation = Rule::new("!has(self.engineConfig) || !has(self.engineConfig.cacheCapacity) || self.engine == 'sled'")
        .message("engineConfig.cacheCapacity may be set only when engine is sled; kvs leaves its cache to the system")
)]
#[x_kube(
    validation = Rule::new("!has(self.bootstrap) || self.engine == 'kvs'")
        .message("bootstrap may be set only when engine is kvs; sled has no backup")
)]
#[x_kube(validation = Rule::new(
    "has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)"
).message("bootstrap can be given only at creation, because a store begins once"))]
pub struct KvsStoreSpec {
    /// Storage engine. Immutable, because the formats on disk differ.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(
        "engine is immutable, because the formats on disk differ; create a new store and import the data"
    ))]
    pub engine: EngineName,

    /// How the engine writes. Every field that is left out has the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_config: Option<EngineConfig>,

    /// How the server runs requests. A change restarts the server on the same data.
    #[serde(default)]
    pub thread_pool: ThreadPool,

    /// Members of the store. This version serves one.
    #[serde(default = "one_member")]
    #[x_kube(validation = Rule::new("self >= 1").message(
        "replicas must be 1; to stop a store and keep its data, set desiredState: Hibernated"
    ))]
    #[x_kube(validation = Rule::new("self <= 1").message(
        "replicas above 1 need replication, which this version does not have"
    ))]
    pub replicas: i32,

    /// Server image, with a tag or a digest. Unset means the image that belongs to the operator's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// When the node pulls the image. Unset means Always for the tag `latest` or none, else IfNotPresent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets in this namespace that let the node pull the image. The operator never reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "image_pull_secrets_schema")]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,

    /// The volume that keeps the data.
    #[serde(default)]
    pub storage: Storage,

    /// What a new store begins with. Unset means with nothing. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,

    /// CPU and memory of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// The Service that clients use, `<name>` on port 4000.
    #[serde(default)]
    pub service: ServiceOptions,

    /// Who may use the store. Unset means whoever reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,

    /// Whether clients speak TLS. Unset means plain TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Who reaches the pods, where the cluster's network enforces NetworkPolicies.
    #[serde(default)]
    pub network_policy: NetworkPolicyOptions,

    /// What drains of nodes may do to the store.
    #[serde(default)]
    pub disruption: Disruption,

    /// On which nodes the members run.
    #[serde(default)]
    pub scheduling: Scheduling,

    /// Laid over the pods' template, for what has no field here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplateOverlay>,

    /// When pods are replaced after a change.
    #[serde(default)]
    pub update: UpdateOptions,

    /// How Prometheus finds the store.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// What the server writes to its log.
    #[serde(default)]
    pub logging: Logging,

    /// Whether the store runs. Hibernated takes its pods away and keeps its data; Running brings them back.
    #[serde(default)]
    pub desired_state: DesiredState,

    /// Whether the operator acts. Paused: it watches and keeps the status current, and writes nothing else.
    #[serde(default)]
    pub reconcile_policy: ReconcilePolicy,
}

/// When the node pulls an image.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At each start of a container.
    Always,
    /// When the node has none of that name.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The word that a pod uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The default of `replicas`.
const fn one_member() -> i32 {
    1
}

/// A list of names, keyed by name, so that two field managers can each add one.
fn image_pull_secrets_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253}}
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"]
    })
}
