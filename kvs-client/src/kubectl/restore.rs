//! `restore`: a new store that begins with a backup, and is otherwise as the one that was backed up.
//!
//! What must hold: no store that is there is touched; the new one is neither asleep nor paused, whatever the old one is.

use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::KubectlError;
use super::backup::{GET_BACKUP, kvs_backups, outcome};
use super::cluster::{Cluster, Condition, Right, json};
use crate::arguments::RestoreFlags;
use crate::error::Error;
use crate::output::Output;
use crate::store::kvs_stores;

const CREATE_STORE: Right = Right::namespaced("create", "kvsstores", "kvs.aryavarth.io");

/// Makes it.
pub(super) async fn run(cluster: &Cluster, flags: &RestoreFlags, output: Output) -> Result<(), Error> {
    let (name, from) = (&flags.store.name, &flags.from);
    let backups = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &kvs_backups());
    let backup = json(&cluster.call(GET_BACKUP, backups.get(from)).await?);
    if !matches!(outcome(&backup), Some(Ok(()))) {
        let cause = format!(
            "backup {}/{from} is not complete, and a store that begins with it would never start; `kubectl --namespace \
             {0} get kvsbackups` lists those that are",
            cluster.namespace
        );
        return Err(KubectlError::WrongState(cause).into());
    }
    let backed_up = backup["spec"]["storeRef"]["name"].as_str().unwrap_or_default();
    let model = flags.like.as_deref().unwrap_or(backed_up);
    let model = match cluster.store(model).await {
        Ok(store) => json(&store),
        Err(KubectlError::NotFound { .. }) if flags.like.is_none() => {
            let cause = format!(
                "the store {}/{backed_up} that was backed up is gone, and its spec with it; name another one whose spec \
                 the new store is to have with --like STORE",
                cluster.namespace
            );
            return Err(KubectlError::WrongState(cause).into());
        }
        Err(error) => return Err(error.into()),
    };
    let stores = Api::<DynamicObject>::namespaced_with(cluster.client.clone(), &cluster.namespace, &kvs_stores());
    let store = DynamicObject::new(name, &kvs_stores()).data(json!({"spec": spec(&model, from)}));
    cluster.call(CREATE_STORE, stores.create(&PostParams::default(), &store)).await?;
    let place = format!("{}/{name}", cluster.namespace);
    let mut object = json!({"store": place, "backup": from, "done": false});
    let Some(limit) = flags.wait.limit() else {
        let next = cluster.command("status", name);
        return output.report(&format!("{place} is made; `{next}` shows how far it is"), &object);
    };
    let awaited = format!("{place} answers with the data of backup {from}");
    let next = cluster.command("doctor", name);
    cluster
        .wait_for(&awaited, limit, &next, async || {
            Ok(match Condition::find(&json(&cluster.store(name).await?), "Ready") {
                Some(ready) if ready.holds && ready.is_current => Ok(()),
                Some(ready) => Err(ready.words()),
                None => Err("the operator has not reported about it yet (is kvs-operator running?)".to_owned()),
            })
        })
        .await?;
    object["done"] = true.into();
    output.report(&awaited, &object)
}

/// The spec of the new store. Pure.
fn spec(model: &Value, from: &str) -> Value {
    let mut spec = model["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("desiredState");
        fields.remove("reconcilePolicy");
    }
    spec["bootstrap"] = json!({"backupRef": {"name": from}});
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_store_is_as_the_old_one_but_for_sleep_pause_and_beginning() {
        let model = json!({"spec": {
            "engine": "kvs", "desiredState": "Hibernated", "reconcilePolicy": "Paused",
            "bootstrap": {"backupRef": {"name": "older"}},
        }});
        let expected = json!({"engine": "kvs", "bootstrap": {"backupRef": {"name": "monday"}}});
        assert_eq!(spec(&model, "monday"), expected);
    }
}
