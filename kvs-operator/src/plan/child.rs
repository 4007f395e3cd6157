//! One child as it is to be, with the hash that says so.

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::ResourceExt;
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
            Self::StatefulSet => "StatefulSet",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
        }
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
            Self::StatefulSet(_) => ChildKind::StatefulSet,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::ServiceAccount(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// The hash that its annotation holds.
    #[must_use]
    pub fn hash(&self) -> String {
        let annotations = match self {
            Self::ServiceAccount(object) => object.annotations(),
            Self::ConfigMap(object) => object.annotations(),
            Self::Service(object) => object.annotations(),
            Self::StatefulSet(object) => object.annotations(),
        };
        annotations.get(names::APPLIED_HASH).cloned().unwrap_or_default()
    }

    /// The object as JSON, with `apiVersion` and `kind`: the body of a server-side apply.
    #[must_use]
    pub fn body(&self) -> Value {
        match self {
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
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
