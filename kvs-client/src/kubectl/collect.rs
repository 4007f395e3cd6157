//! `Collected`: all that can be known about a store, read at one time.
//!
//! What must hold: everything but the store itself may be refused or missing, and the rest goes on without it; all is
//! read at once, so that it takes no longer than the slowest call; of a Secret only what is known about it is kept.

mod secrets;
mod servers;

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use tokio::time::timeout;

use super::KubectlError;
use super::cluster::{Cluster, Right, json};
use crate::error::Error;

pub(super) use secrets::{Purpose, SecretFacts, named as named_secrets};
pub(super) use servers::ServerFacts;

/// The longest wait for each part but the store itself: a doctor that keeps people waiting is asked by nobody.
const PART_LIMIT: Duration = Duration::from_secs(3);
/// The most objects of a list: a store has nine members at most, and an object forgets its events after an hour.
const MOST_OBJECTS: u32 = 500;
/// The labels of the operator's own objects, and the name of its Lease unless a chart gave it another.
pub(super) const OPERATOR_SELECTOR: &str = "app.kubernetes.io/name=kvs-operator";
const LEASE: &str = "kvs-operator";
/// The name of the definition of KvsStore.
const DEFINITION: &str = "kvsstores.kvs.aryavarth.io";

/// A part, or why it is not known.
pub(super) type Part<T> = Result<T, String>;

/// All of it, as plain JSON where nothing more is needed.
pub(super) struct Collected {
    pub(super) now: Timestamp,
    pub(super) store: Value,
    pub(super) pods: Part<Vec<Value>>,
    pub(super) claims: Part<Vec<Value>>,
    /// Events about the store, its pods and its claims.
    pub(super) events: Part<Vec<Value>>,
    pub(super) classes: Part<Vec<Value>>,
    /// The Secrets that the store names.
    pub(super) secrets: Vec<SecretFacts>,
    pub(super) definition: Part<Value>,
    /// The Deployments of operators.
    pub(super) operators: Part<Vec<Value>>,
    /// The Leases of operators.
    pub(super) leases: Part<Vec<Value>>,
    /// What servers that run say of themselves.
    pub(super) servers: Vec<Part<ServerFacts>>,
}

impl Collected {
    /// What the store alone tells; of everything else nothing is known.
    pub(super) fn of_store(store: Value, now: Timestamp) -> Self {
        let unknown = || "not looked at".to_owned();
        Self {
            now,
            store,
            pods: Err(unknown()),
            claims: Err(unknown()),
            events: Err(unknown()),
            classes: Err(unknown()),
            secrets: Vec::new(),
            definition: Err(unknown()),
            operators: Err(unknown()),
            leases: Err(unknown()),
            servers: Vec::new(),
        }
    }

    /// Reads everything.
    pub(super) async fn read(cluster: &Cluster, name: &str) -> Result<Self, Error> {
        let object = cluster.store(name).await?;
        let store = json(&object);
        let selector = crate::store::pods::selector(&object, name);
        let ours = ListParams::default().labels(&selector).limit(MOST_OBJECTS);
        let client = || cluster.client.clone();
        let namespaced = |resource| Right::namespaced("list", resource, "");
        let pods_with_servers = async {
            let found = part(list::<Pod>(cluster, Right::LIST_PODS, cluster.pods(), &ours)).await;
            let servers = join_all(found.iter().flatten().filter_map(|pod| servers::ask(cluster, pod))).await;
            (found, servers)
        };
        let claims = Api::<PersistentVolumeClaim>::namespaced(client(), &cluster.namespace);
        let classes = Right::cluster_wide("list", "storageclasses", "storage.k8s.io");
        let operator = ListParams::default().labels(OPERATOR_SELECTOR).limit(MOST_OBJECTS);
        let deployments = Right::cluster_wide("list", "deployments", "apps");
        let lease = ListParams::default().fields(&format!("metadata.name={LEASE}")).limit(MOST_OBJECTS);
        let leases = Right::cluster_wide("list", "leases", "coordination.k8s.io");
        let definitions = Api::<CustomResourceDefinition>::all(client());
        let definition = Right::cluster_wide("get", "customresourcedefinitions", "apiextensions.k8s.io");
        let all = ListParams::default().limit(MOST_OBJECTS);
        let ((pods, servers), claims, events, classes, secrets, definition, operators, leases) = tokio::join!(
            pods_with_servers,
            part(list(cluster, namespaced("persistentvolumeclaims"), claims, &ours)),
            part(events(cluster, &store, name)),
            part(list(cluster, classes, Api::<StorageClass>::all(client()), &all)),
            secrets::read(cluster, &store),
            part(async { cluster.call(definition, definitions.get(DEFINITION)).await.map(|found| json(&found)) }),
            part(list(cluster, deployments, Api::<Deployment>::all(client()), &operator)),
            part(list(cluster, leases, Api::<Lease>::all(client()), &lease)),
        );
        Ok(Self {
            now: Timestamp::now(),
            store,
            pods,
            claims,
            events,
            classes,
            secrets,
            definition,
            operators,
            leases,
            servers,
        })
    }

    /// What could not be looked at, and why.
    pub(super) fn unknown(&self) -> Vec<(&'static str, &str)> {
        fn why<T>(part: &Part<T>) -> Option<&str> {
            part.as_ref().err().map(String::as_str)
        }
        let parts = [
            ("pods", why(&self.pods)),
            ("volume claims", why(&self.claims)),
            ("events", why(&self.events)),
            ("storage classes", why(&self.classes)),
            ("the definition of KvsStore", why(&self.definition)),
            ("the operator's Deployment", why(&self.operators)),
            ("the operator's Lease", why(&self.leases)),
        ];
        let mut unknown: Vec<_> = parts.into_iter().filter_map(|(what, why)| Some((what, why?))).collect();
        unknown.extend(self.secrets.iter().filter_map(|secret| Some(("a Secret", secret.unknown.as_deref()?))));
        unknown.extend(self.servers.iter().filter_map(|server| Some(("a server's own figures", why(server)?))));
        unknown
    }
}

/// A part within its time.
async fn part<T>(work: impl Future<Output = Result<T, KubectlError>>) -> Part<T> {
    match timeout(PART_LIMIT, work).await {
        Ok(result) => result.map_err(|error| error.short()),
        Err(_elapsed) => Err(format!("no answer within {} s", PART_LIMIT.as_secs())),
    }
}

async fn list<K>(
    cluster: &Cluster,
    right: Right,
    api: Api<K>,
    parameters: &ListParams,
) -> Result<Vec<Value>, KubectlError>
where
    K: Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let found = cluster.call(right, api.list(parameters)).await?;
    Ok(found.items.iter().map(json).collect())
}

/// What happened to the store, its members' pods and its volume claims.
async fn events(cluster: &Cluster, store: &Value, name: &str) -> Result<Vec<Value>, KubectlError> {
    let members = store["status"]["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |member: &Value, field: &str| member[field].as_str().map(str::to_owned);
    let mut names = vec![name.to_owned(), format!("{name}-0"), format!("data-{name}-0")];
    names.extend(members.iter().flat_map(|member| [text(member, "name"), text(member, "volumeClaim")]).flatten());
    names.sort();
    names.dedup();
    let api = Api::<Event>::namespaced(cluster.client.clone(), &cluster.namespace);
    let lists = names.iter().map(|name| {
        let parameters = ListParams::default().fields(&format!("involvedObject.name={name}")).limit(MOST_OBJECTS);
        let api = api.clone();
        async move { list(cluster, Right::namespaced("list", "events", ""), api, &parameters).await }
    });
    let mut events = Vec::new();
    for found in join_all(lists).await {
        events.append(&mut found?);
    }
    Ok(events)
}
