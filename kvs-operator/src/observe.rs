//! The first step of a reconcile: what is there, from the watches' caches, or from the API server where a cache may be
//! behind.
//!
//! What must hold: after a write the operator never decides on what was there before it. Watches arrive late, so each
//! write leaves the version it made in [`Freshness`], and a cached object that is older is read anew. What the cache
//! lacks is asked for too: it may be an object of someone else, without our label.

mod freshness;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

pub use freshness::Freshness;

use crate::error::{Error, in_time};
use crate::names;
use crate::resource::KvsStore;

/// Members that a store may ever have; ordinals run below it.
pub const MOST_MEMBERS: u8 = 9;

/// Everything that a plan looks at.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The account that the server runs under.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// The server's configuration.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The Service that names every member.
    pub peers_service: Option<Arc<Service>>,
    /// The Service that clients use.
    pub client_service: Option<Arc<Service>>,
    /// The members.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The members' pods that exist, by ordinal.
    pub pods: Vec<Arc<Pod>>,
    /// The members' volume claims that exist, by ordinal; a former store of the same name may have left them.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
}

/// What the watches know: objects that bear the operator's label, without their managed fields.
pub struct Caches {
    /// Accounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Configurations.
    pub config_maps: Store<ConfigMap>,
    /// Services of both sorts.
    pub services: Store<Service>,
    /// Members.
    pub stateful_sets: Store<StatefulSet>,
    /// Pods of members.
    pub pods: Store<Pod>,
    /// Volume claims of members.
    pub claims: Store<PersistentVolumeClaim>,
}

/// Observes one store after another.
pub struct Observer {
    client: Client,
    caches: Caches,
    freshness: Arc<Freshness>,
}

impl Observer {
    /// An observer that trusts a cache only as far as `freshness` lets it.
    #[must_use]
    pub fn new(client: Client, caches: Caches, freshness: Arc<Freshness>) -> Self {
        Self { client, caches, freshness }
    }

    /// Waits until every watch has delivered what is there. `false` when a watch ended, because the operator ends.
    pub async fn wait_until_filled(&self) -> bool {
        let Caches { service_accounts, config_maps, services, stateful_sets, pods, claims } = &self.caches;
        service_accounts.wait_until_ready().await.is_ok()
            && config_maps.wait_until_ready().await.is_ok()
            && services.wait_until_ready().await.is_ok()
            && stateful_sets.wait_until_ready().await.is_ok()
            && pods.wait_until_ready().await.is_ok()
            && claims.wait_until_ready().await.is_ok()
    }

    /// The store as it is now; `None` when it is gone.
    ///
    /// # Errors
    /// When the cached one is behind and the API server does not answer.
    pub async fn store(&self, cached: Arc<KvsStore>) -> Result<Option<Arc<KvsStore>>, Error> {
        if self.freshness.is_current(cached.as_ref()) {
            return Ok(Some(cached));
        }
        let namespace = cached.namespace().unwrap_or_default();
        let api = Api::<KvsStore>::namespaced(self.client.clone(), &namespace);
        let name = cached.name_any();
        let live = in_time(format!("reading KvsStore {namespace}/{name}"), api.get_opt(&name)).await?;
        Ok(live.map(Arc::new))
    }

    /// Everything that belongs to a store.
    ///
    /// # Errors
    /// When something has to be read from the API server and it does not answer.
    pub async fn observe(&self, store: &KvsStore) -> Result<Observed, Error> {
        let name = store.name_any();
        let namespace = store.namespace().unwrap_or_default();
        let Caches { service_accounts, config_maps, services, stateful_sets, pods, claims } = &self.caches;
        Ok(Observed {
            service_account: self.child(service_accounts, &namespace, &names::service_account(&name)).await?,
            config_map: self.child(config_maps, &namespace, &names::config_map(&name)).await?,
            peers_service: self.child(services, &namespace, &names::peers_service(&name)).await?,
            client_service: self.child(services, &namespace, &name).await?,
            stateful_set: self.child(stateful_sets, &namespace, &name).await?,
            pods: (0..MOST_MEMBERS)
                .filter_map(|ordinal| pods.get(&ObjectRef::new(&names::member(&name, ordinal)).within(&namespace)))
                .collect(),
            claims: self.claims(claims, &namespace, &name).await?,
        })
    }

    /// The claims that exist. The operator writes to them too, so they are read anew when the cache is behind.
    async fn claims(
        &self,
        cache: &Store<PersistentVolumeClaim>,
        namespace: &str,
        store: &str,
    ) -> Result<Vec<Arc<PersistentVolumeClaim>>, Error> {
        let mut claims = Vec::new();
        for ordinal in 0..MOST_MEMBERS {
            let name = names::claim(store, ordinal);
            let Some(cached) = cache.get(&ObjectRef::new(&name).within(namespace)) else { continue };
            if self.freshness.is_current(cached.as_ref()) {
                claims.push(cached);
            } else {
                claims.extend(self.live(namespace, &name).await?);
            }
        }
        Ok(claims)
    }

    /// A child from the cache, or from the API server when the cache has none or an old one.
    async fn child<K>(&self, cache: &Store<K>, namespace: &str, name: &str) -> Result<Option<Arc<K>>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        match cache.get(&ObjectRef::new(name).within(namespace)) {
            Some(cached) if self.freshness.is_current(cached.as_ref()) => Ok(Some(cached)),
            _ => self.live(namespace, name).await,
        }
    }

    async fn live<K>(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let live = in_time(format!("reading {} {namespace}/{name}", K::kind(&())), api.get_opt(name)).await?;
        Ok(live.map(Arc::new))
    }
}
