//! Backups on a real volume, and stores that begin with them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use kvs_e2e::cluster::{kvs_backup_schedules, kvs_backups};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::server_process::ServerProcess;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};
use serde_json::json;

use super::access;

/// The longest wait for a backup: a volume to be made, an image that is there, a few bytes.
const BACKUP_LIMIT: Duration = Duration::from_secs(120);
/// The longest wait for a schedule's second backup: two minutes begin, and then it is made.
const SCHEDULE_LIMIT: Duration = Duration::from_secs(300);
/// How long nothing must be written after all is done.
const SILENCE: Duration = Duration::from_secs(3);
/// The store's pod looks at the backups' volume too, so that a test can damage what lies there.
const WITH_THE_VOLUME: &str = "podTemplate: {spec: {volumes: [{name: look, persistentVolumeClaim: {claimName: backups}}], \
    containers: [{name: kvs-server, volumeMounts: [{name: look, mountPath: /look}]}]}}";
/// Keys of the store.
const KEYS: u32 = 20;

/// A backup is made as soon as what it needs is there, and says what it waits for; a new store begins with it, byte for byte, and
/// needs it no more afterwards; one that was damaged is refused by its name and its file.
pub(super) async fn backup_is_restored(namespace: Namespace) -> Told {
    let orders = namespace.store("orders");
    order(&namespace, "early", "").await?;
    says(&namespace, "early", "StoreMissing").await?;
    claim(&namespace).await?;
    orders.apply(&format!("{{{WITH_THE_VOLUME}}}")).await?;
    orders.ready().await?;
    for number in 1..=KEYS {
        orders.set(&format!("order/{number}"), &format!("value <{number}>")).await?;
    }
    order(&namespace, "full", "").await?;
    let full = says(&namespace, "full", "Complete").await?;
    says(&namespace, "early", "Complete").await?;
    let status = &full.data["status"];
    assert!(status["sizeBytes"].as_i64().is_some_and(|bytes| bytes > 0), "{status}");
    assert!(status["sequence"].as_i64().is_some_and(|sequence| sequence >= i64::from(KEYS)), "{status}");
    assert!(status["sha256"].as_str().is_some_and(|sum| sum.len() == 64), "{status}");
    orders.set("order/1", "changed since").await?;

    let copy = namespace.store("copy");
    copy.apply("{bootstrap: {backupRef: {name: full}}}").await?;
    let ready = copy.ready().await?;
    assert_eq!(ready.data["status"]["restored"]["sha256"], status["sha256"]);
    for number in 1..=KEYS {
        assert_eq!(copy.get(&format!("order/{number}")).await?, format!("value <{number}>"));
    }
    assert_ne!(copy.server_status().await?["storeId"], orders.server_status().await?["storeId"], "another store");
    // What it began with is needed no more, even by a pod that is made anew.
    copy.set("order/1", "kept").await?;
    let pod = copy.pod().await?.uid().unwrap_or_default();
    namespace.kubectl(["delete", "kvsbackup", "full"]).succeed().await?;
    namespace.kubectl(["delete", "pod", &copy.pod_name()]).succeed().await?;
    copy.other_pod(&pod).await?;
    copy.ready().await?;
    assert_eq!(copy.get("order/1").await?, "kept", "and what was written since is there");

    damage(&orders, "early").await?;
    let broken = namespace.store("broken");
    broken.apply("{bootstrap: {backupRef: {name: early}}}").await?;
    until("the damage of the backup is told", READY_LIMIT, async || {
        let degraded = condition(&broken.read().await?, "Degraded");
        let names_file = degraded["message"].as_str().is_some_and(|message| message.contains("early"));
        if degraded["reason"] == "BackupDamaged" && names_file { Ok(()) } else { Err(NotYet(degraded.to_string())) }
    })
    .await?;
    let events = namespace.kubectl(["get", "events", "--output", "jsonpath={.items[*].reason}"]).succeed().await?;
    assert!(events.contains("BackupDamaged"), "{events}");
    broken.client(["--timeout", "5", "get", "order/1"]).fail().await?;

    let tree = namespace.store("tree");
    tree.apply("{engine: sled}").await?;
    tree.ready().await?;
    order_of(&namespace, "tree", "of-sled", "").await?;
    let refused = says(&namespace, "of-sled", "EngineHasNoBackup").await?;
    assert_eq!(condition(&refused, "Failed")["status"], "True");
    Ok(())
}

/// A store with a token and TLS is backed up and restored with its own Secrets; a Job that someone stops goes on.
pub(super) async fn secured_store_is_backed_up(namespace: Namespace) -> Told {
    claim(&namespace).await?;
    let orders = namespace.store("orders");
    let secured = "auth: {mode: Token, tokenSecretRef: {name: orders-token, key: token}}, tls: {mode: Mutual, secretName: orders-tls}";
    access::secret(&namespace, "orders-token", &[("token", "token-of-this-story")]).await?;
    access::certificate(&namespace, "orders").await?;
    let clients = "networkPolicy: {clients: [{podSelector: {matchLabels: {app: shop}}}]}";
    orders.apply(&format!("{{{secured}, {clients}}}")).await?;
    orders.ready().await?;
    orders.set("order/1", "kept").await?;
    // No pod can start, so that the Job is still there when it is stopped.
    namespace.kubectl(["create", "quota", "no-more-pods", "--hard=pods=1"]).succeed().await?;
    order(&namespace, "monday", "").await?;
    let job = ["get", "job", "monday-backup", "--output", "jsonpath={.spec.suspend}"];
    until("the Job is there", BACKUP_LIMIT, async || {
        let job = namespace.kubectl(job).run().await?;
        if job.stdout == "false" { Ok(()) } else { Err(NotYet(job.stderr)) }
    })
    .await?;
    namespace
        .kubectl(["patch", "job", "monday-backup", "--patch", "{\"spec\": {\"suspend\": true}}"])
        .succeed()
        .await?;
    until("the Job goes on", READY_LIMIT, async || {
        let suspend = namespace.kubectl(job).succeed().await?;
        if suspend == "false" { Ok(()) } else { Err(NotYet(suspend)) }
    })
    .await?;
    namespace.kubectl(["delete", "quota", "no-more-pods"]).succeed().await?;
    says(&namespace, "monday", "Complete").await?;

    let copy = namespace.store("copy");
    copy.apply("{bootstrap: {backupRef: {name: monday}}}").await?;
    copy.ready().await?;
    assert_eq!(copy.get("order/1").await?, "kept");
    let since = namespace.cluster.audit.at_rest(&namespace.name).await?;
    tokio::time::sleep(SILENCE).await;
    let writes = namespace.cluster.audit.operator_writes(&namespace.name, since)?;
    assert!(writes.is_empty(), "what has ended costs no write: {writes:?}");
    Ok(())
}

/// A schedule makes a backup, and the next one takes the place of the first, whose data goes with it.
pub(super) async fn schedule_makes_and_replaces(namespace: Namespace) -> Told {
    claim(&namespace).await?;
    let orders = namespace.store("orders");
    orders.apply(&format!("{{{WITH_THE_VOLUME}}}")).await?;
    orders.ready().await?;
    orders.set("order/1", "kept").await?;
    let schedule = json!({
        "apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsBackupSchedule", "metadata": {"name": "often"},
        "spec": {
            "storeRef": {"name": "orders"}, "target": {"persistentVolumeClaim": {"claimName": "backups"}},
            "schedule": "* * * * *", "timeZone": "Asia/Kolkata", "keep": {"last": 1},
        },
    });
    namespace.apply(schedule.to_string()).await?;
    let backups = objects(&namespace, &kvs_backups());
    let mut first = None;
    until("the second backup has replaced the first", SCHEDULE_LIMIT, async || {
        let list = backups.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing backups"))?;
        let complete = list.iter().filter(|backup| condition(backup, "Complete")["status"] == "True");
        let names: Vec<String> = complete.map(|backup| backup.name_any()).collect();
        if first.is_none() {
            first = names.first().cloned();
        }
        match &first {
            Some(first) if !names.is_empty() && !list.iter().any(|backup| backup.name_any() == *first) => Ok(()),
            _ => Err(NotYet(format!("complete: {names:?}"))),
        }
    })
    .await?;
    let suspend = ["patch", "kvsbackupschedule", "often", "--type=merge", "--patch", "{\"spec\": {\"suspend\": true}}"];
    namespace.kubectl(suspend).succeed().await?;
    let schedules = objects(&namespace, &kvs_backup_schedules());
    until("the schedule rests", READY_LIMIT, async || {
        let schedule = schedules.get("often").await.map_err(Failure::kubernetes("reading the schedule"))?;
        let status = &schedule.data["status"];
        let rests = condition(&schedule, "Scheduled")["reason"] == "Suspended" && status["active"].is_null();
        if rests && status["lastSuccessfulTime"].is_string() { Ok(()) } else { Err(NotYet(status.to_string())) }
    })
    .await?;
    let folders = folders(&orders).await?;
    let first = first.unwrap_or_default();
    assert!(!folders.is_empty() && !folders.iter().any(|folder| folder.starts_with(&first)), "{first}: {folders:?}");
    Ok(())
}

/// A volume for backups.
async fn claim(namespace: &Namespace) -> Told {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backups"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "128Mi"}}},
    });
    namespace.apply(claim.to_string()).await
}

/// Orders a backup of the store `orders`.
async fn order(namespace: &Namespace, name: &str, more: &str) -> Told {
    order_of(namespace, "orders", name, more).await
}

async fn order_of(namespace: &Namespace, store: &str, name: &str, more: &str) -> Told {
    let backup = format!(
        "{{apiVersion: kvs.aryavarth.io/v1alpha1, kind: KvsBackup, metadata: {{name: {name}}}, \
         spec: {{storeRef: {{name: {store}}}, target: {{persistentVolumeClaim: {{claimName: backups}}}}{more}}}}}"
    );
    namespace.apply(backup).await
}

/// Waits until a backup says so.
async fn says(namespace: &Namespace, name: &str, reason: &str) -> Result<DynamicObject, Failure> {
    let backups = objects(namespace, &kvs_backups());
    until(format!("KvsBackup {name} says {reason}"), BACKUP_LIMIT, async || {
        let backup = backups.get(name).await.map_err(Failure::kubernetes(format!("reading KvsBackup {name}")))?;
        let complete = condition(&backup, "Complete");
        if complete["reason"] == reason { Ok(backup) } else { Err(NotYet(complete.to_string())) }
    })
    .await
}

fn objects(namespace: &Namespace, kind: &kube::api::ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(namespace.cluster.client.clone(), &namespace.name, kind)
}

/// The folder of the store's backups, as its pod sees it.
async fn look(store: &Store) -> Result<PathBuf, Failure> {
    Ok(ServerProcess::of(&store.pod().await?)?.root().join("look/orders"))
}

async fn folders(store: &Store) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(look(store).await?).map_err(Failure::io("listing the backups"))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect())
}

/// Flips a bit in the largest file of a backup.
async fn damage(store: &Store, backup: &str) -> Told {
    let folder = look(store).await?;
    let name = folders(store).await?.into_iter().find(|name| name.starts_with(backup) && !name.ends_with(".sha256"));
    let name = name.ok_or_else(|| Failure::Unexpected(format!("no folder of the backup {backup}")))?;
    let files = fs::read_dir(folder.join(name)).map_err(Failure::io("listing a backup"))?;
    let files = files.filter_map(|file| Some((file.as_ref().ok()?.metadata().ok()?.len(), file.ok()?.path())));
    let (_, file) = files.max().ok_or_else(|| Failure::Unexpected("the backup is empty".into()))?;
    let mut bytes = fs::read(&file).map_err(Failure::io("reading a file of the backup"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).map_err(Failure::io("damaging a file of the backup"))
}
