//! The second step of a reconcile: from what a person wrote to what can be built.
//!
//! What must hold: it is pure; what the resource's CEL rules refuse is refused here too, because a store may be older
//! than its rules; every refusal names the field and what to do; a [`ValidStore`] needs no further checks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kvs_protocol::config::{ADMIN_PORT, CLIENT_PORT, LogConfig, ServerConfig};
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};

use crate::plan::pod_template::{DATA_FOLDER, TERMINATION_LOG};
use crate::quantity::Amount;
use crate::resource::{ClaimRetention, ImagePullPolicy, KvsStore, KvsStoreSpec, Resources, ServiceOptions};

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
        resources,
        service,
        logging,
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
    let sync_policy = engine_config.sync_policy;
    let sync_interval_ms = sync_policy
        .as_ref()
        .and_then(|policy| policy.interval_milliseconds)
        .and_then(|value| u64::try_from(value).ok());
    let sync = sync_policy.map(|policy| policy.mode);
    if (sync == Some(SyncMode::Interval)) != sync_interval_ms.is_some() {
        refusals
            .add("spec.engineConfig.syncPolicy", "intervalMilliseconds belongs to mode interval: give both or neither");
    }
    refusals.positive("spec.storage.size", &storage.size);
    let resources = refusals.resources(resources.as_ref());
    let image = image.clone().unwrap_or_else(|| settings.server_image.clone());
    if image.is_empty() || image.contains(char::is_whitespace) {
        refusals.add("spec.image", "is no name of an image");
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
        max_value_bytes: None,
        store: Some(format!("{namespace}/{name}")),
        termination_log: Some(PathBuf::from(TERMINATION_LOG)),
        log: Some(LogConfig { level: Some(logging.level.as_str().to_owned()), format: Some(logging.format) }),
    };
    refusals.or(ValidStore {
        owner: owner(store),
        members: 1,
        image_pull_policy: image_pull_policy.unwrap_or_else(|| default_pull_policy(&image)),
        image,
        image_pull_secrets: image_pull_secrets.clone().unwrap_or_default(),
        config,
        resources,
        storage_size: Quantity(storage.size.clone()),
        storage_class: storage.storage_class_name.clone(),
        claim_retention: storage.retention_policy.when_deleted,
        service: service.clone(),
        name,
        namespace,
    })
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
