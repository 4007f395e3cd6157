//! A larger volume for a store that serves.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};

/// What a person does next, after asking for more.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The file system grew while the server ran.
    Nothing,
    /// This machine's kernel grows no file system that is in use; the resource says so.
    DeleteThePod,
}

/// The volume grows, under the running server where the machine can, else when the resource's advice is followed; the
/// data stays.
pub(super) async fn volume_grows(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{storage: {size: 64Mi}}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let before = store.pod().await?.uid().unwrap_or_default();
    let set = stateful_set(&store).await?.uid();

    store.apply("{storage: {size: 96Mi}}").await?;
    until("the StatefulSet is made again with the new size", READY_LIMIT, async || {
        let now = stateful_set(&store).await?;
        let is_well = now.status.as_ref().is_some_and(|status| status.ready_replicas == Some(1));
        match template_size(&now) {
            Some(size) if size == "96Mi" && now.uid() != set && is_well => Ok(()),
            size => Err(NotYet(format!("claim template of {size:?}, well: {is_well}"))),
        }
    })
    .await?;
    assert_eq!(store.pod().await?.uid().as_ref(), Some(&before), "no pod restarts for it");
    assert!(
        store.pod().await?.owner_references().iter().any(|owner| Some(&owner.uid) != set.as_ref()),
        "it is adopted"
    );
    let next = until("the volume has its new size or the resource says what to do", READY_LIMIT, async || {
        let object = store.read().await?;
        if is_grown(&object) {
            return Ok(Next::Nothing);
        }
        let resized = condition(&object, "StorageResized");
        let advises = resized["message"].as_str().is_some_and(|message| message.contains("delete the pod"));
        if advises { Ok(Next::DeleteThePod) } else { Err(NotYet(resized.to_string())) }
    })
    .await?;
    match next {
        Next::Nothing => assert_eq!(store.pod().await?.uid().as_ref(), Some(&before), "growing restarts nothing"),
        Next::DeleteThePod => {
            assert_eq!(condition(&store.read().await?, "Available")["status"], "True", "it serves meanwhile");
            namespace.kubectl(["delete", "pod", &store.pod_name()]).succeed().await?;
            store.other_pod(&before).await?;
        }
    }
    let capacity = grown_capacity(&store).await?;
    assert_eq!(capacity.as_deref(), Some("96Mi"), "the claim agrees");
    assert_eq!(store.get("order/1").await?, "kept");
    Ok(())
}

/// A class without expansion leaves the store serving as it is, and the resource says who must change what.
pub(super) async fn class_that_cannot_grow(namespace: Namespace) -> Told {
    let classes = Api::<StorageClass>::all(namespace.cluster.client.clone());
    let usual = classes.get("local").await.map_err(Failure::kubernetes("reading the cluster's class"))?;
    let name = format!("fixed-{}", namespace.name);
    let manifest = serde_json::json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": usual.provisioner, "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete",
    });
    namespace.apply(manifest.to_string()).await?;
    let told = cannot_grow(&namespace.store("orders"), &name).await;
    classes
        .delete(&name, &kube::api::DeleteParams::default())
        .await
        .map_err(Failure::kubernetes("deleting the class"))?;
    told
}

async fn cannot_grow(store: &Store, class: &str) -> Told {
    store.apply(&format!("{{storage: {{size: 64Mi, storageClassName: {class}}}}}")).await?;
    store.ready().await?;
    let (pod, set) = (store.pod().await?.uid(), stateful_set(store).await?.uid());
    store.apply(&format!("{{storage: {{size: 96Mi, storageClassName: {class}}}}}")).await?;
    until("the resource says what to do", READY_LIMIT, async || {
        let resized = condition(&store.read().await?, "StorageResized");
        let advises = resized["message"].as_str().is_some_and(|message| message.contains("allowVolumeExpansion: true"));
        let is_refused = resized["status"] == "False" && resized["reason"] == "GrowthRefused";
        if is_refused && advises { Ok(()) } else { Err(NotYet(resized.to_string())) }
    })
    .await?;
    store.ready().await?;
    assert_eq!((store.pod().await?.uid(), stateful_set(store).await?.uid()), (pod, set), "nothing is touched");
    Ok(())
}

async fn stateful_set(store: &Store) -> Result<StatefulSet, Failure> {
    let sets = Api::<StatefulSet>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    sets.get(&store.name).await.map_err(Failure::kubernetes("reading the StatefulSet"))
}

/// The size that a StatefulSet's claim template asks for.
fn template_size(set: &StatefulSet) -> Option<String> {
    let template = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?;
    Some(template.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

async fn grown_capacity(store: &Store) -> Result<Option<String>, Failure> {
    until("the resource has its new size", READY_LIMIT, async || {
        let object = store.read().await?;
        if is_grown(&object) { Ok(()) } else { Err(NotYet(condition(&object, "StorageResized").to_string())) }
    })
    .await?;
    let capacity = store.claim().await?.status.and_then(|status| status.capacity).unwrap_or_default();
    Ok(capacity.get("storage").map(|quantity| quantity.0.clone()))
}

fn is_grown(store: &DynamicObject) -> bool {
    let capacity = store.data.pointer("/status/storage/capacity");
    condition(store, "StorageResized")["status"] == "True" && capacity.is_some_and(|capacity| capacity == "96Mi")
}
