//! What happens to a store in its life, and what the operator makes of it.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use kvs_e2e::kubelet::NO_NODE;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::READY_LIMIT;
use kvs_e2e::{Failure, NotYet, until};
use serde_json::json;

use super::access::says;

/// A member whose store and StatefulSet are gone does not run for ever; a pod that only looks like one stays.
pub(super) async fn pod_of_no_store(namespace: Namespace) -> Told {
    let pod = |name: &str, annotations: serde_json::Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "annotations": annotations,
                "labels": {"app.kubernetes.io/managed-by": "kvs-operator", "app.kubernetes.io/instance": "gone"},
            },
            "spec": {
                // It waits for a node that does not exist, so no image is needed.
                "nodeSelector": {"example.com/no-such-node": "true"}, "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "kvs-server", "image": "localhost/none:0",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        })
    };
    namespace.apply(pod("gone-7", json!({})).to_string()).await?;
    namespace.apply(pod("gone-0", json!({"kvs.aryavarth.io/config-hash": "0"})).to_string()).await?;
    let store = namespace.store("gone");
    until("the pod is gone", READY_LIMIT, async || {
        let left = store.pods().get_opt("gone-0").await.map_err(Failure::kubernetes("reading the pod"))?;
        if left.is_none() { Ok(()) } else { Err(NotYet("it is still there".into())) }
    })
    .await?;
    let other = store.pods().get_opt("gone-7").await.map_err(Failure::kubernetes("reading the other pod"))?;
    assert!(other.is_some(), "it is not of the operator's template");
    Ok(())
}

/// A volume that is to go with its store grows, keeps its data, and goes with its store.
pub(super) async fn volume_that_goes_with_its_store_grows(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    let spec = |size: &str| format!("{{storage: {{size: {size}, retentionPolicy: {{whenDeleted: Delete}}}}}}");
    store.apply(&spec("64Mi")).await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let sets = Api::<StatefulSet>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let read = async || sets.get("orders").await.map_err(Failure::kubernetes("reading the StatefulSet"));
    let (first, pod, claim) = (read().await?.uid(), store.pod().await?.uid(), store.claim().await?.uid());

    store.apply(&spec("96Mi")).await?;
    until("the StatefulSet is made again and owns its claim as before", READY_LIMIT, async || {
        let now = read().await?;
        let policy = now.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone());
        let policy = policy.and_then(|policy| policy.when_deleted).unwrap_or_default();
        let is_owned =
            store.claim().await?.owner_references().iter().any(|owner| Some(&owner.uid) == now.uid().as_ref());
        if now.uid() != first && policy == "Delete" && is_owned {
            return Ok(());
        }
        Err(NotYet(format!("made again: {}, {policy}, owned: {is_owned}", now.uid() != first)))
    })
    .await?;
    assert_eq!((store.pod().await?.uid(), store.claim().await?.uid()), (pod, claim), "pod and volume went on");
    assert_eq!(store.get("order/1").await?, "kept");

    let stores = namespace.cluster.stores(&namespace.name);
    stores.delete("orders", &DeleteParams::default()).await.map_err(Failure::kubernetes("deleting the store"))?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    until("the claim went with its store", READY_LIMIT, async || {
        let left = claims.get_opt(&store.claim_name()).await.map_err(Failure::kubernetes("reading the claim"))?;
        if left.is_none() { Ok(()) } else { Err(NotYet("it is still there".into())) }
    })
    .await
}

/// A store that sleeps while its rollout is paused wakes with the configuration that its template tells of.
pub(super) async fn paused_rollout_sleeps(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let changed = "update: {rollout: Paused}, threadPool: {strategy: rayon}";
    store.apply(&format!("{{{changed}}}")).await?;
    says(&store, "Ready", "RolloutPaused").await?;
    store.apply(&format!("{{{changed}, desiredState: Hibernated}}")).await?;
    says(&store, "Ready", "Hibernated").await?;
    store.apply(&format!("{{{changed}}}")).await?;
    store.ready().await?;
    assert_eq!(store.server_status().await?["pool"], "rayon", "configuration and template agree");
    assert_eq!(store.get("order/1").await?, "kept");
    Ok(())
}

/// A pod that no node takes is told as such, and is well as soon as one does.
pub(super) async fn no_node_takes_it(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply(&format!("{{{NO_NODE}}}")).await?;
    says(&store, "Degraded", "Unschedulable").await?;
    store.apply("{}").await?;
    store.ready().await.map(drop)
}
