//! Pods of ours as they live: nothing of them can write where it should not, and none carries a token that it does not use.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use kvs_e2e::Failure;
use kvs_e2e::cluster::{OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;

/// The pod of a store and the pods of the operator run as nobody special with a root that is read-only; the store's has no
/// token of an account, and the operator's has the one that it works with.
pub(super) async fn pods_as_they_live(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    let pod = store.pod().await?;
    is_restricted(&pod);
    assert_eq!(tokens(&pod), 0, "{:?}", pod.spec);

    let pods = Api::<Pod>::namespaced(namespace.cluster.client.clone(), OPERATOR_NAMESPACE);
    // Not the pod of a self-test, which other stories make meanwhile.
    let selector = format!("app.kubernetes.io/instance={OPERATOR_RELEASE},!app.kubernetes.io/component");
    let operators = pods.list(&ListParams::default().labels(&selector)).await;
    let operators = operators.map_err(Failure::kubernetes("listing the operator's pods"))?.items;
    assert_eq!(operators.len(), 2);
    for pod in &operators {
        is_restricted(pod);
        assert_eq!(tokens(pod), 1, "{:?}", pod.spec);
    }
    Ok(())
}

/// Every container of a pod is held to what it needs.
fn is_restricted(pod: &Pod) {
    let name = pod.name_any();
    let spec = pod.spec.as_ref().expect("a pod that lives has a spec");
    assert_eq!(spec.security_context.as_ref().and_then(|context| context.run_as_non_root), Some(true), "{name}");
    let containers: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
    assert!(!containers.is_empty(), "{name}");
    for container in containers {
        let context = container.security_context.as_ref().expect("a container of ours has a security context");
        assert_eq!(context.read_only_root_filesystem, Some(true), "{name}: {}", container.name);
        assert_eq!(context.allow_privilege_escalation, Some(false), "{name}: {}", container.name);
        let dropped = context.capabilities.as_ref().and_then(|capabilities| capabilities.drop.clone());
        assert_eq!(dropped, Some(vec!["ALL".to_owned()]), "{name}: {}", container.name);
    }
}

/// Volumes that hold a token of an account.
fn tokens(pod: &Pod) -> usize {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources =
        volumes.flat_map(|volume| volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()));
    sources.filter(|source| source.service_account_token.is_some()).count()
}
