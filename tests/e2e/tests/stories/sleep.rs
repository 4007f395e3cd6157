//! A store that sleeps, and one that nobody looks after for a while.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use kube::{Api, ResourceExt as _};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};

/// Hibernation takes the pod and keeps volume, Services and configuration; Running goes on with the same data.
pub(super) async fn store_sleeps_and_wakes(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let (claim, identity) = (store.claim().await?.uid(), store.server_status().await?["storeId"].clone());

    store.apply("{desiredState: Hibernated}").await?;
    reads(&store, "Ready", "False", "Hibernated").await?;
    let pod = store.pods().get_opt("orders-0").await.map_err(Failure::kubernetes("reading the pod"))?;
    assert!(pod.is_none(), "no pod is left");
    assert_eq!(store.claim().await?.uid(), claim, "the volume stays");
    let services = Api::<Service>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    services.get("orders").await.map_err(Failure::kubernetes("reading the Service of a store that sleeps"))?;
    let object = store.read().await?;
    for (name, status) in [("Available", "False"), ("Progressing", "False"), ("Degraded", "False")] {
        assert_eq!(condition(&object, name)["status"], status, "{name}");
    }

    store.apply("{}").await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    assert_eq!(store.server_status().await?["storeId"], identity, "the store is who it was");
    Ok(())
}

/// A paused store is not written to, whatever is changed about it, and says what waits; Managed does all of it.
pub(super) async fn paused_store_is_looked_at(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.apply("{reconcilePolicy: Paused}").await?;
    reads(&store, "Paused", "True", "ReconcilePolicyPaused").await?;
    let audit = &namespace.cluster.audit;
    let begin = audit.at_rest(&namespace.name).await?;

    let sets = Api::<StatefulSet>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    namespace.kubectl(["delete", "service", "orders"]).succeed().await?;
    namespace
        .kubectl(["annotate", "statefulset", "orders", "kvs.aryavarth.io/applied-hash=x", "--overwrite"])
        .succeed()
        .await?;
    store.apply("{reconcilePolicy: Paused, threadPool: {strategy: rayon, size: 2}}").await?;
    until("the status tells what is not written", READY_LIMIT, async || {
        let paused = condition(&store.read().await?, "Paused");
        let message = paused["message"].as_str().unwrap_or_default();
        let expected = ["ConfigMap orders-config", "Service orders", "StatefulSet orders"];
        if expected.iter().all(|part| message.contains(part)) { Ok(()) } else { Err(NotYet(paused.to_string())) }
    })
    .await?;
    audit.at_rest(&namespace.name).await?;
    let writes = audit.operator_writes(&namespace.name, begin)?;
    let others: Vec<&String> = writes.iter().filter(|write| !is_status_or_event(write)).collect();
    assert!(others.is_empty(), "a paused operator wrote {others:?}");
    let object = store.read().await?;
    assert_eq!(condition(&object, "Ready")["reason"], "Paused");
    assert_eq!(condition(&object, "Available")["status"], "True", "its pod goes on");

    let before = store.pod().await?.uid().unwrap_or_default();
    store.apply("{threadPool: {strategy: rayon, size: 2}}").await?;
    store.other_pod(&before).await?;
    store.ready().await?;
    assert_eq!(store.server_status().await?["pool"], "rayon");
    let set = sets.get("orders").await.map_err(Failure::kubernetes("reading the StatefulSet"))?;
    assert_ne!(set.annotations().get("kvs.aryavarth.io/applied-hash").map(String::as_str), Some("x"));
    Ok(())
}

fn is_status_or_event(write: &str) -> bool {
    write.starts_with("patch kvsstores/status ") || write.split(' ').nth(1) == Some("events")
}

/// Waits until a condition says this of the present spec.
async fn reads(store: &Store, name: &str, status: &str, reason: &str) -> Result<DynamicObject, Failure> {
    until(format!("{name} is {status} because of {reason}"), READY_LIMIT, async || {
        let object = store.read().await?;
        let found = condition(&object, name);
        let is_current = found["observedGeneration"].as_i64() == object.metadata.generation;
        if is_current && found["status"] == status && found["reason"] == reason {
            return Ok(object);
        }
        Err(NotYet(found.to_string()))
    })
    .await
}
