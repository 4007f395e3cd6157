//! The twelve faults that people meet most, each as it looks from outside, and what is named first when there are several.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{diagnose, object, text};
use crate::kubectl::collect::{Collected, Purpose, SecretFacts, ServerFacts};

/// The time of every case.
const NOW: &str = "2026-03-01T12:00:00Z";

/// A store that is well, with all that belongs to it.
fn well() -> Collected {
    let store = json!({
        "metadata": {"name": "orders", "namespace": "shop", "generation": 4, "creationTimestamp": "2026-02-01T00:00:00Z"},
        "spec": {"storage": {"size": "64Mi"}},
        "status": {"observedGeneration": 4, "replicas": 1, "conditions": [
            condition("Ready", "True", "AllMembersReady", "1/1 members ready"),
            condition("Available", "True", "Serving", "1/1 members answer"),
            condition("Degraded", "False", "AsExpected", "nothing is wrong"),
            condition("SpecAccepted", "True", "Accepted", "every field can be served"),
            condition("Paused", "False", "Managed", "the operator keeps the store"),
        ]},
    });
    let definitions = serde_yaml_documents(include_str!("../../../../deploy/crds.yaml"));
    let definition = definitions.into_iter().find(|one| one["spec"]["names"]["kind"] == "KvsStore").unwrap();
    Collected {
        now: NOW.parse().unwrap(),
        store,
        pods: Ok(vec![pod("True", &json!({"running": {}}), &Value::Null)]),
        claims: Ok(vec![claim("fast", "pv-1")]),
        events: Ok(Vec::new()),
        classes: Ok(vec![json!({"metadata": {"name": "fast"}})]),
        secrets: Vec::new(),
        definition: Ok(definition),
        operators: Ok(vec![json!({
            "metadata": {"name": "kvs-operator", "namespace": "kvs-system"},
            "spec": {"replicas": 2}, "status": {"availableReplicas": 2},
        })]),
        leases: Ok(vec![lease("2026-03-01T11:59:57Z", "kvs-operator-1")]),
        servers: vec![Ok(ServerFacts {
            pod: "orders-0".into(),
            status: json!({"readOnly": false}),
            ..ServerFacts::default()
        })],
    }
}

fn serde_yaml_documents(text: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn condition(name: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": name, "status": status, "reason": reason, "message": message, "observedGeneration": 4})
}

fn set_condition(case: &mut Collected, condition: Value) {
    let conditions = case.store["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|found| found["type"] != condition["type"]);
    conditions.push(condition);
}

fn pod(ready: &str, state: &Value, last: &Value) -> Value {
    json!({"metadata": {"name": "orders-0"}, "spec": {"containers": [{"name": "kvs-server", "image": "registry/kvs-server:9"}]},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
        "containerStatuses": [{"name": "kvs-server", "image": "sha256:1", "state": state, "lastState": last}],
    }})
}

fn claim(class: &str, volume: &str) -> Value {
    json!({"metadata": {"name": "data-orders-0"}, "spec": {"storageClassName": class, "volumeName": volume}})
}

fn lease(renewed: &str, holder: &str) -> Value {
    json!({"metadata": {"name": "kvs-operator", "namespace": "kvs-system"},
           "spec": {"renewTime": renewed, "holderIdentity": holder}})
}

/// The causes, in order.
fn causes(case: &Collected) -> Vec<String> {
    diagnose(case, "shop", "orders").into_iter().map(|finding| finding.cause).collect()
}

type Plant = fn(&mut Collected);

fn secret_missing(case: &mut Collected) {
    case.store["spec"]["auth"] = json!({"mode": "Token", "tokenSecretRef": {"name": "auth", "key": "token"}});
    case.secrets =
        vec![SecretFacts { name: "auth".into(), purpose: Purpose::Token("token".into()), ..SecretFacts::default() }];
    case.pods = Ok(Vec::new());
    case.store["status"]["replicas"] = 0.into();
    set_condition(case, condition("Degraded", "True", "SecretMissing", "Secret auth does not exist; create it"));
    set_condition(case, condition("Ready", "False", "SecretMissing", "Secret auth does not exist; create it"));
}

fn wrong_class(case: &mut Collected) {
    case.claims = Ok(vec![claim("fats", "")]);
    unschedulable_with(case, "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims");
    set_condition(case, condition("Ready", "False", "WaitingForVolume", "no volume yet"));
}

fn volume_full(case: &mut Collected) {
    let metrics = "kvs_engine_disk_available_bytes 1048576\nkvs_engine_disk_capacity_bytes 67108864\n";
    let status = json!({"readOnly": true});
    case.servers = vec![Ok(ServerFacts { pod: "orders-0".into(), status, metrics: metrics.into() })];
}

fn image_missing(case: &mut Collected) {
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
    case.pods = Ok(vec![pod("False", &waiting, &Value::Null)]);
    set_condition(case, condition("Degraded", "True", "ImagePullFailed", "orders-0: the node can't get image x"));
}

fn unschedulable(case: &mut Collected) {
    unschedulable_with(case, "0/3 nodes are available: 3 Insufficient cpu.");
    set_condition(case, condition("Degraded", "True", "Unschedulable", "orders-0: no node takes the pod"));
}

fn unschedulable_with(case: &mut Collected, message: &str) {
    case.pods = Ok(vec![json!({"metadata": {"name": "orders-0"}, "status": {"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
    ]}})]);
}

fn ended(case: &mut Collected, words: &str) {
    let end = json!({"terminated": {"exitCode": 1, "message": words}});
    case.pods = Ok(vec![pod("False", &json!({"waiting": {"reason": "CrashLoopBackOff"}}), &end)]);
    case.servers = Vec::new();
}

fn log_corrupted(case: &mut Collected) {
    ended(case, "corruption: data/00000001.log: byte 4096 (sequence 17)");
    set_condition(case, condition("Degraded", "True", "LogCorrupted", "orders-0: data/00000001.log: byte 4096"));
}

fn store_poisoned(case: &mut Collected) {
    ended(case, "poisoned: a sync failed: Input/output error (os error 5)");
    set_condition(case, condition("Degraded", "True", "StorePoisoned", "orders-0: a sync failed"));
}

fn backup_damaged(case: &mut Collected) {
    let end =
        json!({"terminated": {"exitCode": 65, "message": "backupDamaged: /backup/monday: 00000001.log: byte 90"}});
    let waits = json!({"waiting": {"reason": "PodInitializing"}});
    let mut pod = pod("False", &waits, &json!({}));
    pod["status"]["initContainerStatuses"] = json!([{"name": "kvs-restore", "state": end, "lastState": {}}]);
    case.pods = Ok(vec![pod]);
    case.servers = Vec::new();
}

fn certificate_expired(case: &mut Collected) {
    case.store["spec"]["tls"] = json!({"mode": "Server", "secretName": "cert"});
    let ended: Timestamp = "2026-02-28T00:00:00Z".parse().unwrap();
    let not_after_s = Some(ended.as_second());
    case.secrets = vec![SecretFacts { name: "cert".into(), exists: true, not_after_s, ..SecretFacts::default() }];
    set_condition(case, condition("Degraded", "True", "CertificateExpired", "the certificate in Secret cert ended"));
}

fn definition_too_old(case: &mut Collected) {
    let definition = case.definition.as_mut().unwrap();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    schema["spec"]["properties"].as_object_mut().unwrap().remove("tls");
}

fn operator_down(case: &mut Collected) {
    case.operators.as_mut().unwrap()[0]["status"] = json!({});
    case.leases = Ok(vec![lease("2026-03-01T11:00:00Z", "kvs-operator-1")]);
}

fn paused(case: &mut Collected) {
    case.store["spec"]["reconcilePolicy"] = "Paused".into();
    set_condition(case, condition("Paused", "True", "ReconcilePolicyPaused", "nothing would be written"));
}

fn hibernated(case: &mut Collected) {
    case.store["spec"]["desiredState"] = "Hibernated".into();
    case.store["status"]["replicas"] = 0.into();
    (case.pods, case.servers) = (Ok(Vec::new()), Vec::new());
    set_condition(case, condition("Available", "False", "Hibernated", "no member runs"));
    set_condition(case, condition("Ready", "False", "Hibernated", "no member runs"));
}

/// Each fault, what it is called, a word of what was seen, and a part of the command that comes next.
const FAULTS: [(Plant, &str, &str, &str); 13] = [
    (
        secret_missing,
        "SecretMissing",
        "no Secret auth",
        "--namespace shop create secret generic auth --from-file=token=",
    ),
    (wrong_class, "StorageClassMissing", "storage class fats", "kubectl get storageclasses"),
    (volume_full, "VolumeFull", "1 MiB of its volume of 64 MiB", "{\"size\":\"128Mi\"}"),
    (image_missing, "ImageMissing", "ImagePullBackOff", "edit kvsstore orders"),
    (unschedulable, "Unschedulable", "Insufficient cpu", "kubectl describe nodes"),
    (log_corrupted, "LogCorrupted", "sequence 17", "kubectl kvs repair orders --namespace shop"),
    (store_poisoned, "StorePoisoned", "a sync failed", "kubectl kvs logs --previous orders --namespace shop"),
    (backup_damaged, "BackupDamaged", "byte 90", "get kvsbackups"),
    (certificate_expired, "CertificateExpired", "2026-02-28", "create secret tls cert"),
    (definition_too_old, "DefinitionTooOld", "spec.tls", "exec deployment/kvs-operator -- /kvs-operator crd |"),
    (operator_down, "OperatorDown", "0 of 2 pods", "--namespace kvs-system describe pods"),
    (paused, "Paused", "reconcilePolicy", "kubectl kvs unpause orders --namespace shop"),
    (hibernated, "Hibernated", "desiredState", "kubectl kvs resume orders --namespace shop"),
];

#[test]
fn each_fault_is_named_alone_with_evidence_and_a_command() {
    for (plant, cause, evidence, next) in FAULTS {
        let mut case = well();
        plant(&mut case);
        let found = diagnose(&case, "shop", "orders");
        assert_eq!(causes(&case), [cause], "{found:?}");
        assert!(found[0].evidence.contains(evidence), "{cause}: {}", found[0].evidence);
        assert!(found[0].next.contains(next), "{cause}: {}", found[0].next);
        let text = text(&case, &found, "shop", "orders");
        assert!(text.contains(&format!("1. {cause}: ")) && text.contains("\n   next: "), "{text}");
        assert_eq!(object(&case, &found)["findings"][0]["cause"], cause);
    }
}

#[test]
fn a_store_that_is_well_has_no_finding_and_says_what_was_not_looked_at() {
    let mut case = well();
    assert_eq!(causes(&case), [""; 0]);
    assert_eq!(text(&case, &[], "shop", "orders"), "shop/orders: nothing wrong was found");
    case.classes = Err("it takes `list` on storageclasses.storage.k8s.io in the whole cluster".into());
    let text = text(&case, &diagnose(&case, "shop", "orders"), "shop", "orders");
    assert!(text.contains("not looked at: storage classes (it takes `list`"), "{text}");
    assert_eq!(object(&case, &[])["notLookedAt"][0]["what"], "storage classes");
}

#[test]
fn the_fault_that_explains_the_others_comes_first() {
    let combinations: [(&[Plant], &[&str]); 12] = [
        (&[log_corrupted, secret_missing_with_pod], &["LogCorrupted", "SecretMissing"]),
        (&[secret_missing, operator_down], &["OperatorDown", "SecretMissing"]),
        (&[secret_missing, paused], &["Paused", "SecretMissing"]),
        (&[image_missing, paused], &["ImageMissing", "Paused"]),
        (&[image_missing, operator_down], &["ImageMissing", "OperatorDown"]),
        (&[hibernated, paused], &["Hibernated", "Paused"]),
        (&[certificate_expired, hibernated], &["Hibernated", "CertificateExpired"]),
        (&[secret_missing, definition_too_old, operator_down], &["DefinitionTooOld", "OperatorDown", "SecretMissing"]),
        (
            &[volume_full, certificate_expired, definition_too_old],
            &["VolumeFull", "CertificateExpired", "DefinitionTooOld"],
        ),
        (&[secret_missing_with_pod, wrong_class], &["SecretMissing", "StorageClassMissing"]),
        (&[operator_down, to_sleep], &["OperatorDown", "Hibernated"]),
        (&[paused, operator_down], &["OperatorDown", "Paused"]),
    ];
    for (plants, expected) in combinations {
        let mut case = well();
        plants.iter().for_each(|plant| plant(&mut case));
        assert_eq!(causes(&case), expected);
    }
}

/// The Secret was deleted while the store ran.
fn secret_missing_with_pod(case: &mut Collected) {
    let (pods, replicas) = (case.pods.clone(), case.store["status"]["replicas"].clone());
    secret_missing(case);
    (case.pods, case.store["status"]["replicas"]) = (pods, replicas);
}

/// Hibernation is asked for, and nobody does it.
fn to_sleep(case: &mut Collected) {
    case.store["spec"]["desiredState"] = "Hibernated".into();
}

#[test]
fn a_full_volume_is_named_whichever_way_the_server_ends() {
    for words in [
        "failure: opening the log: No space left on device (os error 28)",
        "poisoned: a write failed: no space left for the log: free space on the volume",
    ] {
        let mut case = well();
        ended(&mut case, words);
        assert_eq!(causes(&case), ["VolumeFull"], "{words}");
    }
}

#[test]
fn where_secrets_may_not_be_read_the_operator_is_believed() {
    let mut case = well();
    certificate_expired(&mut case);
    case.secrets[0] = SecretFacts { unknown: Some("it takes `get` on secrets".into()), ..case.secrets[0].clone() };
    let found = diagnose(&case, "shop", "orders");
    assert_eq!(found[0].cause, "CertificateExpired");
    assert!(found[0].next.contains("create secret tls cert"), "{}", found[0].next);

    let mut case = well();
    secret_missing(&mut case);
    case.secrets[0].unknown = Some("it takes `get` on secrets".into());
    let found = diagnose(&case, "shop", "orders");
    assert_eq!(found[0].cause, "SecretMissing");
    assert!(found[0].next.contains("create secret generic auth"), "{}", found[0].next);
}

#[test]
fn where_the_operator_may_not_be_looked_at_its_silence_tells() {
    let mut case = well();
    (case.operators, case.leases) = (Err("no right".into()), Err("no right".into()));
    assert_eq!(causes(&case), [""; 0]);
    case.store["metadata"]["generation"] = 5.into();
    case.store["metadata"]["managedFields"] = json!([{"time": "2026-03-01T11:59:30Z"}]);
    assert_eq!(causes(&case), [""; 0], "half a minute is no sign");
    case.store["metadata"]["managedFields"] = json!([{"time": "2026-03-01T11:50:00Z"}]);
    assert_eq!(causes(&case), ["OperatorDown"]);
}

#[test]
fn where_the_definition_may_not_be_read_the_operator_is_believed() {
    let mut case = well();
    case.definition = Err("it takes `get` on customresourcedefinitions".into());
    assert_eq!(causes(&case), [""; 0]);
    set_condition(
        &mut case,
        condition("ConfigurationWarning", "True", "DefinitionOld", "a part of the status is lost"),
    );
    let found = diagnose(&case, "shop", "orders");
    assert_eq!(
        (found[0].cause.as_str(), found[0].evidence.as_str()),
        ("DefinitionTooOld", "a part of the status is lost")
    );
}

#[test]
fn the_operator_that_is_known_by_its_lease_alone_counts() {
    let mut case = well();
    case.operators = Ok(Vec::new());
    assert_eq!(causes(&case), [""; 0], "it runs outside of the cluster");
    case.leases = Ok(vec![lease("2026-03-01T11:59:57Z", "")]);
    assert_eq!(causes(&case), ["OperatorDown"]);
    case.leases = Ok(Vec::new());
    let found = diagnose(&case, "shop", "orders");
    assert!(found[0].next.starts_with("helm install"), "{found:?}");
}

#[test]
fn what_only_the_operator_knows_is_passed_on() {
    let mut case = well();
    set_condition(&mut case, condition("Degraded", "True", "NameTaken", "Service orders belongs to someone else"));
    set_condition(&mut case, condition("Ready", "False", "NameTaken", "Service orders belongs to someone else"));
    assert_eq!(causes(&case), ["NameTaken"]);
    let mut case = well();
    set_condition(&mut case, condition("SpecAccepted", "False", "SpecRefused", "storage.size can't shrink"));
    set_condition(&mut case, condition("Ready", "False", "SpecRefused", "storage.size can't shrink"));
    assert_eq!(causes(&case), ["SpecRefused"]);
    let mut case = well();
    set_condition(&mut case, condition("Ready", "False", "WaitingForMembers", "0/1 members answer"));
    assert_eq!(causes(&case), ["NotReady"]);
}
