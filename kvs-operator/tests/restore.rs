//! A store that begins with a backup: no pod without it, one pod that restores it, and none that still needs it later.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, plan};
use kvs_operator::resource::{KvsBackup, Restored};
use kvs_operator::restore::Origin;
use serde_json::json;
use support::{applied, store_with, valid};

const SPEC: &str = "{bootstrap: {backupRef: {name: monday}}}";

fn source() -> Restored {
    Restored {
        backup: "monday".into(),
        sha256: "ab".repeat(32),
        claim_name: "backups".into(),
        path: "orders/monday-99999999".into(),
    }
}

fn backup(condition: &str) -> KvsBackup {
    let status = if condition.is_empty() {
        json!({})
    } else {
        json!({
            "conditions": [{"type": condition, "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-12-01T00:00:00Z"}],
            "path": "orders/monday-99999999", "sha256": "ab".repeat(32),
        })
    };
    serde_json::from_value(json!({
        "apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsBackup", "metadata": {"name": "monday"},
        "spec": {"storeRef": {"name": "orders"}, "target": {"persistentVolumeClaim": {"claimName": "backups"}}},
        "status": status,
    }))
    .unwrap()
}

/// The pods' spec that a plan writes, if it writes one.
fn planned(observed: &Observed, spec: &str) -> Option<PodSpec> {
    let plan = plan(observed, &valid(&store_with(spec)));
    plan.writes.into_iter().find_map(|write| match write.child {
        Child::StatefulSet(set) => set.spec?.template.spec,
        _ => None,
    })
}

fn restores(spec: &PodSpec) -> bool {
    let named = |name: &str| spec.volumes.iter().flatten().any(|volume| volume.name == name);
    let container = spec.init_containers.iter().flatten().any(|container| container.name == "kvs-restore");
    assert_eq!(container, named("kvs-backups"), "the container and its volume go together");
    container
}

/// A pod of the template that was applied, in this phase; its first container ended with this code.
fn pod(observed: &Observed, phase: &str, code: Option<i32>) -> Arc<Pod> {
    let template = observed.stateful_set.as_ref().unwrap().spec.clone().unwrap().template;
    let state = code.map_or(json!({"running": {}}), |code| json!({"terminated": {"exitCode": code}}));
    let status = json!({"phase": phase, "initContainerStatuses": [
        {"name": "kvs-restore", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state},
    ]});
    Arc::new(Pod {
        metadata: template.metadata.unwrap(),
        spec: template.spec,
        status: serde_json::from_value(status).unwrap(),
    })
}

/// A cluster in which the store was applied while its backup was there.
fn begun() -> Observed {
    let fresh = Observed { origin: Origin::Backup(source()), ..Observed::default() };
    Observed { origin: Origin::Backup(source()), ..applied(plan(&fresh, &valid(&store_with(SPEC)))) }
}

#[test]
fn a_backup_is_judged_by_its_status_unless_it_was_restored() {
    let judge = |backup: Option<&KvsBackup>| Origin::judge("monday", None, backup);
    let reason = |origin: Origin| origin.blocked().map(|blocked| (blocked.reason, blocked.is_fault));
    assert_eq!(judge(Some(&backup("Complete"))), Origin::Backup(source()));
    assert_eq!(reason(judge(None)), Some(("BackupMissing", true)));
    assert_eq!(reason(judge(Some(&backup("Failed")))), Some(("BackupFailed", true)));
    assert_eq!(reason(judge(Some(&backup("")))), Some(("WaitingForBackup", false)));
    assert_eq!(Origin::judge("monday", Some(&source()), None), Origin::Restored(source()), "it is needed no more");
    assert!(Origin::judge("tuesday", Some(&source()), None).blocked().is_some(), "that was another one");
}

#[test]
fn no_pod_is_made_that_would_begin_without_the_backup() {
    for spec in [SPEC, "{bootstrap: {backupRef: {name: monday}}, desiredState: Hibernated}"] {
        let blocked = Observed { origin: Origin::judge("monday", None, None), ..Observed::default() };
        assert!(planned(&blocked, spec).is_none(), "{spec}");
    }
    // Nor is one changed, when the backup vanishes before it was restored.
    let vanished = Observed { origin: Origin::judge("monday", None, None), ..begun() };
    assert!(planned(&vanished, SPEC).is_none());
    let plan = plan(&vanished, &valid(&store_with(SPEC)));
    assert!(plan.recreation.is_none() && plan.removals.is_empty());
}

#[test]
fn the_first_container_restores_exactly_this_backup() {
    let fresh = Observed { origin: Origin::Backup(source()), ..Observed::default() };
    let spec = planned(&fresh, SPEC).unwrap();
    assert!(restores(&spec));
    let container = &spec.init_containers.as_ref().unwrap()[0];
    let command = container.command.as_ref().unwrap().join(" ");
    assert_eq!(
        command,
        format!(
            "/kvs-server restore --from /backups/orders/monday-99999999 --sha256 {} --data-dir /var/lib/kvs/data --engine kvs --store shop/orders --termination-log /dev/termination-log",
            "ab".repeat(32)
        )
    );
    let mounts = container.volume_mounts.as_ref().unwrap();
    assert!(mounts.iter().any(|mount| mount.name == "kvs-backups" && mount.read_only == Some(true)));
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.read_only_root_filesystem, security.allow_privilege_escalation), (Some(true), Some(false)));
}

#[test]
fn it_is_remembered_once_the_container_has_ended_well() {
    let observed = begun();
    for (code, expected) in [(None, None), (Some(65), None), (Some(0), Some(source()))] {
        assert_eq!(observed.origin.restored(&[pod(&observed, "Pending", code)]), expected, "{code:?}");
    }
    let other = Origin::Backup(Restored { sha256: "cd".repeat(32), ..source() });
    assert_eq!(other.restored(&[pod(&observed, "Running", Some(0))]), None, "that pod restored another one");
}

#[test]
fn what_restored_a_store_goes_without_a_restart() {
    let done = |pods: Vec<Arc<Pod>>| Observed { origin: Origin::Restored(source()), pods, ..begun() };
    let running = || vec![pod(&begun(), "Running", Some(0))];
    assert!(planned(&done(running()), SPEC).is_none(), "a pod runs on it: nothing is written");
    let starting = vec![pod(&begun(), "Pending", Some(0))];
    assert!(planned(&done(starting), SPEC).is_none(), "it has restored and its server is about to start");
    // A pod that is being made anew, perhaps without its backup's volume, is not held up by it.
    for pods in [vec![], vec![pod(&begun(), "Pending", None)]] {
        assert!(!restores(&planned(&done(pods), SPEC).unwrap()));
    }
    // It goes with a change that restarts the pod anyway.
    let changed = "{bootstrap: {backupRef: {name: monday}}, resources: {limits: {memory: 1Gi}}}";
    assert!(!restores(&planned(&done(running()), changed).unwrap()));
    // A StatefulSet that is made again around its pods, for larger volumes, is made on the template that they run.
    let recreated = Observed { stateful_set: None, ..done(running()) };
    assert!(restores(&planned(&recreated, SPEC).unwrap()));
    // And when it has gone, it stays so.
    let without = planned(&done(vec![]), SPEC).unwrap();
    assert!(!restores(&without));
}
