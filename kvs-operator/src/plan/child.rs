//! One child as it is to be, with the hash that says so.

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DynamicObject, ObjectMeta};
use serde_json::Value;

use super::hash;
use crate::names;

/// The kinds of objects that a store consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildKind {
    /// The account that the server runs under.
    ServiceAccount,
    /// The server's configuration.
    ConfigMap,
    /// How members and clients find the store.
    Service,
    /// Who reaches the members.
    NetworkPolicy,
    /// How many members a drain must leave.
    PodDisruptionBudget,
    /// cert-manager's order for the store's certificate.
    Certificate,
    /// What tells Prometheus of the members.
    PodMonitor,
    /// The members.
    StatefulSet,
    /// The volume of a member. A StatefulSet makes it; the operator only grows it.
    PersistentVolumeClaim,
}

impl ChildKind {
    /// The word that Kubernetes uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Certificate => "Certificate",
            Self::PodMonitor => "PodMonitor",
            Self::StatefulSet => "StatefulSet",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
        }
    }

    /// The group and version of the kind.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::ConfigMap | Self::Service | Self::PersistentVolumeClaim => "v1",
            Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::Certificate => "cert-manager.io/v1",
            Self::PodMonitor => "monitoring.coreos.com/v1",
            Self::StatefulSet => "apps/v1",
        }
    }

    /// Whether a store can be served without it.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::NetworkPolicy | Self::PodDisruptionBudget | Self::Certificate | Self::PodMonitor)
    }
}

impl fmt::Display for ChildKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// An object that is to be applied; its annotation [`names::APPLIED_HASH`] is a hash of all the rest of it.
#[derive(Debug, Clone)]
pub enum Child {
    /// See [`ChildKind::ServiceAccount`].
    ServiceAccount(Box<ServiceAccount>),
    /// See [`ChildKind::ConfigMap`].
    ConfigMap(Box<ConfigMap>),
    /// See [`ChildKind::Service`].
    Service(Box<Service>),
    /// See [`ChildKind::NetworkPolicy`].
    NetworkPolicy(Box<NetworkPolicy>),
    /// See [`ChildKind::PodDisruptionBudget`].
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// See [`ChildKind::Certificate`].
    Certificate(Box<DynamicObject>),
    /// See [`ChildKind::PodMonitor`].
    PodMonitor(Box<DynamicObject>),
    /// See [`ChildKind::StatefulSet`].
    StatefulSet(Box<StatefulSet>),
}

impl Child {
    pub(super) fn service_account(object: ServiceAccount) -> Self {
        Self::ServiceAccount(Box::new(hashed(object)))
    }

    pub(super) fn config_map(object: ConfigMap) -> Self {
        Self::ConfigMap(Box::new(hashed(object)))
    }

    pub(super) fn service(object: Service) -> Self {
        Self::Service(Box::new(hashed(object)))
    }

    pub(super) fn network_policy(object: NetworkPolicy) -> Self {
        Self::NetworkPolicy(Box::new(hashed(object)))
    }

    pub(super) fn disruption_budget(object: PodDisruptionBudget) -> Self {
        Self::PodDisruptionBudget(Box::new(hashed(object)))
    }

    pub(super) fn certificate(object: DynamicObject) -> Self {
        Self::Certificate(Box::new(hashed(object)))
    }

    pub(super) fn pod_monitor(object: DynamicObject) -> Self {
        Self::PodMonitor(Box::new(hashed(object)))
    }

    pub(super) fn stateful_set(object: StatefulSet) -> Self {
        Self::StatefulSet(Box::new(hashed(object)))
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ChildKind {
        match self {
            Self::ServiceAccount(_) => ChildKind::ServiceAccount,
            Self::ConfigMap(_) => ChildKind::ConfigMap,
            Self::Service(_) => ChildKind::Service,
            Self::NetworkPolicy(_) => ChildKind::NetworkPolicy,
            Self::PodDisruptionBudget(_) => ChildKind::PodDisruptionBudget,
            Self::Certificate(_) => ChildKind::Certificate,
            Self::PodMonitor(_) => ChildKind::PodMonitor,
            Self::StatefulSet(_) => ChildKind::StatefulSet,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ServiceAccount(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::PodDisruptionBudget(object) => &object.metadata,
            Self::Certificate(object) | Self::PodMonitor(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
        }
    }

    /// The hash that its annotation holds.
    #[must_use]
    pub fn hash(&self) -> String {
        let annotations = self.metadata().annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(names::APPLIED_HASH)).cloned().unwrap_or_default()
    }

    /// The object as JSON, with `apiVersion` and `kind`: the body of a server-side apply.
    #[must_use]
    pub fn body(&self) -> Value {
        match self {
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::Certificate(object) | Self::PodMonitor(object) => serde_json::to_value(object),
            Self::StatefulSet(object) => serde_json::to_value(object),
        }
        .expect("a Kubernetes object always has a JSON form")
    }
}

/// The object with the hash of its own JSON. Objects in JSON are sorted by field name, so the text is always the same.
fn hashed<K: ResourceExt + serde::Serialize>(mut object: K) -> K {
    let text =
        serde_json::to_string(&serde_json::to_value(&object).expect("a Kubernetes object always has a JSON form"))
            .expect("a JSON value always has a text");
    object.annotations_mut().insert(names::APPLIED_HASH.to_owned(), hash::of_text(&text));
    object
}
