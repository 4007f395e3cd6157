//! `Cluster`: a namespace of a cluster, asked with a right by name and a time limit for each call.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::KubectlError;
use crate::arguments::PlaceFlags;
use crate::error::Error;
use crate::output::say;
use crate::store::{ClusterAccess, StoreError, kvs_stores, pods};

/// How often an object that is waited for is read.
const POLL: Duration = Duration::from_millis(500);
/// Who changed a field, as the API server notes it.
const FIELD_MANAGER: &str = "kubectl-kvs";

/// What a call takes, as an administrator would grant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Right {
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    /// The API group, empty for the core.
    pub(super) group: &'static str,
    /// Whether it is granted for the whole cluster.
    pub(super) is_cluster_wide: bool,
}

impl Right {
    pub(super) const GET_STORE: Self = Self::namespaced("get", "kvsstores", "kvs.aryavarth.io");
    pub(super) const PATCH_STORE: Self = Self::namespaced("patch", "kvsstores", "kvs.aryavarth.io");
    pub(super) const LIST_PODS: Self = Self::namespaced("list", "pods", "");
    pub(super) const READ_LOGS: Self = Self::namespaced("get", "pods/log", "");

    pub(super) const fn namespaced(verb: &'static str, resource: &'static str, group: &'static str) -> Self {
        Self { verb, resource, group, is_cluster_wide: false }
    }

    pub(super) const fn cluster_wide(verb: &'static str, resource: &'static str, group: &'static str) -> Self {
        Self { verb, resource, group, is_cluster_wide: true }
    }

    /// Where it must be granted.
    pub(super) fn place(self, namespace: &str) -> String {
        if self.is_cluster_wide { "in the whole cluster".into() } else { format!("in namespace {namespace}") }
    }

    /// What one of its objects is called in a sentence.
    pub(super) fn kind(self) -> &'static str {
        match self.resource {
            "kvsstores" => "KvsStore",
            "kvsbackups" => "KvsBackup",
            "secrets" => "Secret",
            "jobs" => "Job",
            "pods/log" | "pods" => "pod",
            other => other,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, group, .. } = self;
        match *group {
            "" => write!(formatter, "`{verb}` on {resource}"),
            group => write!(formatter, "`{verb}` on {resource}.{group}"),
        }
    }
}

/// A namespace and the way to it.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    timeout: Duration,
}

impl Cluster {
    /// Nothing is sent yet.
    pub(super) async fn connect(
        access: &ClusterAccess,
        place: PlaceFlags,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let client = access.client().await?;
        let namespace = place.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Self { client, namespace, timeout })
    }

    /// The same cluster's other namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Self {
        Self { client: self.client.clone(), namespace: namespace.to_owned(), timeout: self.timeout }
    }

    /// Does a call, for no longer than `--timeout`.
    pub(super) async fn call<T>(
        &self,
        right: Right,
        work: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, KubectlError> {
        match timeout(self.timeout, work).await {
            Ok(result) => result.map_err(|error| KubectlError::from_api(right, &self.namespace, error)),
            Err(_elapsed) => Err(KubectlError::Silent { right, limit: self.timeout }),
        }
    }

    /// How a command about a store begins.
    pub(super) fn command(&self, verb: &str, name: &str) -> String {
        format!("kubectl kvs {verb} {name} --namespace {}", self.namespace)
    }

    fn stores(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kvs_stores())
    }

    /// Reads a store.
    pub(super) async fn store(&self, name: &str) -> Result<DynamicObject, KubectlError> {
        self.call(Right::GET_STORE, self.stores().get(name)).await
    }

    /// Merges fields into a store.
    pub(super) async fn patch_store(&self, name: &str, fields: &Value) -> Result<DynamicObject, KubectlError> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let stores = self.stores();
        self.call(Right::PATCH_STORE, stores.patch(name, &parameters, &Patch::Merge(fields))).await
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Lists the pods of a store, by name.
    pub(super) async fn pods_of(&self, store: &DynamicObject, name: &str) -> Result<Vec<Pod>, KubectlError> {
        let selector = pods::selector(store, name);
        let api = self.pods();
        let mut found = self.call(Right::LIST_PODS, api.list(&ListParams::default().labels(&selector))).await?.items;
        found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(found)
    }

    /// Reads something again and again until `look` finds in it what is awaited. A person at a terminal is told what is
    /// seen instead, once each.
    pub(super) async fn wait_for<T>(
        &self,
        awaited: &str,
        limit: Duration,
        next: &str,
        mut look: impl AsyncFnMut() -> Result<Result<T, String>, Error>,
    ) -> Result<T, Error> {
        use std::io::IsTerminal as _;
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        loop {
            let seen = match look().await? {
                Ok(found) => return Ok(found),
                Err(seen) => seen,
            };
            if seen != said && std::io::stderr().is_terminal() {
                say(&format!("waiting: {seen}"));
            }
            said = seen;
            if Instant::now() + POLL >= deadline {
                let (awaited, next) = (awaited.to_owned(), next.to_owned());
                return Err(KubectlError::NotYet { awaited, seen: said, limit, next }.into());
            }
            sleep(POLL).await;
        }
    }
}

/// A condition of an object's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) holds: bool,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether it speaks of the present spec.
    pub(super) is_current: bool,
}

impl Condition {
    /// Finds one by its type.
    pub(super) fn find(object: &Value, name: &str) -> Option<Self> {
        let conditions = object.pointer("/status/conditions")?.as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == name)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default().trim().to_owned();
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
        let observed = found["observedGeneration"].as_i64();
        Some(Self {
            holds: found["status"] == "True",
            reason: text("reason"),
            message: text("message"),
            is_current: observed.is_none() || generation.is_none() || observed >= generation,
        })
    }

    /// Reason and message as one sentence.
    pub(super) fn words(&self) -> String {
        match (self.reason.as_str(), self.message.as_str()) {
            ("", message) => message.to_owned(),
            (reason, "") => reason.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        }
    }
}

/// An object as plain JSON.
pub(super) fn json(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("objects of an API server are JSON")
}
