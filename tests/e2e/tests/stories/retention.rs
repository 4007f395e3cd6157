//! What outlives what: the data its store, the stores their operator.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use kvs_e2e::cluster::{Helm, OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::Store;
use kvs_e2e::{Failure, NotYet, repository, until};

/// The longest wait for the children of a deleted store to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(90);

/// A deleted store takes its pod with it and leaves its claim; a store of the same name goes on with the data.
pub(super) async fn claim_is_adopted(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let claim = store.claim().await?;
    let identity = store.server_status().await?["storeId"].clone();
    assert!(identity.is_string(), "{identity}");

    namespace.kubectl(["delete", "kvsstore", "orders"]).succeed().await?;
    wait_until_gone(&store).await?;
    let left = store.claim().await?;
    assert_eq!((left.uid(), &left.metadata.deletion_timestamp), (claim.uid(), &None));

    store.apply("{threadPool: {strategy: rayon, size: 2}}").await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    assert_eq!(store.claim().await?.uid(), claim.uid(), "the same volume, not one like it");
    assert_eq!(store.server_status().await?["storeId"], identity, "the store is who it was");
    let events = Api::<Event>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    until("an event tells of the adopted volume", GONE_LIMIT, async || {
        let events = events.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing events"))?;
        let reasons: Vec<String> = events.into_iter().filter_map(|event| event.reason).collect();
        if reasons.iter().any(|reason| reason == "VolumeAdopted") { Ok(()) } else { Err(NotYet(reasons.join(", "))) }
    })
    .await
}

/// `helm uninstall` takes the operator and nothing else; the next installation goes on where the last one ended.
pub(super) async fn stores_outlive_the_operator(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    let store = namespace.store("orders");
    store.apply("{threadPool: {strategy: inline}}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let pod = store.pod().await?;

    let helm = cluster.helm(Helm::Four, OPERATOR_NAMESPACE);
    helm.args(["uninstall", OPERATOR_RELEASE, "--wait", "--timeout", "120s"]).limit(GONE_LIMIT * 2).succeed().await?;
    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let operator = deployments.get_opt(OPERATOR_RELEASE).await.map_err(Failure::kubernetes("reading the operator"))?;
    assert!(operator.is_none(), "the operator is gone");
    store.read().await?;
    assert_eq!(store.pod().await?.uid(), pod.uid(), "the store's pod is not");
    assert_eq!(store.get("order/1").await?, "kept");
    store.set("order/2", "set without an operator").await?;

    let audit = &cluster.audit;
    let reinstalled = audit.end()?;
    // The other generation of Helm, which adopts the definition that the first one left.
    cluster.install_operator(Helm::Three).await?;
    // A store of its own proves that the operator is at work, and has seen all stores that were there before.
    let witness = namespace.store("witness");
    witness.apply("{}").await?;
    witness.ready().await?;
    store.ready().await?;
    let writes: Vec<String> = audit.operator_writes(&namespace.name, reinstalled)?;
    assert!(writes.iter().any(|write| write.ends_with(" witness")), "the log tells of the operator: {writes:?}");
    let touched: Vec<&String> = writes.iter().filter(|write| write.contains(" orders")).collect();
    assert!(touched.is_empty(), "an operator that comes back writes nothing to a store that is well: {touched:?}");
    assert_eq!(store.pod().await?.uid(), pod.uid(), "nothing was restarted");

    store.apply("{threadPool: {strategy: naive}}").await?;
    store.other_pod(&pod.uid().unwrap_or_default()).await?;
    store.ready().await?;
    assert_eq!(store.server_status().await?["pool"], "naive", "the new operator serves the old store");
    assert_eq!(store.get("order/1").await?, "kept");
    assert_eq!(store.get("order/2").await?, "set without an operator");
    Ok(())
}

/// The manifests of deploy/, for people without Helm, make the same operator; deleting it leaves the stores.
pub(super) async fn manifests_serve_without_helm(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    let helm = cluster.helm(Helm::Four, OPERATOR_NAMESPACE);
    helm.args(["uninstall", OPERATOR_RELEASE, "--ignore-not-found", "--wait"]).limit(GONE_LIMIT * 2).succeed().await?;

    let file = |name: &str| repository().join("deploy").join(name).display().to_string();
    let (definition, operator) = (file("crds.yaml"), file("operator.yaml"));
    let kubectl = || cluster.kubectl("kvs-system").limit(GONE_LIMIT * 2);
    kubectl().args(["apply", "--server-side", "--filename", &definition, "--filename", &operator]).succeed().await?;
    let rollout = ["rollout", "status", "deployment/kvs-operator", "--timeout=90s"];
    kubectl().args(rollout).succeed().await?;
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;

    kubectl().args(["delete", "--filename", &operator]).succeed().await?;
    store.read().await?;
    assert_eq!(store.get("order/1").await?, "kept", "deleting the operator's manifest leaves its stores");
    Ok(())
}

async fn wait_until_gone(store: &Store) -> Told {
    let sets = Api::<StatefulSet>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    until("the children of the deleted store are gone", GONE_LIMIT, async || {
        let set = sets.get_opt(&store.name).await.map_err(Failure::kubernetes("reading the StatefulSet"))?;
        let pod = store.pods().get_opt(&store.pod_name()).await.map_err(Failure::kubernetes("reading the pod"))?;
        match (set, pod) {
            (None, None) => Ok(()),
            (set, pod) => Err(NotYet(format!("StatefulSet: {}, pod: {}", set.is_some(), pod.is_some()))),
        }
    })
    .await
}
