//! Children that a person breaks, and the silence afterwards.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{Api, ResourceExt as _};
use kvs_e2e::audit::Position;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{READY_LIMIT, Store, is_ready};
use kvs_e2e::{Failure, NotYet, until};
use tokio::time::sleep;

/// The longest wait for a repair. It takes milliseconds where the operator has nothing else to do.
const REPAIR_LIMIT: Duration = Duration::from_secs(60);
/// How long nothing must be written by an operator whose store is as it should be.
const SILENCE: Duration = Duration::from_secs(20);

/// A deleted Service and edited objects are put back, what a person adds is left alone, and a quiet store costs no
/// write.
pub(super) async fn broken_children_are_repaired(namespace: Namespace) -> Told {
    let begin = namespace.cluster.audit.end()?;
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;

    deleted_service_is_made_again(&store).await?;
    edited_configuration_is_restored(&store).await?;
    scaled_set_is_restored(&store).await?;
    replaced_image_is_restored(&store).await?;

    pod_is_the_restored_sets(&store).await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    nothing_is_written(&store, begin).await
}

async fn deleted_service_is_made_again(store: &Store) -> Told {
    let services = Api::<Service>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    let before = services.get("orders").await.map_err(Failure::kubernetes("reading the Service"))?.uid();
    store.namespace.kubectl(["delete", "service", "orders"]).succeed().await?;
    until("the deleted Service is there again", REPAIR_LIMIT, async || {
        let service = services.get("orders").await.map_err(Failure::kubernetes("reading the Service"))?;
        if service.uid() != before { Ok(()) } else { Err(NotYet("the deleted one is still there".into())) }
    })
    .await?;
    // A person's own label, with a wrong port beside it: the one stays, the other goes.
    store.namespace.kubectl(["label", "service", "orders", "team=shop"]).succeed().await?;
    let port = r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 4444}]"#;
    store.namespace.kubectl(["patch", "service", "orders", "--type=json", "--patch", port]).succeed().await?;
    until("the Service's port is restored", REPAIR_LIMIT, async || {
        let service = services.get("orders").await.map_err(Failure::kubernetes("reading the Service"))?;
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<i32> = ports.map(|port| port.port).collect();
        if ports != [4000] {
            return Err(NotYet(format!("ports {ports:?}")));
        }
        assert_eq!(service.labels().get("team").map(String::as_str), Some("shop"), "what others add is theirs");
        Ok(())
    })
    .await
}

async fn edited_configuration_is_restored(store: &Store) -> Told {
    let maps = Api::<ConfigMap>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    let read = async || maps.get("orders-config").await.map_err(Failure::kubernetes("reading the ConfigMap"));
    let before = read().await?.data;
    let file = before.iter().flatten().map(|(name, _)| name.clone()).next().unwrap_or_default();
    let patch = serde_json::json!({"data": {file: "engine: broken"}}).to_string();
    store.namespace.kubectl(["patch", "configmap", "orders-config", "--patch", &patch]).succeed().await?;
    until("the ConfigMap's text is restored", REPAIR_LIMIT, async || {
        let now = read().await?.data;
        if now == before { Ok(()) } else { Err(NotYet(format!("{now:?}"))) }
    })
    .await
}

async fn scaled_set_is_restored(store: &Store) -> Told {
    store.namespace.kubectl(["scale", "statefulset", "orders", "--replicas=0"]).succeed().await?;
    until("the StatefulSet has its member again", REPAIR_LIMIT, async || {
        let replicas = stateful_set(store).await?.spec.and_then(|spec| spec.replicas);
        if replicas == Some(1) { Ok(()) } else { Err(NotYet(format!("replicas {replicas:?}"))) }
    })
    .await?;
    store.ready().await.map(drop)
}

async fn replaced_image_is_restored(store: &Store) -> Told {
    let image = async || -> Result<Option<String>, Failure> {
        let template = stateful_set(store).await?.spec.map(|spec| spec.template);
        let containers = template.and_then(|template| template.spec).map(|pod| pod.containers).unwrap_or_default();
        Ok(containers.into_iter().find_map(|container| container.image))
    };
    let before = image().await?;
    let broken = ["set", "image", "statefulset/orders", "kvs-server=localhost/nothing:1"];
    store.namespace.kubectl(broken).succeed().await?;
    until("the StatefulSet's image is restored", REPAIR_LIMIT, async || {
        let now = image().await?;
        if now == before { Ok(()) } else { Err(NotYet(format!("image {now:?}"))) }
    })
    .await
}

/// The StatefulSet's controller may still be busy with what was restored: then another pod is to come.
async fn pod_is_the_restored_sets(store: &Store) -> Told {
    until("the pod is made from the restored StatefulSet", READY_LIMIT, async || {
        let set = stateful_set(store).await?;
        let pod = store.pod().await?;
        let status = set.status.unwrap_or_default();
        let is_seen = status.observed_generation == set.metadata.generation;
        let is_newest = status.update_revision.as_ref() == pod.labels().get("controller-revision-hash");
        if is_seen && is_newest && is_ready(&pod) { Ok(()) } else { Err(NotYet(format!("{status:?}"))) }
    })
    .await
}

/// No write by the operator for a while. That the log would tell of one is proven by those that came before.
async fn nothing_is_written(store: &Store, told_since: Position) -> Told {
    let audit = &store.namespace.cluster.audit;
    let writes = |since| audit.operator_writes(&store.namespace.name, since);
    let begin = audit.at_rest(&store.namespace.name).await?;
    let earlier = writes(told_since)?;
    for expected in ["patch statefulsets orders", "patch services orders", "patch kvsstores/status orders"] {
        assert!(earlier.iter().any(|write| write == expected), "the log lacks '{expected}': {earlier:?}");
    }
    sleep(SILENCE).await;
    let later = writes(begin)?;
    assert!(later.is_empty(), "a quiet store was written to: {later:?}");
    Ok(())
}

async fn stateful_set(store: &Store) -> Result<StatefulSet, Failure> {
    let sets = Api::<StatefulSet>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    sets.get(&store.name).await.map_err(Failure::kubernetes("reading the StatefulSet"))
}
