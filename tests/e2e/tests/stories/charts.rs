//! The two charts, by real Helm.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kvs_e2e::Failure;
use kvs_e2e::cluster::{DEFINITION, Helm, OPERATOR_NAMESPACE, OPERATOR_RELEASE, chart};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;

/// The longest that `helm test` may take: it makes pods, and one of them a store.
const HELM_TEST_LIMIT: Duration = Duration::from_secs(150);

/// The chart goes into a namespace that admits only restricted pods; then the definition is established and the
/// operator answers.
pub(super) async fn operator_installs(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    cluster.install_operator(Helm::Four).await?;

    let definitions = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let definition = definitions.get(DEFINITION).await.map_err(Failure::kubernetes("reading the definition"))?;
    let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
    let established = conditions.iter().find(|condition| condition.type_ == "Established");
    assert!(established.is_some_and(|condition| condition.status == "True"), "{conditions:?}");

    let deployments = Api::<Deployment>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let deployment = deployments.get(OPERATOR_RELEASE).await.map_err(Failure::kubernetes("reading the operator"))?;
    assert_eq!(deployment.status.and_then(|status| status.ready_replicas), Some(2), "Helm waited for both");

    // A person without other rights than those of `view` may see stores, through the aggregated roles.
    let may = ["auth", "can-i", "list", "kvsstores.kvs.aryavarth.io", "--as=somebody", "--as-group=viewers"];
    namespace.kubectl(["create", "rolebinding", "viewers", "--clusterrole=view", "--group=viewers"]).succeed().await?;
    assert_eq!(namespace.kubectl(may).succeed().await?.trim(), "yes");
    Ok(())
}

/// `helm test` of the operator's chart makes a store, waits until it is Ready and deletes it with its data.
pub(super) async fn operator_passes_its_test(namespace: Namespace) -> Told {
    let helm = namespace.cluster.helm(Helm::Four, OPERATOR_NAMESPACE);
    let said = helm.args(["test", OPERATOR_RELEASE, "--timeout", "140s"]).limit(HELM_TEST_LIMIT).succeed().await?;
    assert!(said.contains("Phase:") && said.contains("Succeeded"), "{said}");
    let stores = namespace.cluster.stores(OPERATOR_NAMESPACE).list(&kube::api::ListParams::default()).await;
    let left = stores.map_err(Failure::kubernetes("listing stores"))?.items;
    assert!(left.is_empty(), "the test left {left:?}");
    Ok(())
}

/// A release of the store's chart is a store that passes `helm test`, and uninstalling it leaves the data.
pub(super) async fn store_passes_its_test(namespace: Namespace) -> Told {
    let helm = |arguments: &[&str]| namespace.cluster.helm(Helm::Four, &namespace.name).args(arguments);
    let values = ["--set=engine=sled", "--set=threadPool.strategy=rayon", "--set=storage.size=64Mi"];
    helm(&["install", "orders"]).args([chart("kvs-store")]).args(values).succeed().await?;
    let store = namespace.store("orders");
    store.ready().await?;
    let said = helm(&["test", "orders", "--timeout", "140s"]).limit(HELM_TEST_LIMIT).succeed().await?;
    assert!(said.contains("Phase:") && said.contains("Succeeded"), "{said}");
    let status = store.server_status().await?;
    assert_eq!((&status["engine"], &status["pool"]), (&"sled".into(), &"rayon".into()), "the values are the spec");

    helm(&["uninstall", "orders", "--wait"]).succeed().await?;
    let claim = store.claim().await?;
    assert_eq!(claim.metadata.deletion_timestamp, None, "uninstalling the chart keeps the data");
    Ok(())
}
