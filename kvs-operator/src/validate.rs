//! The first step of a reconcile: from what a person wrote to what can be built.
//!
//! What must hold: it is pure; what the resource's CEL rules refuse is refused here too, because a store may be older
//! than its rules; every refusal names the field and what to do; a [`ValidStore`] needs no further checks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, LogConfig, ServerConfig, TlsConfig};
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};

use crate::access::{AUTHORITIES_KEY, CERTIFICATE_KEY, PRIVATE_KEY_KEY};
use crate::names;
use crate::overlay::{self, Overlay};
use crate::plan::pod_template::{AUTH_FILE, AUTH_MOUNT, DATA_FOLDER, TERMINATION_LOG, TLS_MOUNT};
use crate::quantity::Amount;
use crate::resource::{
    Auth, AuthMode, ClaimRetention, DesiredState, Disruption, DisruptionBudget, ImagePullPolicy, IssuerRef, KvsStore,
    KvsStoreSpec, Monitoring, NetworkPolicyOptions, PodTemplateOverlay, ReconcilePolicy, Resources, Scheduling,
    SecretKeyRef, ServiceOptions, ServiceType, Spread, Tls, TlsMode, UpdateOptions,
};

/// The memory that sled may have for its pages, in bytes: as the server has it.
const SLED_CACHE_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// What the operator adds to every store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image of stores that name none.
    pub server_image: String,
}

/// A store that can be built.
#[derive(Debug, Clone)]
pub struct ValidStore {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// What every child carries, so that Kubernetes deletes it with its store.
    pub owner: OwnerReference,
    /// Members, 1 to 9. More than 1 is built and tested but refused by [`validate`].
    pub members: u8,
    /// Whether the members are to run. Without, everything but the pods is there.
    pub is_running: bool,
    /// Whether the operator only looks.
    pub is_paused: bool,
    /// What can be served and may surprise its owner, in sentences.
    pub warnings: Vec<String>,
    /// The server's image.
    pub image: String,
    /// When the node pulls it.
    pub image_pull_policy: ImagePullPolicy,
    /// What lets the node pull it.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// What the server reads at its start.
    pub config: ServerConfig,
    /// CPU and memory of the server's container.
    pub resources: ResourceRequirements,
    /// Size of each volume.
    pub storage_size: Quantity,
    /// Class of each volume; `None` means the cluster's default.
    pub storage_class: Option<String>,
    /// What becomes of the claims when the store is deleted.
    pub claim_retention: ClaimRetention,
    /// The Service that clients use.
    pub service: ServiceOptions,
    /// Its port.
    pub service_port: u16,
    /// Where the token stands; `None` where clients send none.
    pub token_secret: Option<SecretKeyRef>,
    /// Where the certificate stands; `None` where clients speak plain TCP.
    pub tls: Option<ServerTls>,
    /// Who reaches the members.
    pub network_policy: NetworkPolicyOptions,
    /// Whether several members have a budget for drains.
    pub disruption_budget: DisruptionBudget,
    /// On which nodes the members run.
    pub scheduling: Placement,
    /// What is laid over the pods' template.
    pub overlay: Overlay,
    /// When pods are replaced.
    pub update: UpdateOptions,
    /// How Prometheus finds the store.
    pub monitoring: Monitoring,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The Secret with `tls.crt`, `tls.key` and perhaps `ca.crt`.
    pub secret: String,
    /// Whether clients must show a certificate of `ca.crt`.
    pub is_mutual: bool,
    /// Who fills the Secret; `None` means a person.
    pub issuer: Option<IssuerRef>,
}

/// On which nodes members run, in the words of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Whether several members keep apart.
    pub spread: Spread,
    /// The label of nodes whose values they spread over.
    pub topology_key: String,
    /// Labels that a node must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that the pods put up with.
    pub tolerations: Option<Vec<Toleration>>,
    /// The pods' affinity.
    pub affinity: Option<Affinity>,
    /// Constraints on how the pods spread.
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The pods' priority class.
    pub priority_class_name: Option<String>,
}

impl ValidStore {
    /// The name by which the store is reached from other namespaces and by kvs-client, whose certificate bears it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

/// One thing that the person who wrote the store must change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where, such as `spec.resources.requests.memory`.
    pub field: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.problem)
    }
}

/// Turns a store into one that can be built, or says all that is wrong with it.
///
/// # Errors
/// Every field that must be changed.
pub fn validate(store: &KvsStore, settings: &Settings) -> Result<ValidStore, Vec<Refusal>> {
    let mut refusals = Refusals::default();
    let name = store.metadata.name.clone().unwrap_or_default();
    let namespace = store.metadata.namespace.clone().unwrap_or_default();
    // Taken apart without `..`, so that a new field asks for its place here.
    let KvsStoreSpec {
        engine,
        engine_config,
        thread_pool,
        replicas,
        image,
        image_pull_policy,
        image_pull_secrets,
        storage,
        bootstrap,
        resources,
        service,
        auth,
        tls,
        network_policy,
        disruption: Disruption { budget },
        scheduling,
        pod_template,
        update,
        monitoring,
        logging,
        desired_state,
        reconcile_policy,
    } = &store.spec;

    if *replicas != 1 {
        refusals.add("spec.replicas", "replicas above 1 need replication, which this version does not have");
    }
    let threads = match (thread_pool.strategy, thread_pool.size) {
        (PoolStrategy::Naive | PoolStrategy::Inline, Some(_)) => {
            refusals.add("spec.threadPool.size", "has no meaning for naive or inline; leave it out");
            None
        }
        (_, size) => size.and_then(|size| u32::try_from(size).ok()),
    };
    let engine_config = engine_config.clone().unwrap_or_default();
    let threshold = engine_config.compaction_threshold.as_deref();
    if threshold.is_some() && *engine != EngineName::Kvs {
        refusals.add("spec.engineConfig.compactionThreshold", "may be set only when engine is kvs");
    }
    let compaction_threshold_bytes = threshold
        .and_then(|text| refusals.positive("spec.engineConfig.compactionThreshold", text))
        .map(Amount::ceiling);
    let cache = engine_config.cache_capacity.as_deref();
    if cache.is_some() && *engine != EngineName::Sled {
        refusals.add("spec.engineConfig.cacheCapacity", "may be set only when engine is sled");
    }
    let sled_cache_bytes =
        cache.and_then(|text| refusals.positive("spec.engineConfig.cacheCapacity", text)).map(Amount::ceiling);
    if sled_cache_bytes.is_some_and(|bytes| !SLED_CACHE_BYTES.contains(&bytes)) {
        refusals.add("spec.engineConfig.cacheCapacity", "must be 1Mi to 1Ti");
    }
    let sync_policy = engine_config.sync_policy;
    let sync_interval_ms = sync_policy
        .as_ref()
        .and_then(|policy| policy.interval_milliseconds)
        .and_then(|value| u64::try_from(value).ok());
    let sync = sync_policy.map(|policy| policy.mode);
    let mut warnings = Vec::new();
    warnings.extend(sync_warning(sync, sync_interval_ms));
    if (sync == Some(SyncMode::Interval)) != sync_interval_ms.is_some() {
        refusals
            .add("spec.engineConfig.syncPolicy", "intervalMilliseconds belongs to mode interval: give both or neither");
    }
    refusals.positive("spec.storage.size", &storage.size);
    if bootstrap.is_some() && *engine != EngineName::Kvs {
        refusals.add("spec.bootstrap", "may be set only when engine is kvs; sled has no backup");
    }
    let resources = refusals.resources(resources.as_ref());
    let image = image.clone().unwrap_or_else(|| settings.server_image.clone());
    if image.is_empty() || image.contains(char::is_whitespace) {
        refusals.add("spec.image", "is no name of an image");
    }
    if !image.contains('@') && matches!(image_tag(&image), None | Some("latest")) {
        warnings.push(format!("image {image} names no version: each start of a pod may run another one"));
    }

    let token_secret = refusals.token(auth.as_ref());
    let tls = refusals.tls(&name, tls.as_ref());
    let service_port = refusals.service(service);
    let scheduling = refusals.placement(scheduling);
    let overlay = refusals.overlay(pod_template.as_ref());
    for (index, peer) in network_policy.clients.iter().flatten().enumerate() {
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        if peer.ip_block.is_some() == selects {
            let problem = "needs either ipBlock, or podSelector, namespaceSelector or both";
            refusals.add(&format!("spec.networkPolicy.clients[{index}]"), problem);
        }
    }

    let config = ServerConfig {
        addr: Some(([0, 0, 0, 0], CLIENT_PORT).into()),
        admin_addr: Some(([0, 0, 0, 0], ADMIN_PORT).into()),
        engine: Some(*engine),
        data_dir: Some(PathBuf::from(DATA_FOLDER)),
        pool: Some(thread_pool.strategy),
        threads,
        sync,
        sync_interval_ms,
        compaction_threshold_bytes,
        sled_cache_bytes,
        max_value_bytes: None,
        store: Some(format!("{namespace}/{name}")),
        termination_log: Some(PathBuf::from(TERMINATION_LOG)),
        // A server that is given a store serves whoever reaches it. The word would roll every pod of older operators,
        // and a server image of before it refuses a configuration that has it.
        allow_unauthenticated: None,
        auth_tokens: token_secret.as_ref().map(|_| PathBuf::from(AUTH_MOUNT).join(AUTH_FILE)),
        tls: tls.as_ref().map(server_tls),
        limits: None,
        log: Some(LogConfig { level: Some(logging.level.as_str().to_owned()), format: Some(logging.format) }),
    };
    refusals.or(ValidStore {
        owner: owner(store),
        members: 1,
        is_running: *desired_state == DesiredState::Running,
        is_paused: *reconcile_policy == ReconcilePolicy::Paused,
        warnings,
        image_pull_policy: image_pull_policy.unwrap_or_else(|| default_pull_policy(&image)),
        image,
        image_pull_secrets: image_pull_secrets.clone().unwrap_or_default(),
        config,
        resources,
        storage_size: Quantity(storage.size.clone()),
        storage_class: storage.storage_class_name.clone(),
        claim_retention: storage.retention_policy.when_deleted,
        service: service.clone(),
        service_port,
        token_secret,
        tls,
        network_policy: network_policy.clone(),
        disruption_budget: *budget,
        scheduling,
        overlay,
        update: *update,
        monitoring: monitoring.clone(),
        name,
        namespace,
    })
}

/// What a loss of power costs, where it costs something.
fn sync_warning(sync: Option<SyncMode>, interval_ms: Option<u64>) -> Option<String> {
    const FIELD: &str = "engineConfig.syncPolicy.mode";
    match sync? {
        SyncMode::Always => None,
        SyncMode::Interval => Some(format!(
            "{FIELD} interval: a node that loses power loses up to {} ms of acknowledged writes",
            interval_ms.unwrap_or_default()
        )),
        SyncMode::Os => Some(format!(
            "{FIELD} os: a node that loses power loses the acknowledged writes that its system had not stored, of 30 s and more"
        )),
    }
}

/// What the server is told of its certificate.
fn server_tls(tls: &ServerTls) -> TlsConfig {
    let file = |key: &str| Some(PathBuf::from(TLS_MOUNT).join(key));
    TlsConfig {
        cert: file(CERTIFICATE_KEY),
        key: file(PRIVATE_KEY_KEY),
        client_ca: if tls.is_mutual { file(AUTHORITIES_KEY) } else { None },
        client_certificates: None,
    }
}

/// The tag of an image, or `None` for one without, or with a digest alone.
#[must_use]
pub fn image_tag(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    last.split_once(':').map(|(_, tag)| tag)
}

/// What the API server would choose, chosen here so that a live pod template has no field that we did not set.
fn default_pull_policy(image: &str) -> ImagePullPolicy {
    match image_tag(image) {
        _ if image.contains('@') => ImagePullPolicy::IfNotPresent,
        None | Some("latest") => ImagePullPolicy::Always,
        Some(_) => ImagePullPolicy::IfNotPresent,
    }
}

/// The reference by which Kubernetes deletes a child after its store. It does not block the store's own deletion, so
/// that the operator needs no right on finalizers.
fn owner(store: &KvsStore) -> OwnerReference {
    OwnerReference {
        api_version: KvsStore::api_version(&()).into_owned(),
        kind: KvsStore::kind(&()).into_owned(),
        name: store.metadata.name.clone().unwrap_or_default(),
        uid: store.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// Collects refusals, so that a person sees all of them at once.
#[derive(Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(Refusal { field: field.to_owned(), problem: problem.into() });
    }

    fn amount(&mut self, field: &str, text: &str) -> Option<Amount> {
        Amount::parse(text).map_err(|error| self.add(field, error.to_string())).ok()
    }

    fn positive(&mut self, field: &str, text: &str) -> Option<Amount> {
        let amount = self.amount(field, text)?;
        if amount.ceiling() == 0 {
            self.add(field, "must be above 0");
            return None;
        }
        Some(amount)
    }

    fn resources(&mut self, resources: Option<&Resources>) -> ResourceRequirements {
        let Some(Resources { requests, limits }) = resources else { return ResourceRequirements::default() };
        let mut amounts = |kind: &str, quantities: Option<&BTreeMap<String, Quantity>>| -> BTreeMap<String, Amount> {
            let mut amounts = BTreeMap::new();
            for (name, quantity) in quantities.into_iter().flatten() {
                if let Some(amount) = self.amount(&format!("spec.resources.{kind}.{name}"), &quantity.0) {
                    amounts.insert(name.clone(), amount);
                }
            }
            amounts
        };
        let requested = amounts("requests", requests.as_ref());
        let limited = amounts("limits", limits.as_ref());
        for (name, request) in &requested {
            if limited.get(name).is_some_and(|limit| limit < request) {
                self.add(&format!("spec.resources.requests.{name}"), "is above the limit of the same name; lower it");
            }
        }
        ResourceRequirements { requests: requests.clone(), limits: limits.clone(), claims: None }
    }

    fn token(&mut self, auth: Option<&Auth>) -> Option<SecretKeyRef> {
        let Auth { mode: AuthMode::Token, token_secret_ref } = auth? else { return None };
        if token_secret_ref.is_none() {
            self.add("spec.auth.tokenSecretRef", "is required when auth.mode is Token; name a Secret and a key of it");
        }
        token_secret_ref.clone()
    }

    fn tls(&mut self, store: &str, tls: Option<&Tls>) -> Option<ServerTls> {
        let Tls { mode, secret_name, issuer_ref } = tls?;
        let is_mutual = match mode {
            TlsMode::Disabled => return None,
            TlsMode::Server => false,
            TlsMode::Mutual => true,
        };
        match (secret_name.clone(), issuer_ref.clone()) {
            (Some(secret), None) => Some(ServerTls { secret, is_mutual, issuer: None }),
            (None, issuer @ Some(_)) => Some(ServerTls { secret: names::tls_secret(store), is_mutual, issuer }),
            _ => {
                self.add("spec.tls", "needs exactly one of secretName and issuerRef while mode is not Disabled");
                None
            }
        }
    }

    /// The Service's port.
    fn service(&mut self, service: &ServiceOptions) -> u16 {
        let ServiceOptions {
            service_type,
            annotations: _,
            port,
            internal_traffic_policy: _,
            external_traffic_policy,
            load_balancer_source_ranges,
        } = service;
        if external_traffic_policy.is_some() && *service_type == ServiceType::ClusterIp {
            self.add("spec.service.externalTrafficPolicy", "needs type NodePort or LoadBalancer; leave it out");
        }
        if load_balancer_source_ranges.is_some() && *service_type != ServiceType::LoadBalancer {
            self.add("spec.service.loadBalancerSourceRanges", "needs type LoadBalancer; leave it out");
        }
        match port.map_or(Ok(CLIENT_PORT), u16::try_from) {
            Ok(port) if port > 0 => port,
            _ => {
                self.add("spec.service.port", "must be 1 to 65535");
                CLIENT_PORT
            }
        }
    }

    fn placement(&mut self, scheduling: &Scheduling) -> Placement {
        let Scheduling {
            spread,
            topology_key,
            node_selector,
            tolerations,
            affinity,
            topology_spread_constraints,
            priority_class_name,
        } = scheduling;
        let affinity = affinity.as_ref().and_then(|affinity| match overlay::typed::<Affinity>(affinity) {
            Ok(affinity) => Some(affinity),
            Err(problem) => {
                self.add("spec.scheduling.affinity", problem);
                None
            }
        });
        Placement {
            spread: *spread,
            topology_key: topology_key.clone(),
            node_selector: node_selector.clone().filter(|labels| !labels.is_empty()),
            tolerations: tolerations.clone().filter(|tolerations| !tolerations.is_empty()),
            affinity,
            topology_spread_constraints: topology_spread_constraints.clone(),
            priority_class_name: priority_class_name.clone(),
        }
    }

    fn overlay(&mut self, pod_template: Option<&PodTemplateOverlay>) -> Overlay {
        pod_template.map_or_else(Overlay::default, |overlay| {
            Overlay::check(overlay).unwrap_or_else(|problems| {
                for (place, problem) in problems {
                    self.add(&format!("spec.podTemplate.{place}"), problem);
                }
                Overlay::default()
            })
        })
    }

    fn or(self, store: ValidStore) -> Result<ValidStore, Vec<Refusal>> {
        if self.0.is_empty() { Ok(store) } else { Err(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { server_image: "localhost/aryavarth/kvs-server:0.1.0".into() }
    }

    fn store(spec: &str) -> KvsStore {
        let yaml = format!(
            "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsStore\nmetadata: {{name: orders, namespace: shop, uid: u-1}}\nspec: {spec}"
        );
        serde_yaml::from_str(&yaml).unwrap()
    }

    fn refusals(spec: &str) -> String {
        let refusals = validate(&store(spec), &settings()).unwrap_err();
        refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_empty_spec_is_a_whole_store() {
        let valid = validate(&store("{}"), &settings()).unwrap();
        assert_eq!(valid.image, "localhost/aryavarth/kvs-server:0.1.0");
        assert_eq!(valid.image_pull_policy, ImagePullPolicy::IfNotPresent);
        assert_eq!(valid.config.store.as_deref(), Some("shop/orders"));
        assert_eq!(valid.storage_size.0, "1Gi");
        assert_eq!(valid.members, 1);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let text = refusals(
            "{replicas: 3, threadPool: {strategy: inline, size: 2}, storage: {size: lots}, resources: {requests: {memory: 2Gi, cpu: -1}, limits: {memory: 1Gi}}}",
        );
        for part in [
            "spec.replicas: replicas above 1 need replication, which this version does not have",
            "spec.threadPool.size: has no meaning",
            "spec.storage.size: 'lots' is no quantity",
            "spec.resources.requests.cpu: '-1' is no quantity",
            "spec.resources.requests.memory: is above the limit",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn sleds_cache_reaches_the_servers_configuration() {
        let valid = validate(&store("{engine: sled, engineConfig: {cacheCapacity: 8Mi}}"), &settings()).unwrap();
        assert_eq!(valid.config.sled_cache_bytes, Some(8 << 20));
        assert!(refusals("{engineConfig: {cacheCapacity: 8Mi}}").contains("only when engine is sled"));
        assert!(refusals("{engine: sled, engineConfig: {cacheCapacity: 8Ki}}").contains("must be 1Mi to 1Ti"));
    }

    #[test]
    fn the_sync_policy_reaches_the_servers_configuration() {
        let valid = validate(
            &store(
                "{engineConfig: {compactionThreshold: 4Mi, syncPolicy: {mode: interval, intervalMilliseconds: 50}}}",
            ),
            &settings(),
        )
        .unwrap();
        assert_eq!(valid.config.compaction_threshold_bytes, Some(4 << 20));
        assert_eq!(valid.config.sync, Some(SyncMode::Interval));
        assert_eq!(valid.config.sync_interval_ms, Some(50));
    }

    #[test]
    fn what_may_surprise_is_accepted_with_a_warning() {
        let warnings = |spec: &str| validate(&store(spec), &settings()).unwrap().warnings.join("; ");
        assert_eq!(warnings("{}"), "");
        assert_eq!(warnings("{image: 'kvs@sha256:00'}"), "");
        assert!(warnings("{image: kvs}").contains("names no version"));
        assert!(warnings("{engineConfig: {syncPolicy: {mode: os}}}").contains("loses power"));
        let interval = warnings("{engineConfig: {syncPolicy: {mode: interval, intervalMilliseconds: 50}}}");
        assert!(interval.contains("up to 50 ms"), "{interval}");
    }

    #[test]
    fn who_may_use_the_store_reaches_the_servers_configuration() {
        let open = validate(&store("{}"), &settings()).unwrap();
        assert_eq!((open.config.allow_unauthenticated, &open.config.auth_tokens), (None, &None));
        let token = validate(&store("{auth: {mode: Token, tokenSecretRef: {name: t, key: k}}}"), &settings()).unwrap();
        assert_eq!(token.config.auth_tokens, Some("/etc/kvs-auth/tokens".into()));
        let mutual = validate(&store("{tls: {mode: Mutual, issuerRef: {name: i}}}"), &settings()).unwrap();
        assert_eq!(mutual.config.tls.unwrap().client_ca, Some("/etc/kvs-tls/ca.crt".into()));
        assert_eq!(mutual.tls.unwrap().secret, "orders-tls");
    }

    #[test]
    fn what_is_refused_of_access_and_pods_is_named_by_its_field() {
        let text = refusals(
            "{auth: {mode: Token}, tls: {mode: Server}, service: {port: 0, externalTrafficPolicy: Local, loadBalancerSourceRanges: []}, \
             networkPolicy: {clients: [{}]}, scheduling: {affinity: {nodeAfinity: {}}}, podTemplate: {spec: {hostname: x}}}",
        );
        for part in [
            "spec.auth.tokenSecretRef: is required",
            "spec.tls: needs exactly one of",
            "spec.service.port: must be",
            "spec.service.externalTrafficPolicy: needs type",
            "spec.service.loadBalancerSourceRanges: needs type",
            "spec.networkPolicy.clients[0]: needs either",
            "spec.scheduling.affinity: nodeAfinity is no field",
            "spec.podTemplate.spec.hostname: is the StatefulSet's own",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_pull_policy_follows_the_image_as_kubernetes_has_it() {
        for (image, tag, policy) in [
            ("kvs", None, ImagePullPolicy::Always),
            ("kvs:latest", Some("latest"), ImagePullPolicy::Always),
            ("host:5000/kvs", None, ImagePullPolicy::Always),
            ("host:5000/kvs:1.2", Some("1.2"), ImagePullPolicy::IfNotPresent),
            ("kvs:1.2@sha256:00", Some("1.2"), ImagePullPolicy::IfNotPresent),
            ("kvs@sha256:00", None, ImagePullPolicy::IfNotPresent),
        ] {
            assert_eq!(image_tag(image), tag, "{image}");
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }
}
