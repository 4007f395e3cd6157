//! What befalls a store by mistake or bad luck.
//!
//! What must hold each time: the condition and an event name the cause, and what was acknowledged is there again when the
//! cause is gone.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::server_process::ServerProcess;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, repository, until};
use serde_json::json;

use super::access::says;

/// The part of docs/operator.md whose commands bring a claim's data back.
const RESCUE: &str = "## A volume claim that was deleted by mistake";

/// A claim that somebody deleted takes no data with it, when a person does what the message and the document say.
pub(super) async fn claim_deleted(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    let claim = store.claim().await?;
    let volume = volume(&store).await?.name_any();
    let delete = ["delete", "persistentvolumeclaim", &store.claim_name(), "--wait=false"];
    namespace.kubectl(delete).succeed().await?;

    let message = is_told(&store, "VolumeClaimDeleted").await?;
    assert!(message.contains(&store.claim_name()) && message.contains(&volume), "{message}");
    let object = store.read().await?;
    assert_eq!(condition(&object, "Available")["status"], "True", "it goes on meanwhile");
    assert_eq!(store.get("order/1").await?, "kept");

    let document = fs::read_to_string(repository().join("docs/operator.md"));
    let document = document.map_err(Failure::io("reading docs/operator.md"))?;
    let part = document.split_once(RESCUE).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or_default());
    let commands =
        part.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```")).map_or("", |(block, _)| block);
    assert!(commands.contains("claimRef"), "the document has commands for it: {part}");
    let first = commands.lines().next().unwrap_or_default().replace("VOLUME", &volume);
    assert!(message.contains(&first), "message and document agree: {first}");
    // As a person who has kubectl-kvs and this namespace as the current one.
    let line = format!(
        "kubectl() {{ if [ \"$1\" = kvs ]; then shift; kvs-client kubectl \"$@\" --namespace {0}; else command kubectl --namespace {0} \"$@\"; fi; }}\n{1}",
        namespace.name,
        commands.replace("VOLUME", &volume)
    );
    namespace.cluster.shell(&line).limit(READY_LIMIT * 2).succeed().await?;
    store.ready().await?;
    let now = store.claim().await?;
    assert!(now.uid() != claim.uid() && now.metadata.deletion_timestamp.is_none(), "it is another claim");
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await?;
    // As it was, so that the volume goes with this namespace.
    let policy = Patch::Merge(json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}));
    let volumes = Api::<PersistentVolume>::all(namespace.cluster.client.clone());
    let patched = volumes.patch(&volume, &PatchParams::default(), &policy).await;
    patched.map(drop).map_err(Failure::kubernetes("letting the volume go"))
}

/// An image that no node has ends the store that was to run it, and the former image brings it back by itself.
pub(super) async fn image_missing(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    let image = "localhost/aryavarth/kvs-server:no-such-version";
    store.apply(&format!("{{image: '{image}'}}")).await?;
    let message = is_told(&store, "ImagePullFailed").await?;
    assert!(message.contains(image) && message.contains("spec.image"), "{message}");
    store.apply("{}").await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

/// A volume of another store is refused and left as it is.
pub(super) async fn foreign_volume(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    let identity = data_folder(&store).await?.join("identity.json");
    let own = fs::read_to_string(&identity).map_err(Failure::io(format!("reading {}", identity.display())))?;
    let foreign = own.replace(&store.full_name(), &format!("{}/other", namespace.name));
    assert_ne!(own, foreign, "the identity names its store");
    let write = |text: &str| fs::write(&identity, text).map_err(Failure::io(format!("writing {}", identity.display())));
    write(&foreign)?;
    ServerProcess::of(&store.pod().await?)?.kill()?;
    let message = is_told(&store, "ForeignVolume").await?;
    assert!(message.contains(&store.full_name()) && message.contains("/other"), "{message}");
    assert_eq!(fs::read_to_string(&identity).unwrap_or_default(), foreign, "it is left as it is");

    write(&own)?;
    namespace.kubectl(["delete", "pod", &store.pod_name()]).succeed().await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

/// A disk that fails under a server ends it with the cause; when the file system is whole again, so is the store.
pub(super) async fn disk_fails(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    let content = content(&store).await?;
    // DATA/NODE/volumes/VOLUME/content, of the file DATA/images/VOLUME.img
    let mount = content.parent().map(PathBuf::from).unwrap_or_default();
    let name = mount.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let data = mount.ancestors().nth(3).map(PathBuf::from).unwrap_or_default();
    let image = data.join("images").join(format!("{name}.img"));
    let shell = |line: String| namespace.cluster.shell(&line).succeed();
    shell(format!("/usr/sbin/xfs_io -x -c shutdown {}", mount.display())).await?;
    let refused = store.client(["--timeout", "5", "set", "order/2", "not stored"]).fail().await?;
    assert!(!refused.stderr.is_empty());
    // The server that starts next can't even open its folder, so the condition says that soon; the event stays.
    event(&store, "StorePoisoned").await?;
    until("the store says that its server fails", READY_LIMIT, async || {
        let degraded = condition(&store.read().await?, "Degraded");
        let is_named = matches!(degraded["reason"].as_str(), Some("StorePoisoned" | "ServerFailed"));
        if degraded["status"] == "True" && is_named { Ok(()) } else { Err(NotYet(degraded.to_string())) }
    })
    .await?;

    store.apply("{desiredState: Hibernated}").await?;
    says(&store, "Ready", "Hibernated").await?;
    // A container that is being made has a copy of every mount for a moment; its device tells when nobody has it any more.
    let again = "umount MOUNT; until [ -z \"$(/usr/sbin/losetup --associated IMAGE)\" ]; do sleep 0.1; done; mount -o loop IMAGE MOUNT";
    let again = again.replace("MOUNT", &mount.display().to_string()).replace("IMAGE", &image.display().to_string());
    shell(again).await?;
    store.apply("{desiredState: Running}").await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

/// A configuration that somebody spoiled while the operator had its hands off is named, and repaired when it may.
pub(super) async fn configuration_spoiled(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    store.apply("{reconcilePolicy: Paused}").await?;
    says(&store, "Paused", "ReconcilePolicyPaused").await?;
    let maps = Api::<ConfigMap>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let name = format!("{}-config", store.name);
    let map = maps.get(&name).await.map_err(Failure::kubernetes("reading the configuration"))?;
    let spoiled: serde_json::Map<String, serde_json::Value> = map
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(file, text)| (file, json!(format!("{text}\nnoSuchSetting: 1\n"))))
        .collect();
    let patch = Patch::Merge(json!({"data": spoiled}));
    maps.patch(&name, &PatchParams::default(), &patch).await.map_err(Failure::kubernetes("spoiling it"))?;
    namespace.kubectl(["delete", "pod", &store.pod_name()]).succeed().await?;
    let message = is_told(&store, "ConfigurationRefused").await?;
    assert!(message.contains("noSuchSetting"), "{message}");

    store.apply("{reconcilePolicy: Managed}").await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

/// A store that is Ready and has acknowledged `order/1`.
pub(super) async fn with_an_order(namespace: &Namespace) -> Result<Store, Failure> {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    Ok(store)
}

/// Waits until `Degraded` names this cause and an event has told it, and returns the message.
pub(super) async fn is_told(store: &Store, reason: &str) -> Result<String, Failure> {
    let message = until(format!("the store says {reason}"), READY_LIMIT, async || {
        let degraded = condition(&store.read().await?, "Degraded");
        match degraded["message"].as_str() {
            Some(message) if degraded["reason"] == reason => Ok(message.to_owned()),
            _ => Err(NotYet(degraded.to_string())),
        }
    })
    .await?;
    event(store, reason).await?;
    Ok(message)
}

/// Waits until nothing needs a person any more.
pub(super) async fn is_well(store: &Store) -> Told {
    until("nothing needs a person any more", READY_LIMIT, async || {
        let degraded = condition(&store.read().await?, "Degraded");
        if degraded["status"] == "False" { Ok(()) } else { Err(NotYet(degraded.to_string())) }
    })
    .await
}

/// Waits for an event of the store with that reason.
async fn event(store: &Store, reason: &str) -> Told {
    let events = Api::<Event>::namespaced(store.namespace.cluster.client.clone(), &store.namespace.name);
    until(format!("an event says {reason}"), READY_LIMIT, async || {
        let list = events.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing events"))?;
        let of_store = list.iter().filter(|event| {
            event.regarding.as_ref().is_some_and(|about| {
                about.kind.as_deref() == Some("KvsStore") && about.name.as_deref() == Some(&store.name)
            })
        });
        let reasons: Vec<&str> = of_store.filter_map(|event| event.reason.as_deref()).collect();
        if reasons.contains(&reason) { Ok(()) } else { Err(NotYet(format!("{reasons:?}"))) }
    })
    .await
}

/// The volume of a store's claim.
async fn volume(store: &Store) -> Result<PersistentVolume, Failure> {
    let name = store.claim().await?.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    let volumes = Api::<PersistentVolume>::all(store.namespace.cluster.client.clone());
    volumes.get(&name).await.map_err(Failure::kubernetes(format!("reading volume {name}")))
}

/// What a store's volume holds, as this machine sees it: the test cluster's volumes are folders of it.
async fn content(store: &Store) -> Result<PathBuf, Failure> {
    let local = volume(store).await?.spec.and_then(|spec| spec.local);
    local.map(|local| PathBuf::from(local.path)).ok_or_else(|| Failure::Unexpected("the volume is no folder".into()))
}

/// The folder of a store's data.
async fn data_folder(store: &Store) -> Result<PathBuf, Failure> {
    Ok(content(store).await?.join("data"))
}
