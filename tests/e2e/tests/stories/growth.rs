//! A larger volume for a store that serves.

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

    store.apply("{storage: {size: 96Mi}}").await?;
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
