//! The life of the operator's chart, from the previous version on, by both generations of Helm.
//!
//! What must hold: whatever Helm does to the operator and to the definition, a store's pod, its volume and its data stay.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt as _};
use kvs_e2e::cluster::{DEFINITION, Helm, OPERATOR_NAMESPACE, OPERATOR_RELEASE, chart};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::process::Program;
use kvs_e2e::runner::Told;
use kvs_e2e::store::Store;
use kvs_e2e::{Failure, repository};

/// The longest that Helm may take: it waits for the operator's pods.
const HELM_LIMIT: Duration = Duration::from_secs(170);
/// The longest wait for the definition and the stores in it to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(120);
/// The chart that an upgrade begins with.
const PREVIOUS: &str = "tests/fixtures/previous/kvs-operator-0.1.0.tgz";
/// Fields of the spec that the previous definition does not have, and this one does.
const NEW_FIELDS: [&str; 3] = ["tls", "auth", "podTemplate"];

/// By the one that most people have.
pub(super) async fn generation_three(namespace: Namespace) -> Told {
    upgraded_rolled_back_and_taken_over(&namespace, Helm::Three).await
}

/// By the newest.
pub(super) async fn generation_four(namespace: Namespace) -> Told {
    upgraded_rolled_back_and_taken_over(&namespace, Helm::Four).await
}

/// The previous chart is upgraded to this one, which changes the definition; rolled back and forward again; uninstalled, which
/// leaves definition, store, pod and volume; and installed over a definition that kubectl applied.
async fn upgraded_rolled_back_and_taken_over(namespace: &Namespace, generation: Helm) -> Told {
    let cluster = &namespace.cluster;
    let helm = |arguments: &[&str]| cluster.helm(generation, OPERATOR_NAMESPACE).args(arguments).limit(HELM_LIMIT);
    start_afresh(namespace, generation).await?;

    // Its operator is not built here: tests/faults runs it. So its image is one that no node has.
    let none = ["--set=image.repository=none", "--set=image.pullPolicy=Never"];
    let previous = repository().join(PREVIOUS);
    helm(&["install", OPERATOR_RELEASE]).args([&previous]).args(none).succeed().await?;
    assert_eq!(new_fields(namespace).await?, [false; 3], "the definition of the previous chart");

    upgrade(helm(&["upgrade", OPERATOR_RELEASE])).await?;
    assert_eq!(new_fields(namespace).await?, [true; 3], "an upgrade changes the definition");
    let store = namespace.store("orders");
    store.apply("{threadPool: {strategy: inline}, update: {rollout: Active}}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let pod = store.pod().await?.uid();

    helm(&["rollback", OPERATOR_RELEASE, "1"]).succeed().await?;
    assert_eq!(new_fields(namespace).await?, [false; 3], "a rollback takes the definition back");
    is_untouched(&store, pod.as_deref()).await?;
    // Not by another rollback: definitions that the previous chart does not have are kept by no release, and a rollback of
    // the older Helm can't take them over.
    upgrade(helm(&["upgrade", OPERATOR_RELEASE])).await?;
    assert_eq!(new_fields(namespace).await?, [true; 3], "and forward again");
    store.ready().await?;
    is_untouched(&store, pod.as_deref()).await?;

    helm(&["uninstall", OPERATOR_RELEASE, "--wait", "--timeout=120s"]).succeed().await?;
    is_untouched(&store, pod.as_deref()).await?;

    // As if kubectl had made the definition: nothing of it says that it was Helm's.
    let kubectl = || cluster.kubectl("default");
    kubectl().args(["annotate", "crd"]).args(OURS).args(OWNER_ANNOTATIONS).succeed().await?;
    kubectl().args(["label", "crd"]).args(OURS).args(["app.kubernetes.io/managed-by-"]).succeed().await?;
    let crds = repository().join("deploy/crds.yaml");
    let apply = kubectl().args(["apply", "--server-side", "--force-conflicts", "--filename"]);
    apply.args([&crds]).succeed().await?;
    let refused = helm(&["install", OPERATOR_RELEASE]).args([chart("kvs-operator")]).fail().await?;
    assert!(refused.stderr.contains("invalid ownership metadata"), "{}", refused.stderr);
    let conflicts = if generation == Helm::Four { "--force-conflicts" } else { "--take-ownership" };
    let install = helm(&["install", OPERATOR_RELEASE]).args([chart("kvs-operator")]);
    install.args(["--take-ownership", conflicts, "--wait", "--timeout=150s"]).succeed().await?;
    store.ready().await?;
    is_untouched(&store, pod.as_deref()).await?;

    // It is served again, and what the last one left is adopted.
    store.apply("{threadPool: {strategy: rayon}}").await?;
    store.other_pod(pod.as_deref().unwrap_or_default()).await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    Ok(())
}

/// What selects our definitions.
const OURS: [&str; 2] = ["--selector", "app.kubernetes.io/part-of=aryavarth-kvs"];
/// What Helm knows its objects by.
const OWNER_ANNOTATIONS: [&str; 3] =
    ["meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-", "helm.sh/resource-policy-"];

/// Upgrades to this chart and waits for the operator.
async fn upgrade(helm: Program) -> Told {
    // The values of the previous release named an image that is nowhere.
    helm.args([chart("kvs-operator")]).args(["--reset-values", "--wait", "--timeout=150s"]).succeed().await.map(drop)
}

/// Takes away whatever operator and definition are there, with every store.
pub(super) async fn start_afresh(namespace: &Namespace, generation: Helm) -> Told {
    let cluster = &namespace.cluster;
    let helm = cluster.helm(generation, OPERATOR_NAMESPACE).limit(HELM_LIMIT);
    helm.args(["uninstall", OPERATOR_RELEASE, "--ignore-not-found", "--wait", "--timeout=120s"]).succeed().await?;
    // Waits for them, and so for every store, to be gone.
    let delete = cluster.kubectl("default").args(["delete", "crd", "--ignore-not-found"]).args(OURS);
    delete.limit(GONE_LIMIT).succeed().await.map(drop)
}

/// Which of the new fields the API server's definition knows.
async fn new_fields(namespace: &Namespace) -> Result<[bool; 3], Failure> {
    let definitions = Api::<CustomResourceDefinition>::all(namespace.cluster.client.clone());
    let definition = definitions.get(DEFINITION).await.map_err(Failure::kubernetes("reading the definition"))?;
    let schema = definition.spec.versions.first().and_then(|version| version.schema.clone());
    let properties = schema.and_then(|schema| schema.open_api_v3_schema).and_then(|schema| schema.properties);
    let spec = properties.and_then(|mut properties| properties.remove("spec")).and_then(|spec| spec.properties);
    let fields = spec.ok_or_else(|| Failure::Unexpected("the definition has no spec".into()))?;
    Ok(NEW_FIELDS.map(|field| fields.contains_key(field)))
}

/// The store's pod is the one that it was and never restarted, and its data and its claim are there.
async fn is_untouched(store: &Store, uid: Option<&str>) -> Told {
    let pod = store.pod().await?;
    assert_eq!(pod.uid().as_deref(), uid, "another pod");
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarts: i32 = containers.map(|container| container.restart_count).sum();
    assert_eq!(restarts, 0, "the pod restarted");
    assert_eq!(store.claim().await?.metadata.deletion_timestamp, None);
    assert_eq!(store.get("order/1").await?, "kept");
    Ok(())
}
