//! `Store`: a KvsStore as its user sees it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DynamicObject;
use kube::{Api, ResourceExt as _};
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT};
use serde_json::Value;

use crate::admin;
use crate::failure::Failure;
use crate::forward::{self, KvsClient};
use crate::namespace::Namespace;
use crate::process::Program;
use crate::waiting::{NotYet, until};

/// The longest wait for a store to become Ready: an image that is there, a volume to be made and a server to start, on
/// a machine that may do all of it for several stores at once.
pub const READY_LIMIT: Duration = Duration::from_secs(120);

/// A store that may or may not exist.
#[derive(Clone)]
pub struct Store {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}

impl Store {
    pub(crate) fn new(namespace: Namespace, name: &str) -> Self {
        Self { namespace, name: name.to_owned() }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace.name, self.name)
    }

    /// The name of its pod.
    #[must_use]
    pub fn pod_name(&self) -> String {
        format!("{}-0", self.name)
    }

    /// The name of its volume claim.
    #[must_use]
    pub fn claim_name(&self) -> String {
        format!("data-{}-0", self.name)
    }

    /// Creates or changes it by `kubectl apply`. `spec` is YAML in one line, such as `{engine: sled}`; a small volume
    /// is added where it says nothing of storage.
    ///
    /// # Errors
    /// What kubectl said.
    pub async fn apply(&self, spec: &str) -> Result<(), Failure> {
        self.namespace.apply(self.manifest(spec)?).await
    }

    /// Its manifest with that spec, see [`apply`](Self::apply).
    ///
    /// # Errors
    /// When the spec is no YAML.
    pub fn manifest(&self, spec: &str) -> Result<String, Failure> {
        let mut spec: Value = serde_yaml::from_str(spec)
            .map_err(|error| Failure::Unexpected(format!("the spec {spec} is no YAML: {error}")))?;
        if spec.get("storage").is_none() {
            spec["storage"] = serde_json::json!({"size": "64Mi"});
        }
        let manifest = serde_json::json!({
            "apiVersion": "kvs.aryavarth.io/v1alpha1",
            "kind": "KvsStore",
            "metadata": {"name": self.name},
            "spec": spec,
        });
        // JSON is YAML.
        Ok(manifest.to_string())
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it does not exist or the API server does not answer.
    pub async fn read(&self) -> Result<DynamicObject, Failure> {
        let stores = self.namespace.cluster.stores(&self.namespace.name);
        stores.get(&self.name).await.map_err(Failure::kubernetes(format!("reading KvsStore {}", self.full_name())))
    }

    /// Waits until it is Ready as its present spec asks.
    ///
    /// # Errors
    /// When it does not become Ready in time, with what its conditions say instead.
    pub async fn ready(&self) -> Result<DynamicObject, Failure> {
        until(format!("KvsStore {} is Ready", self.full_name()), READY_LIMIT, async || {
            let store = self.read().await?;
            let ready = condition(&store, "Ready");
            let is_current = ready["observedGeneration"].as_i64() == store.metadata.generation;
            if ready["status"] == "True" && is_current {
                return Ok(store);
            }
            Err(NotYet(format!("generation {:?}, Ready: {ready}", store.metadata.generation)))
        })
        .await
    }

    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.namespace.cluster.client.clone(), &self.namespace.name)
    }

    /// Its pod.
    ///
    /// # Errors
    /// When it does not exist or the API server does not answer.
    pub async fn pod(&self) -> Result<Pod, Failure> {
        let name = self.pod_name();
        self.pods().get(&name).await.map_err(Failure::kubernetes(format!("reading pod {name}")))
    }

    /// Waits until its pod is another one than that of the given uid, and Ready.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn other_pod(&self, uid: &str) -> Result<Pod, Failure> {
        until(format!("pod {} is replaced and Ready", self.pod_name()), READY_LIMIT, async || {
            let pod = self.pod().await?;
            match (pod.uid(), is_ready(&pod)) {
                (Some(now), true) if now != uid => Ok(pod),
                (now, ready) => Err(NotYet(format!("uid {now:?} (it was {uid}), ready: {ready}"))),
            }
        })
        .await
    }

    /// Its volume claim.
    ///
    /// # Errors
    /// When it does not exist or the API server does not answer.
    pub async fn claim(&self) -> Result<PersistentVolumeClaim, Failure> {
        let name = self.claim_name();
        let claims =
            Api::<PersistentVolumeClaim>::namespaced(self.namespace.cluster.client.clone(), &self.namespace.name);
        claims.get(&name).await.map_err(Failure::kubernetes(format!("reading volume claim {name}")))
    }

    /// A command of kvs-client, which reaches the pod by itself.
    #[must_use]
    pub fn client<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        let cluster = &self.namespace.cluster;
        cluster
            .kvs_client()
            .args(["--store", &self.full_name()])
            .args([std::path::Path::new("--kubeconfig"), &cluster.settings.kubeconfig])
            .args(arguments)
    }

    /// Sets a key through kvs-client.
    ///
    /// # Errors
    /// What kvs-client said.
    pub async fn set(&self, key: &str, value: &str) -> Result<(), Failure> {
        let output = self.client(["set", key, value]).succeed().await?;
        if output.is_empty() { Ok(()) } else { Err(Failure::Unexpected(format!("a set printed {output}"))) }
    }

    /// What kvs-client prints for a key.
    ///
    /// # Errors
    /// What kvs-client said.
    pub async fn get(&self, key: &str) -> Result<String, Failure> {
        let output = self.client(["get", key]).succeed().await?;
        let value = output.strip_suffix('\n').map(str::to_owned);
        value.ok_or_else(|| Failure::Unexpected(format!("a get printed {output:?}, which is no line")))
    }

    /// A connection into its pod that speaks the protocol.
    ///
    /// # Errors
    /// When there is no way into the pod.
    pub async fn connect(&self) -> Result<KvsClient, Failure> {
        let stream = forward::open(&self.pods(), &self.pod_name(), CLIENT_PORT).await?;
        Ok(kvs_protocol::Client::new(stream))
    }

    /// What its admin port answers to a path.
    ///
    /// # Errors
    /// When there is no way into the pod, or the answer is no success.
    pub async fn admin(&self, path: &str) -> Result<String, Failure> {
        let stream = forward::open(&self.pods(), &self.pod_name(), ADMIN_PORT).await?;
        admin::get(stream, path).await
    }

    /// What its server says of itself.
    ///
    /// # Errors
    /// When the admin port does not answer with JSON.
    pub async fn server_status(&self) -> Result<Value, Failure> {
        let text = self.admin("/status").await?;
        serde_json::from_str(&text).map_err(|error| Failure::Unexpected(format!("/status is no JSON: {error}: {text}")))
    }
}

/// A condition of a store; null while it has none of that type.
#[must_use]
pub fn condition(store: &DynamicObject, condition: &str) -> Value {
    let conditions = store.data.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.and_then(|all| all.iter().find(|candidate| candidate["type"] == condition));
    found.cloned().unwrap_or_default()
}

/// Whether a pod is Ready and stays.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
