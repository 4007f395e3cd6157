//! The second step of a reconcile: what is there, from the watches' caches, or from the API server where a cache may be
//! behind.
//!
//! What must hold: after a write the operator never decides on what was there before it. Watches arrive late, so each
//! write leaves the version it made in [`Freshness`], and a cached object that is older is read anew. What the cache
//! lacks is asked for too: it may be an object of someone else, without our label.

mod freshness;
mod settled;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

pub use freshness::Freshness;
pub use settled::Settled;

use crate::access::{self, Access, AccessProblem};
use crate::error::{Error, in_time};
use crate::kinds::{self, Kinds, KnownKinds};
use crate::names;
use crate::plan::{Settlement, intact_text};
use crate::resource::{KvsBackup, KvsStore, NetworkPolicyMode};
use crate::restore::Origin;
use crate::validate::ValidStore;

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
    /// Who reaches the members.
    pub network_policy: Option<Arc<NetworkPolicy>>,
    /// How many members a drain must leave.
    pub disruption_budget: Option<Arc<PodDisruptionBudget>>,
    /// cert-manager's order for the certificate.
    pub certificate: Option<Arc<DynamicObject>>,
    /// What tells Prometheus of the members.
    pub pod_monitor: Option<Arc<DynamicObject>>,
    /// The members.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// The members' pods that exist, by ordinal.
    pub pods: Vec<Arc<Pod>>,
    /// The members' volume claims that exist, by ordinal; a former store of the same name may have left them.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// What the Secrets that the store names are good for.
    pub access: Access,
    /// Which kinds of other projects the cluster knows.
    pub kinds: KnownKinds,
    /// The backup that the store begins with.
    pub origin: Origin,
    /// Which of the children look changed and are as they were asked.
    pub settled: Vec<Settlement>,
    /// What the configuration said when it was last seen as it was applied.
    pub kept_configuration: Option<String>,
}

impl Observed {
    /// The uids of all children that a plan applies.
    fn uids(&self) -> impl Iterator<Item = String> {
        fn uid<K: ResourceExt>(object: &Option<Arc<K>>) -> Option<String> {
            object.as_ref().and_then(|object| object.uid())
        }
        let uids = [
            uid(&self.service_account),
            uid(&self.config_map),
            uid(&self.peers_service),
            uid(&self.client_service),
            uid(&self.network_policy),
            uid(&self.disruption_budget),
            uid(&self.certificate),
            uid(&self.pod_monitor),
            uid(&self.stateful_set),
        ];
        uids.into_iter().flatten()
    }
}

/// What the watches know: objects that bear the operator's label, without their managed fields.
pub struct Caches {
    /// Accounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Configurations.
    pub config_maps: Store<ConfigMap>,
    /// Services of both sorts.
    pub services: Store<Service>,
    /// Who reaches members.
    pub network_policies: Store<NetworkPolicy>,
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
    settled: Arc<Settled>,
    kinds: Arc<Kinds>,
}

impl Observer {
    /// An observer that trusts a cache only as far as `freshness` lets it.
    #[must_use]
    pub fn new(
        client: Client,
        caches: Caches,
        kinds: Arc<Kinds>,
        freshness: Arc<Freshness>,
        settled: Arc<Settled>,
    ) -> Self {
        Self { client, caches, freshness, settled, kinds }
    }

    /// Waits until every watch has delivered what is there. `false` when a watch ended, because the operator ends.
    ///
    /// For one caller at a time: a cache wakes only the last one who waits for it.
    pub async fn wait_until_filled(&self) -> bool {
        let Caches { service_accounts, config_maps, services, network_policies, stateful_sets, pods, claims } =
            &self.caches;
        service_accounts.wait_until_ready().await.is_ok()
            && config_maps.wait_until_ready().await.is_ok()
            && services.wait_until_ready().await.is_ok()
            && network_policies.wait_until_ready().await.is_ok()
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

    /// Everything that belongs to a store, and the Secrets that it names if it is valid.
    ///
    /// # Errors
    /// When something has to be read from the API server and it does not answer.
    pub async fn observe(&self, store: &KvsStore, valid: Option<&ValidStore>) -> Result<Observed, Error> {
        let name = store.name_any();
        let namespace = store.namespace().unwrap_or_default();
        let Caches { service_accounts, config_maps, services, network_policies, stateful_sets, pods, claims } =
            &self.caches;
        let kinds = self.kinds.known().await?;
        let access = match valid {
            Some(valid) => self.access(valid, kinds).await?,
            None => Access::default(),
        };
        let mut observed = Observed {
            service_account: self.child(service_accounts, &namespace, &names::service_account(&name)).await?,
            config_map: self.child(config_maps, &namespace, &names::config_map(&name)).await?,
            peers_service: self.child(services, &namespace, &names::peers_service(&name)).await?,
            client_service: self.child(services, &namespace, &name).await?,
            network_policy: self.network_policy(network_policies, store).await?,
            // One member has no budget, and every store that is valid today has one member.
            disruption_budget: match valid.is_some_and(|valid| valid.members > 1) {
                true => self.live(&namespace, &name).await?,
                false => None,
            },
            certificate: self.foreign_kind(kinds.certificates.then(kinds::certificate), &namespace, &name).await?,
            pod_monitor: self.foreign_kind(kinds.pod_monitors.then(kinds::pod_monitor), &namespace, &name).await?,
            stateful_set: self.child(stateful_sets, &namespace, &name).await?,
            pods: (0..MOST_MEMBERS)
                .filter_map(|ordinal| pods.get(&ObjectRef::new(&names::member(&name, ordinal)).within(&namespace)))
                .collect(),
            claims: self.claims(claims, pods, &namespace, &name).await?,
            access,
            kinds,
            origin: self.origin(store).await?,
            settled: Vec::new(),
            kept_configuration: None,
        };
        if let (Some(valid), Some(live)) = (valid, observed.config_map.as_deref()) {
            let uid = live.uid().unwrap_or_default();
            if let Some(text) = intact_text(valid, live) {
                self.settled.keep(uid.clone(), text);
            }
            observed.kept_configuration = self.settled.kept(&uid);
        }
        observed.settled = observed.uids().filter_map(|uid| self.settled.of(&uid)).collect();
        Ok(observed)
    }

    /// The backup that a store begins with, by its name, until it was restored.
    async fn origin(&self, store: &KvsStore) -> Result<Origin, Error> {
        let Some(bootstrap) = &store.spec.bootstrap else { return Ok(Origin::Nothing) };
        let name = &bootstrap.backup_ref.name;
        let restored = store.status.as_ref().and_then(|status| status.restored.as_ref());
        let backup = match restored {
            Some(_) => None,
            None => self.live::<KvsBackup>(&store.namespace().unwrap_or_default(), name).await?,
        };
        Ok(Origin::judge(name, restored, backup.as_deref()))
    }

    /// What the Secrets of a store are good for. Their values end here: nothing keeps them.
    async fn access(&self, store: &ValidStore, kinds: KnownKinds) -> Result<Access, Error> {
        let mut access = Access::default();
        if let Some(token) = &store.token_secret {
            let secret = self.secret(&store.namespace, &token.name).await?;
            access.token = Some(secret.and_then(|secret| access::judge_token(store, token, secret.as_ref())));
        }
        if let Some(tls) = &store.tls {
            let secret = self.secret(&store.namespace, &tls.secret).await?;
            let judge =
                |secret: Option<Secret>| access::judge_certificate(store, tls, secret.as_ref(), kinds.certificates);
            access.certificate = Some(secret.and_then(judge));
        }
        Ok(access)
    }

    /// A Secret by its name. The operator lists and watches none, so that it never holds more than a store names.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Result<Option<Secret>, AccessProblem>, Error> {
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        match in_time(format!("reading Secret {namespace}/{name}"), api.get_opt(name)).await {
            Ok(secret) => Ok(Ok(secret)),
            Err(error) if error.is_refusal() => Ok(Err(AccessProblem::unreadable(name, &error.to_string()))),
            Err(error) => Err(error),
        }
    }

    /// The store's NetworkPolicy. One that the store does not want and the cache does not have is not asked for.
    async fn network_policy(
        &self,
        cache: &Store<NetworkPolicy>,
        store: &KvsStore,
    ) -> Result<Option<Arc<NetworkPolicy>>, Error> {
        let (namespace, name) = (store.namespace().unwrap_or_default(), store.name_any());
        let is_wanted = store.spec.network_policy.mode == NetworkPolicyMode::Managed;
        if !is_wanted && cache.get(&ObjectRef::new(&name).within(&namespace)).is_none() {
            return Ok(None);
        }
        self.child(cache, &namespace, &name).await
    }

    /// An object of a kind that the cluster may not know. Its watch keeps no cache, so it is read each time.
    async fn foreign_kind(
        &self,
        kind: Option<ApiResource>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<DynamicObject>>, Error> {
        let Some(kind) = kind else { return Ok(None) };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &kind);
        match in_time(format!("reading {} {namespace}/{name}", kind.kind), api.get_opt(name)).await {
            Ok(live) => Ok(live.map(Arc::new)),
            // An account with an older role: the store is served all the same, and the write that follows tells of it.
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The claims that exist. The operator writes to them too, so they are read anew when the cache is behind. One that
    /// was made by hand bears no label of ours, so the claim of a pod that exists is asked for by its name.
    async fn claims(
        &self,
        cache: &Store<PersistentVolumeClaim>,
        pods: &Store<Pod>,
        namespace: &str,
        store: &str,
    ) -> Result<Vec<Arc<PersistentVolumeClaim>>, Error> {
        let mut claims = Vec::new();
        for ordinal in 0..MOST_MEMBERS {
            let name = names::claim(store, ordinal);
            match cache.get(&ObjectRef::new(&name).within(namespace)) {
                Some(cached) if self.freshness.is_current(cached.as_ref()) => claims.push(cached),
                Some(_) => claims.extend(self.live(namespace, &name).await?),
                None => {
                    let member = ObjectRef::new(&names::member(store, ordinal)).within(namespace);
                    if pods.get(&member).is_some() {
                        claims.extend(self.live(namespace, &name).await?);
                    }
                }
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
        if live.is_none() {
            // No cache will ever catch up with it.
            self.freshness.forget_name::<K>(namespace, name);
        }
        Ok(live.map(Arc::new))
    }
}
