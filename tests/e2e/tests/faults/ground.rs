//! `Ground`: a namespace without pods, with a volume that waits for the store's claim, and an operator before a proxy.
//!
//! What must hold: everything of it goes with its namespace, the volume included.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kvs_e2e::Failure;
use kvs_e2e::cluster::{Cluster, kvs_stores};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::operator_process::{OperatorProcess, Options};
use kvs_e2e::proxy::Proxy;
use kvs_e2e::store::Store;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The class of the volumes: made by hand, and allowed to grow.
pub(crate) const CLASS: &str = "kvs-faults";
/// The longest that an operator of a story may run.
const LIFE_LIMIT: Duration = Duration::from_secs(600);

/// The ground of one store's life.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) proxy: Proxy,
    namespace: Namespace,
    folder: TempDir,
    kubeconfig: std::path::PathBuf,
    /// Operators that ended so far.
    pub(crate) ends: Cell<u32>,
}

/// Makes the class of the volumes.
pub(crate) async fn make_class(cluster: &Cluster) -> Result<(), Failure> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner", "allowVolumeExpansion": true, "volumeBindingMode": "Immediate",
    });
    let kubectl = cluster.kubectl("default").args(["apply", "--filename", "-"]).input(class.to_string());
    kubectl.succeed().await.map(drop)
}

/// Takes the class away, and every volume of it.
pub(crate) async fn remove_class(cluster: &Cluster) -> Result<(), Failure> {
    let volumes = Api::<PersistentVolume>::all(cluster.client.clone());
    let list = volumes.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing volumes"))?;
    for volume in list
        .iter()
        .filter(|volume| volume.spec.as_ref().is_some_and(|spec| spec.storage_class_name.as_deref() == Some(CLASS)))
    {
        let deleted = volumes.delete(&volume.name_any(), &DeleteParams::default()).await;
        deleted.map_err(Failure::kubernetes("deleting a volume"))?;
    }
    let classes = Api::<StorageClass>::all(cluster.client.clone());
    let deleted = classes.delete(CLASS, &DeleteParams::default()).await;
    deleted.map(drop).map_err(Failure::kubernetes("deleting the class"))
}

impl Ground {
    /// Makes the ground in a namespace of its own, which goes with `namespace`'s run.
    pub(crate) async fn new(parent: &Namespace, name: &str) -> Result<Self, Failure> {
        let cluster = std::rc::Rc::clone(&parent.cluster);
        let namespace = Namespace::create(cluster, format!("{}-{name}", parent.cluster.run)).await?;
        namespace.kubectl(["create", "quota", "no-pods", "--hard=pods=0"]).succeed().await?;
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace.name},
            "spec": {
                "capacity": {"storage": "64Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
                // Nothing is ever mounted: no pod runs here.
                "hostPath": {"path": "/nonexistent"},
                "claimRef": {"namespace": namespace.name, "name": "data-orders-0"},
            },
        });
        namespace.apply(volume.to_string()).await?;
        let proxy = Proxy::start(&namespace.cluster.settings.kubeconfig).await?;
        let folder = tempfile::tempdir().map_err(Failure::io("making a folder"))?;
        let kubeconfig = proxy.write_kubeconfig(folder.path(), &namespace.name)?;
        Ok(Self { store: namespace.store("orders"), proxy, namespace, folder, kubeconfig, ends: Cell::new(0) })
    }

    /// Lets pods be made; a store's are taken by no node if its spec says so.
    pub(crate) async fn allow_pods(&self) -> Result<(), Failure> {
        self.namespace.kubectl(["delete", "quota", "no-pods"]).succeed().await.map(drop)
    }

    /// Starts an operator of this ground before its proxy.
    pub(crate) fn operator(&self) -> Result<OperatorProcess, Failure> {
        OperatorProcess::start(Options {
            program: &self.namespace.cluster.settings.kvs_operator,
            kubeconfig: &self.kubeconfig,
            namespace: &self.namespace.name,
            // A container that starts again in its pod: it need not wait for itself.
            identity: "operator",
        })
    }

    /// Does `work` while an operator runs, which is started again whenever it ends; `begins` is told each time.
    pub(crate) async fn with_operator<T>(
        &self,
        begins: impl Fn(),
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let log = RefCell::new(String::new());
        let result = tokio::select! {
            ended = self.supervise(begins, &log) => ended.map(|never| match never {}),
            done = work => done,
        };
        result.map_err(|failure| {
            Failure::Unexpected(format!("{failure}\n-- the last operator that ended said:\n{}", log.borrow()))
        })
    }

    /// Starts an operator, and another one whenever it ends.
    async fn supervise(&self, begins: impl Fn(), log: &RefCell<String>) -> Result<Infallible, Failure> {
        loop {
            begins();
            let mut operator = self.operator()?;
            self.proxy.kills(operator.killer());
            operator.end(LIFE_LIMIT).await?;
            log.replace(operator.log());
            self.ends.set(self.ends.get() + 1);
        }
    }

    /// Takes the ground away.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        let Self { namespace, folder, .. } = self;
        drop(folder);
        namespace.delete().await
    }

    /// Everything that the store consists of and the store itself, without what differs from run to run.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Failure> {
        let client = &self.namespace.cluster.client;
        let mut found = BTreeMap::new();
        let stores = self.namespace.cluster.stores(&self.namespace.name);
        let store = stores.get_opt("orders").await.map_err(Failure::kubernetes("reading the store"))?;
        let uid = store.as_ref().and_then(|store| store.uid()).unwrap_or_default();
        let kinds = child_kinds();
        let lists = kinds.iter().map(|kind| async move {
            let objects = Api::<DynamicObject>::namespaced_with(client.clone(), &self.namespace.name, kind);
            let labelled = ListParams::default().labels("app.kubernetes.io/instance=orders");
            let list =
                objects.list(&labelled).await.map_err(Failure::kubernetes(format!("listing {}", kind.plural)))?;
            Ok::<_, Failure>((kind, list))
        });
        for (kind, list) in futures::future::try_join_all(lists).await? {
            for object in list {
                let name = format!("{} {}", kind.kind, object.name_any());
                found.insert(name, self.plain(&kind.kind, &uid, object)?);
            }
        }
        if let Some(store) = store {
            found.insert("KvsStore orders".into(), self.plain("KvsStore", &uid, store)?);
        }
        Ok(Snapshot(found))
    }

    /// An object without what differs from run to run.
    fn plain(&self, kind: &str, store_uid: &str, object: DynamicObject) -> Result<String, Failure> {
        let unreadable = |error| Failure::Unexpected(format!("an object has no JSON form: {error}"));
        let live = serde_json::to_value(object).map_err(unreadable)?;
        let metadata = &live["metadata"];
        let mut plain = json!({
            "labels": metadata["labels"],
            // Claims bear what their controllers remember.
            "annotations": if kind == "PersistentVolumeClaim" { Value::Null } else { metadata["annotations"].clone() },
            "owners": metadata["ownerReferences"],
            "finalizers": if kind == "PersistentVolumeClaim" { Value::Null } else { metadata["finalizers"].clone() },
            "isGoing": !metadata["deletionTimestamp"].is_null(),
            "spec": live["spec"],
            "data": live["data"],
        });
        for field in ["clusterIP", "clusterIPs", "volumeName"] {
            if let Some(spec) = plain["spec"].as_object_mut() {
                spec.remove(field);
            }
        }
        if kind == "KvsStore" {
            plain["annotations"] = Value::Null;
            plain["status"] = live["status"].clone();
            for condition in plain["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["lastTransitionTime"] = Value::Null;
            }
        }
        without_hashes(&mut plain);
        let text = serde_json::to_string_pretty(&plain).map_err(unreadable)?;
        let text = text.replace(&self.namespace.name, "NAMESPACE");
        Ok(if store_uid.is_empty() { text } else { text.replace(store_uid, "STORE") })
    }
}

/// Hashes are of texts that hold the namespace's name.
fn without_hashes(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| {
            if name.ends_with("-hash") {
                *field = Value::from("HASH");
            } else {
                without_hashes(field);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(without_hashes),
        _ => {}
    }
}

/// What a namespace looks like, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(pub(crate) BTreeMap<String, String>);

impl Snapshot {
    /// What differs from another one, for people.
    pub(crate) fn difference(&self, expected: &Self) -> String {
        let mut lines = Vec::new();
        for name in self.0.keys().chain(expected.0.keys()) {
            match (self.0.get(name), expected.0.get(name)) {
                (Some(_), None) => lines.push(format!("{name} is there")),
                (None, Some(_)) => lines.push(format!("{name} is missing")),
                (Some(now), Some(then)) if now != then => {
                    let changed = now.lines().filter(|line| !then.contains(line)).take(6);
                    lines.push(format!("{name}: {}", changed.map(str::trim).collect::<Vec<_>>().join(" ")));
                }
                _ => {}
            }
        }
        lines.dedup();
        lines.join("; ")
    }
}

/// Every kind that a store may consist of, and those that its controllers make of it.
pub(crate) fn child_kinds() -> Vec<ApiResource> {
    let kind = |group: &str, kind: &str, plural: &str| ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version: if group.is_empty() { "v1".into() } else { format!("{group}/v1") },
        kind: kind.into(),
        plural: plural.into(),
    };
    vec![
        kind("", "ServiceAccount", "serviceaccounts"),
        kind("", "ConfigMap", "configmaps"),
        kind("", "Service", "services"),
        kind("", "PersistentVolumeClaim", "persistentvolumeclaims"),
        kind("", "Pod", "pods"),
        kind("apps", "StatefulSet", "statefulsets"),
        kind("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
        kind("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    ]
}

/// A change of the store that nobody's field is touched by, so that it is looked at.
pub(crate) async fn touch(store: &Store, word: &str) -> Result<(), Failure> {
    let stores = Api::<DynamicObject>::namespaced_with(
        store.namespace.cluster.client.clone(),
        &store.namespace.name,
        &kvs_stores(),
    );
    let patch = kube::api::Patch::Merge(json!({"metadata": {"annotations": {"example.com/touched": word}}}));
    let touched = stores.patch(&store.name, &kube::api::PatchParams::default(), &patch).await;
    touched.map(drop).map_err(Failure::kubernetes("touching the store"))
}

/// The version of each child of every store in a namespace, one a line.
pub(crate) async fn versions(namespace: &Namespace) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for kind in child_kinds() {
        let objects = Api::<DynamicObject>::namespaced_with(namespace.cluster.client.clone(), &namespace.name, &kind);
        let labelled = ListParams::default().labels("app.kubernetes.io/managed-by=kvs-operator");
        let list = objects.list(&labelled).await.map_err(Failure::kubernetes(format!("listing {}", kind.plural)))?;
        lines.extend(list.iter().map(|object| {
            format!("{} {} {}", kind.kind, object.name_any(), object.resource_version().unwrap_or_default())
        }));
    }
    Ok(lines)
}
