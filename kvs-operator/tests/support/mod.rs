//! What several tests need: a store from YAML as the API server would hand it over, and a cluster that holds its children.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this, and may end where it is surprised"
)]

use std::sync::Arc;

use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, Plan};
use kvs_operator::resource::KvsStore;
use kvs_operator::validate::{Settings, ValidStore, validate};

/// The operator's settings in every test.
pub(crate) fn settings() -> Settings {
    Settings { server_image: "localhost/aryavarth/kvs-server:0.1.0".into() }
}

/// A store with this spec, called `shop/orders` unless the YAML names another.
pub(crate) fn store(yaml: &str) -> KvsStore {
    let mut store: KvsStore = serde_yaml::from_str(yaml).expect("the test's store is a KvsStore");
    store.metadata.namespace.get_or_insert_with(|| "shop".into());
    store.metadata.uid.get_or_insert_with(|| "11111111-2222-3333-4444-555555555555".into());
    store.metadata.generation.get_or_insert(1);
    store
}

/// A store with this spec in one line.
pub(crate) fn store_with(spec: &str) -> KvsStore {
    store(&format!("apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsStore\nmetadata: {{name: orders}}\nspec: {spec}"))
}

/// The same, checked.
pub(crate) fn valid(store: &KvsStore) -> ValidStore {
    validate(store, &settings()).expect("the test's store is valid")
}

/// What is there after a plan was applied, without what an API server adds.
pub(crate) fn applied(plan: Plan) -> Observed {
    let mut observed = Observed::default();
    for write in plan.writes {
        put(&mut observed, write.child);
    }
    observed
}

/// Puts one child where it is observed.
pub(crate) fn put(observed: &mut Observed, child: Child) {
    match child {
        Child::ServiceAccount(object) => observed.service_account = Some(Arc::new(*object)),
        Child::ConfigMap(object) => observed.config_map = Some(Arc::new(*object)),
        Child::Service(object) if object.metadata.name.as_deref().unwrap().ends_with("-peers") => {
            observed.peers_service = Some(Arc::new(*object));
        }
        Child::Service(object) => observed.client_service = Some(Arc::new(*object)),
        Child::NetworkPolicy(object) => observed.network_policy = Some(Arc::new(*object)),
        Child::PodDisruptionBudget(object) => observed.disruption_budget = Some(Arc::new(*object)),
        Child::Certificate(object) => observed.certificate = Some(Arc::new(*object)),
        Child::PodMonitor(object) => observed.pod_monitor = Some(Arc::new(*object)),
        Child::StatefulSet(object) => observed.stateful_set = Some(Arc::new(*object)),
    }
}
