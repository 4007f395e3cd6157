//! The watches: caches of everything that bears the operator's label, and the streams that wake a store's reconcile.
//!
//! What must hold: each watch has its own back-off, so that one which fails does not slow the others; no error enters
//! the controller's queue, which would pause every stream at once; caches keep no managed fields, half of an object's size.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::names;
use crate::observe::{Freshness, Settled};
use crate::resource::{KvsStore, KvsStoreSpec};

/// Between two looks whether the cluster knows a kind of another project.
const KIND_LOOK: Duration = Duration::from_secs(15);

/// What is remembered of children, and forgotten when they are gone.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The versions that the operator's writes made.
    pub freshness: Arc<Freshness>,
    /// What needed no write.
    pub settled: Arc<Settled>,
}

/// Makes watches.
pub struct Watches {
    client: Client,
    namespace: Option<String>,
    memory: Memory,
    metrics: Arc<Metrics>,
}

impl Watches {
    /// Watches of one namespace, or of all.
    #[must_use]
    pub fn new(client: Client, namespace: Option<String>, memory: Memory, metrics: Arc<Metrics>) -> Self {
        Self { client, namespace, memory, metrics }
    }

    /// The stores. `gone` is told of each one that is deleted, `listed` when all that are there are known. A store that this version can't read, because a newer
    /// definition let a word in that it does not know, is left alone and does not stop the others.
    pub fn stores(
        &self,
        mut gone: impl FnMut(&KvsStore) + Send + 'static,
        listed: watch::Sender<bool>,
    ) -> (Store<KvsStore>, impl Stream<Item = watcher::Result<KvsStore>> + Send + 'static) {
        let (reader, writer) = reflector::store();
        let events = self.events::<DeserializeGuard<KvsStore>>(watcher::Config::default());
        let stream = events
            .try_filter_map(|event| future::ready(Ok(readable(event))))
            .inspect_ok(move |event| {
                if let watcher::Event::Delete(store) = event {
                    gone(store);
                }
            })
            .reflect(writer)
            .inspect_ok(move |event| {
                if matches!(event, watcher::Event::InitDone) {
                    listed.send_replace(true);
                }
            })
            .applied_objects();
        (reader, stream)
    }

    /// Children of one kind, those that bear the operator's label. Deleted ones are in the stream too.
    pub fn children<K>(&self) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send + 'static)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        let memory = self.memory.clone();
        let events = self.events::<K>(watcher::Config::default().labels(names::ALL_CHILDREN));
        let events = events.inspect_ok(move |event| {
            if let watcher::Event::Delete(gone) = event {
                memory.freshness.forget(gone);
                memory.settled.forget(&gone.uid().unwrap_or_default());
            }
        });
        (reader, events.reflect(writer).touched_objects())
    }

    /// The stores to look at because of a kind of another project: all of them when the cluster learns the kind, then
    /// those whose child was touched, until the cluster forgets it.
    pub fn foreign(
        &self,
        kind: ApiResource,
        kinds: Arc<Kinds>,
        stores: Store<KvsStore>,
    ) -> impl Stream<Item = ObjectRef<KvsStore>> + Send + 'static {
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let (metrics, memory) = (Arc::clone(&self.metrics), self.memory.clone());
        let name = kind.kind.clone();
        // After a watch that ended the last answer is old: the cluster has just forgotten the kind.
        let known = stream::once(future::ready(false)).chain(stream::repeat(true)).then(move |is_old| {
            let (kinds, kind) = (Arc::clone(&kinds), kind.clone());
            async move {
                if is_old {
                    sleep(KIND_LOOK).await;
                }
                while !kinds.known().await.is_ok_and(|known| known.has(&kind)) {
                    sleep(KIND_LOOK).await;
                }
            }
        });
        known.flat_map(move |()| {
            let (metrics, memory, name) = (Arc::clone(&metrics), memory.clone(), name.clone());
            let events = watcher(api.clone(), watcher::Config::default().labels(names::ALL_CHILDREN)).default_backoff();
            let is_known = |event: &watcher::Result<watcher::Event<DynamicObject>>| !matches!(event, Err(error) if code(error) == Some(404));
            let touched = events.take_while(move |event| future::ready(is_known(event))).filter_map(move |event| {
                let object = match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some(object),
                    Ok(watcher::Event::Delete(object)) => {
                        memory.settled.forget(&object.uid().unwrap_or_default());
                        Some(object)
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                    Err(error) => {
                        metrics.watch_errors.with_label_values(&[&name]).inc();
                        log(&name, &error);
                        None
                    }
                };
                future::ready(object.map(|object| stream::iter(stores_of(&object))))
            });
            let all: Vec<_> = stores.state().iter().map(|store| ObjectRef::from_obj(store.as_ref())).collect();
            stream::iter(all).chain(touched.flatten())
        })
    }

    /// Objects of a kind of ours beside stores. One that this version can't read is left alone and does not stop the others.
    /// Deleted ones are in the stream too.
    pub fn objects<K>(&self) -> (Store<K>, impl Stream<Item = watcher::Result<K>> + Send + 'static)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let (reader, writer) = reflector::store();
        let events = self.events::<DeserializeGuard<K>>(watcher::Config::default()).try_filter_map(|event| {
            let known = |object: DeserializeGuard<K>| object.0.map_err(log_unreadable).ok();
            future::ready(Ok(match event {
                Apply(object) => known(object).map(Apply),
                InitApply(object) => known(object).map(InitApply),
                Delete(object) => known(object).map(Delete),
                Init => Some(Init),
                InitDone => Some(InitDone),
            }))
        });
        (reader, events.reflect(writer).touched_objects())
    }

    fn events<K>(
        &self,
        config: watcher::Config,
    ) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Eq + Hash,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let metrics = Arc::clone(&self.metrics);
        let kind = K::kind(&());
        watcher(api, config).default_backoff().modify(|object: &mut K| object.managed_fields_mut().clear()).filter_map(
            move |event| {
                let event = match event {
                    Ok(event) => Some(Ok(event)),
                    Err(error) => {
                        metrics.watch_errors.with_label_values(&[&kind]).inc();
                        log(&kind, &error);
                        None
                    }
                };
                future::ready(event)
            },
        )
    }
}

/// An event of a store that could be read. One that was readable before and is not now leaves the cache.
fn readable(event: watcher::Event<DeserializeGuard<KvsStore>>) -> Option<watcher::Event<KvsStore>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Apply(DeserializeGuard(Ok(store))) => Some(Apply(store)),
        InitApply(DeserializeGuard(Ok(store))) => Some(InitApply(store)),
        Apply(DeserializeGuard(Err(unreadable))) => Some(Delete(without_spec(log_unreadable(unreadable)))),
        InitApply(DeserializeGuard(Err(unreadable))) => {
            log_unreadable(unreadable);
            None
        }
        Delete(DeserializeGuard(store)) => Some(Delete(store.unwrap_or_else(|gone| without_spec(gone.metadata)))),
        Init => Some(Init),
        InitDone => Some(InitDone),
    }
}

/// A stand-in for a store of which only the metadata is known. It is only looked at to find the one in the cache.
fn without_spec(metadata: ObjectMeta) -> KvsStore {
    KvsStore { metadata, spec: KvsStoreSpec::default(), status: None }
}

fn log_unreadable(InvalidObject { error, metadata }: InvalidObject) -> ObjectMeta {
    tracing::error!(
        object = %format!("{}/{}", metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default()),
        error,
        "this version can't read the object and leaves it alone; is the operator older than the definition?"
    );
    metadata
}

/// The stores that an object belongs to, by its owner reference and by its label: whichever of the two someone changed,
/// the other wakes the store that repairs it.
pub(crate) fn stores_of<K: ResourceExt>(object: &K) -> Vec<ObjectRef<KvsStore>> {
    let Some(namespace) = object.namespace() else { return Vec::new() };
    let owners = object.owner_references().iter().filter(|owner| owner.kind == KvsStore::kind(&()));
    let mut names: Vec<&str> = owners.map(|owner| owner.name.as_str()).collect();
    names.extend(object.labels().get(names::INSTANCE).map(String::as_str));
    names.dedup();
    names.into_iter().map(|name| ObjectRef::new(name).within(&namespace)).collect()
}

/// The HTTP status of the API server's answer.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Says what a person must do about a watch that does not come up.
fn log(kind: &str, error: &watcher::Error) {
    match code(error) {
        Some(404) => tracing::error!(
            kind,
            "the cluster does not know this kind; install the definitions: kubectl apply --server-side -f deploy/crds.yaml, \
             or helm with crds.enabled=true"
        ),
        Some(403) => tracing::error!(kind, %error, "the operator's account may not watch this kind; install its roles"),
        // The API server forgets old versions; the watch begins anew with a list.
        Some(410) => tracing::debug!(kind, "the watch begins anew"),
        _ => tracing::warn!(kind, %error, "the watch broke and begins anew"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(spec: &str) -> DeserializeGuard<KvsStore> {
        let yaml = format!(
            "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsStore\nmetadata: {{name: orders, namespace: shop}}\nspec: {spec}"
        );
        serde_yaml::from_str(&yaml).unwrap()
    }

    #[test]
    fn a_child_wakes_its_store_when_its_label_or_its_owner_was_changed() {
        let names = |metadata: &str| {
            let yaml = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: shop, {metadata}}}");
            let object: k8s_openapi::api::core::v1::ConfigMap = serde_yaml::from_str(&yaml).unwrap();
            stores_of(&object).into_iter().map(|store| store.name).collect::<Vec<_>>()
        };
        let owner = "ownerReferences: [{apiVersion: a, kind: KvsStore, name: orders, uid: u}]";
        let label = |value: &str| format!("labels: {{app.kubernetes.io/instance: {value}}}");
        assert_eq!(names(&format!("{owner}, {}", label("orders"))), ["orders"]);
        assert_eq!(names(&format!("{owner}, {}", label("other"))), ["orders", "other"]);
        assert_eq!(names(owner), ["orders"]);
        assert_eq!(names(&label("orders")), ["orders"]);
    }

    #[test]
    fn a_store_that_cannot_be_read_stops_no_other() {
        let known = readable(watcher::Event::Apply(guarded("{engine: sled}")));
        assert!(matches!(known, Some(watcher::Event::Apply(store)) if store.spec.engine.as_str() == "sled"));
        assert!(readable(watcher::Event::InitApply(guarded("{engine: future}"))).is_none());
        let gone = readable(watcher::Event::Apply(guarded("{engine: future}")));
        assert!(
            matches!(gone, Some(watcher::Event::Delete(store)) if store.name_any() == "orders"),
            "out of the cache"
        );
    }
}
