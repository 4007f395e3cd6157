//! `backup`: makes a KvsBackup of a store, and waits for what becomes of it.
//!
//! What must hold: a backup that failed is an error with its cause; one that is still under way when the wait is over
//! goes on.

use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use serde_json::{Value, json};

use super::KubectlError;
use super::cluster::{Cluster, Condition, Right, json};
use crate::arguments::BackupsFlags;
use crate::error::Error;
use crate::escape;
use crate::output::Output;

pub(super) const GET_BACKUP: Right = Right::namespaced("get", "kvsbackups", "kvs.aryavarth.io");
const CREATE_BACKUP: Right = Right::namespaced("create", "kvsbackups", "kvs.aryavarth.io");
/// The longest name of a backup, in bytes, as its definition has it.
const LONGEST_NAME_BYTES: usize = 48;

/// The resource, without its Rust type.
pub(super) fn kvs_backups() -> ApiResource {
    ApiResource { kind: "KvsBackup".into(), plural: "kvsbackups".into(), ..crate::store::kvs_stores() }
}

/// Makes it.
pub(super) async fn run(cluster: &Cluster, flags: &BackupsFlags, output: Output) -> Result<(), Error> {
    let store = &flags.store.name;
    // Said here, because the operator could only say that it waits for the store.
    cluster.store(store).await?;
    let backups = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &kvs_backups());
    let name = flags.backup.clone().unwrap_or_else(|| name_at(store, Timestamp::now()));
    let mut backup = DynamicObject::new(&name, &kvs_backups()).data(json!({"spec": spec(flags)}));
    backup.metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    cluster.call(CREATE_BACKUP, backups.create(&PostParams::default(), &backup)).await?;
    let place = format!("{}/{name}", cluster.namespace);
    let Some(limit) = flags.wait.limit() else {
        let object = json!({"backup": place, "store": store, "done": false});
        return output
            .report(&format!("{place} is begun; `kubectl get kvsbackup {name}` shows how far it is"), &object);
    };
    let next = format!("kubectl --namespace {} get kvsbackup {name}", cluster.namespace);
    let status = cluster
        .wait_for(&format!("backup {place} is complete"), limit, &next, async || {
            let backup = json(&cluster.call(GET_BACKUP, backups.get(&name)).await?);
            match outcome(&backup) {
                Some(Ok(())) => Ok(Ok(backup["status"].clone())),
                Some(Err(cause)) => {
                    let words = format!("backup {place} failed: {}", escape::line(&cause));
                    Err(KubectlError::WrongState(words).into())
                }
                None => Ok(Err(progress(&backup))),
            }
        })
        .await?;
    let (bytes, path) = (status["sizeBytes"].as_u64().unwrap_or(0), status["path"].as_str().unwrap_or_default());
    let text = format!(
        "{place} is complete: {bytes} bytes in {path} of volume claim {}; `kubectl kvs restore NEWSTORE --from {name} \
         --namespace {}` makes a store of it",
        flags.claim, cluster.namespace
    );
    output.report(&escape::line(&text), &json!({"backup": place, "store": store, "done": true, "status": status}))
}

fn spec(flags: &BackupsFlags) -> Value {
    let mut volume = json!({"claimName": flags.claim});
    if let Some(path) = &flags.path {
        volume["path"] = path.as_str().into();
    }
    json!({"storeRef": {"name": flags.store.name}, "target": {"persistentVolumeClaim": volume}})
}

/// `STORE-20260301-120000`, the store's name cut where it would be too long.
fn name_at(store: &str, now: Timestamp) -> String {
    let time = now.strftime("%Y%m%d-%H%M%S").to_string();
    let longest = LONGEST_NAME_BYTES - time.len() - 1;
    let store = store.get(..longest).unwrap_or(store).trim_end_matches('-');
    format!("{store}-{time}")
}

/// What became of a backup; `None` while it is under way.
pub(super) fn outcome(backup: &Value) -> Option<Result<(), String>> {
    if Condition::find(backup, "Complete").is_some_and(|complete| complete.holds) {
        return Some(Ok(()));
    }
    Condition::find(backup, "Failed").filter(|failed| failed.holds).map(|failed| Err(failed.words()))
}

/// What is seen while it is under way.
fn progress(backup: &Value) -> String {
    let complete = Condition::find(backup, "Complete").map(|complete| complete.words());
    match complete.filter(|words| !words.is_empty()) {
        Some(words) => words,
        None if backup["status"]["startedAt"].is_string() => "its Job runs".to_owned(),
        None => "the operator has not begun it yet (is kvs-operator running?)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_called_after_its_store_and_the_time() {
        let now: Timestamp = "2026-03-01T12:00:05Z".parse().unwrap();
        assert_eq!(name_at("orders", now), "orders-20260301-120005");
        let long = name_at(&format!("{}-{}", "x".repeat(31), "y".repeat(16)), now);
        assert_eq!(long, format!("{}-20260301-120005", "x".repeat(31)));
    }

    #[test]
    fn only_a_condition_that_holds_ends_it() {
        let with = |name: &str, status: &str| {
            json!({"status": {"conditions": [
                {"type": name, "status": status, "reason": "JobFailed", "message": "no space"},
            ]}})
        };
        assert_eq!(outcome(&json!({})), None);
        assert_eq!(outcome(&with("Complete", "True")), Some(Ok(())));
        assert_eq!(outcome(&with("Failed", "True")), Some(Err("JobFailed: no space".into())));
        assert_eq!(outcome(&with("Complete", "False")), None);
        assert_eq!(progress(&with("Complete", "False")), "JobFailed: no space");
        assert!(progress(&json!({})).contains("kvs-operator"));
    }
}
