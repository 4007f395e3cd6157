//! Pods that nobody owns any more.
//!
//! For a larger volume the StatefulSet is deleted without its pods and made again. When the store is deleted between the
//! two, or while no operator runs, Kubernetes knows of no owner of the pods and lets them run for ever.
//!
//! What must hold: a pod is deleted only when it is one of ours by label, by name and by the annotation that only our
//! template writes, when it has no controller, and when the API server itself says that neither its store nor its
//! StatefulSet is there; under its uid, so that a successor of the same name stays. Claims are never touched.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::error::{Error, in_time};
use crate::metrics::Metrics;
use crate::names;
use crate::observe::MOST_MEMBERS;
use crate::resource::KvsStore;

/// How often to look. It reads caches only, until there is such a pod.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for pods without an owner.
pub struct Orphans {
    client: Client,
    stores: Store<KvsStore>,
    pods: Store<Pod>,
    metrics: Arc<Metrics>,
}

impl Orphans {
    /// Looks into these caches.
    #[must_use]
    pub fn new(client: Client, stores: Store<KvsStore>, pods: Store<Pod>, metrics: Arc<Metrics>) -> Self {
        Self { client, stores, pods, metrics }
    }

    /// Deletes what it finds, again and again. The caches must be filled.
    pub async fn run(&self) {
        loop {
            for (pod, store) in self.candidates() {
                match self.delete(&pod, &store).await {
                    Ok(true) => {
                        tracing::info!(pod = %pod.name_any(), store, "deleted a pod whose store is gone");
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(pod = %pod.name_any(), %error, "a pod without a store"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Pods without a controller whose store is in no cache, with the store's name.
    fn candidates(&self) -> Vec<(Arc<Pod>, String)> {
        let state = self.pods.state();
        let orphans = state.into_iter().filter_map(|pod| {
            let store = orphaned_member_of(&pod)?.to_owned();
            let namespace = pod.namespace().unwrap_or_default();
            self.stores.get(&ObjectRef::new(&store).within(&namespace)).is_none().then_some((pod, store))
        });
        orphans.collect()
    }

    /// Deletes a pod if the API server knows neither its store nor its StatefulSet.
    async fn delete(&self, pod: &Pod, store: &str) -> Result<bool, Error> {
        let namespace = pod.namespace().unwrap_or_default();
        if self.exists::<KvsStore>(&namespace, store).await? || self.exists::<StatefulSet>(&namespace, store).await? {
            return Ok(false);
        }
        let name = pod.name_any();
        let only_this = Preconditions { uid: pod.uid(), resource_version: None };
        let parameters = DeleteParams::default().preconditions(only_this);
        let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        let answer = in_time(format!("deleting Pod {namespace}/{name}"), api.delete(&name, &parameters)).await;
        self.metrics.count_write("Pod", "delete", answer.as_ref().map(|_| ()));
        match answer {
            Ok(_) => Ok(true),
            // It is gone, or another one took its place.
            Err(error) if matches!(error.reason(), "notFound" | "conflict") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn exists<K>(&self, namespace: &str, name: &str) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let found = in_time(format!("reading {} {namespace}/{name}", K::kind(&())), api.get_metadata_opt(name)).await?;
        Ok(found.is_some())
    }
}

/// The store whose member a pod was, if it is one of ours that stays and that nobody controls.
fn orphaned_member_of(pod: &Pod) -> Option<&str> {
    let is_controlled = pod.owner_references().iter().any(|owner| owner.controller == Some(true));
    let is_ours = pod.labels().get(names::MANAGED_BY).is_some_and(|by| by == names::OPERATOR)
        && pod.annotations().contains_key(names::CONFIG_HASH);
    let store = pod.labels().get(names::INSTANCE)?;
    let is_member = (0..MOST_MEMBERS).any(|ordinal| pod.metadata.name == Some(names::member(store, ordinal)));
    let stays = pod.metadata.deletion_timestamp.is_none();
    (!is_controlled && is_ours && is_member && stays).then_some(store.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_member_that_nobody_controls_is_orphaned() {
        let pod = |name: &str, more: &str| -> Pod {
            let metadata = format!(
                "{{name: {name}, labels: {{app.kubernetes.io/managed-by: kvs-operator, app.kubernetes.io/instance: orders}}{more}}}"
            );
            serde_yaml::from_str(&format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}")).unwrap()
        };
        let hash = ", annotations: {kvs.aryavarth.io/config-hash: x}";
        assert_eq!(orphaned_member_of(&pod("orders-0", hash)), Some("orders"));
        assert_eq!(orphaned_member_of(&pod("orders-0", "")), None, "not of our template");
        assert_eq!(orphaned_member_of(&pod("orders-9", hash)), None, "no member's name");
        assert_eq!(orphaned_member_of(&pod("backup-0", hash)), None);
        let owned =
            "ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: orders, uid: u, controller: true}]";
        assert_eq!(orphaned_member_of(&pod("orders-0", &format!("{hash}, {owned}"))), None);
        let going = "deletionTimestamp: '2026-01-01T00:00:00Z'";
        assert_eq!(orphaned_member_of(&pod("orders-0", &format!("{hash}, {going}"))), None);
    }
}
