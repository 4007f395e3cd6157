//! What a plan must never do and always do: stay silent when nothing differs, see every change of every field that is
//! ours, leave alone what is not.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, ChildKind, Obstacle, ObstacleOwner, WriteReason, plan};
use serde_json::Value;
use support::{applied, put, store_with, valid};

/// A cluster in which the store was applied.
fn settled(spec: &str) -> Observed {
    applied(plan(&Observed::default(), &valid(&store_with(spec))))
}

/// The same child from another JSON.
fn rebuilt(child: &Child, body: Value) -> Child {
    match child {
        Child::ServiceAccount(_) => Child::ServiceAccount(serde_json::from_value(body).unwrap()),
        Child::ConfigMap(_) => Child::ConfigMap(serde_json::from_value(body).unwrap()),
        Child::Service(_) => Child::Service(serde_json::from_value(body).unwrap()),
        Child::StatefulSet(_) => Child::StatefulSet(serde_json::from_value(body).unwrap()),
    }
}

/// JSON pointers to every number, string and flag of a value.
fn leaves(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let step = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, field)| leaves(field, &step(key), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| leaves(item, &step(&index.to_string()), found));
        }
        _ => found.push(pointer.to_owned()),
    }
}

/// Another value of the same type.
fn changed(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(format!("{text}9")),
        Value::Bool(flag) => Value::from(!flag),
        Value::Number(number) => Value::from(number.as_i64().unwrap() + 1),
        other => panic!("no leaf: {other}"),
    }
}

const FULL: &str = "{threadPool: {strategy: rayon, size: 2}, resources: {requests: {cpu: 500m}, limits: {memory: 1Gi}}, service: {annotations: {a: b}}, imagePullSecrets: [{name: s}]}";

#[test]
fn nothing_is_written_when_nothing_differs() {
    for spec in ["{}", FULL] {
        let plan = plan(&settled(spec), &valid(&store_with(spec)));
        assert!(plan.writes.is_empty() && plan.growths.is_empty() && plan.obstacles.is_empty(), "{plan:?}");
    }
}

#[test]
fn every_change_of_every_field_of_ours_is_seen_and_repaired() {
    let wanted = valid(&store_with(FULL));
    let mut tried = 0;
    for write in plan(&Observed::default(), &wanted).writes {
        let body = write.child.body();
        let mut pointers = Vec::new();
        leaves(&body, "", &mut pointers);
        for pointer in pointers {
            // The API server itself keeps these: what an object is, where it is, and the claim template.
            let immutable =
                ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/spec/volumeClaimTemplates"];
            if immutable.iter().any(|prefix| pointer == *prefix || pointer.starts_with(&format!("{prefix}/")))
                || pointer.starts_with("/metadata/ownerReferences")
            {
                continue;
            }
            let mut live = body.clone();
            let leaf = live.pointer_mut(&pointer).unwrap();
            *leaf = changed(leaf);
            let mut observed = settled(FULL);
            put(&mut observed, rebuilt(&write.child, live));
            let repair = plan(&observed, &wanted);
            let kinds: Vec<_> = repair.writes.iter().map(|write| (write.child.kind(), write.child.name())).collect();
            assert_eq!(kinds, [(write.child.kind(), write.child.name())], "{pointer} of {}", write.child.name());
            tried += 1;
        }
    }
    assert!(tried > 120, "only {tried} fields were tried");
}

#[test]
fn an_owner_reference_that_was_edited_away_comes_back() {
    let mut observed = settled("{}");
    let mut map = observed.config_map.as_deref().unwrap().clone();
    map.metadata.owner_references = None;
    observed.config_map = Some(Arc::new(map));
    let plan = plan(&observed, &valid(&store_with("{}")));
    assert_eq!(plan.writes.len(), 1);
    assert!(matches!(&plan.writes[0].reason, WriteReason::Drifted(fields) if fields[0] == "metadata.ownerReferences"));
}

#[test]
fn what_others_add_is_left_alone() {
    let mut observed = settled("{}");
    let mut service = observed.client_service.as_deref().unwrap().clone();
    service.metadata.annotations.as_mut().unwrap().insert("cloud/address".into(), "10.0.0.1".into());
    service.metadata.labels.as_mut().unwrap().insert("team".into(), "shop".into());
    service.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.7".into());
    observed.client_service = Some(Arc::new(service));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    let pod = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    let mut sidecar = pod.containers[0].clone();
    sidecar.name = "sidecar".into();
    pod.containers.insert(0, sidecar);
    observed.stateful_set = Some(Arc::new(set));
    assert!(plan(&observed, &valid(&store_with("{}"))).writes.is_empty());
}

#[test]
fn a_change_of_the_strategy_rolls_the_pod_and_nothing_else() {
    let plan = plan(&settled("{}"), &valid(&store_with("{threadPool: {strategy: rayon}}")));
    let written: Vec<_> = plan.writes.iter().map(|write| (write.child.kind(), write.reason.clone())).collect();
    let changed = WriteReason::Changed;
    assert_eq!(written, [(ChildKind::ConfigMap, changed.clone()), (ChildKind::StatefulSet, changed)]);
}

#[test]
fn a_field_that_is_no_longer_wanted_is_taken_back() {
    let plan = plan(&settled("{service: {annotations: {a: b}}}"), &valid(&store_with("{}")));
    let written: Vec<_> = plan.writes.iter().map(|write| write.child.name()).collect();
    assert_eq!(written, ["orders"]);
}

#[test]
fn a_name_that_is_taken_stops_every_write() {
    let mut foreign = settled("{}");
    let mut service = foreign.client_service.as_deref().unwrap().clone();
    service.metadata = kube::api::ObjectMeta { name: Some("orders".into()), ..Default::default() };
    foreign = Observed { client_service: Some(Arc::new(service)), ..Observed::default() };
    let blocked = plan(&foreign, &valid(&store_with("{}")));
    assert!(blocked.writes.is_empty());
    let obstacle = Obstacle { kind: ChildKind::Service, name: "orders".into(), owner: ObstacleOwner::Other };
    assert_eq!(blocked.obstacles, [obstacle]);
}

#[test]
fn the_children_of_a_former_store_are_waited_for() {
    let mut next = store_with("{}");
    next.metadata.uid = Some("another".into());
    let blocked = plan(&settled("{}"), &valid(&next));
    assert!(blocked.writes.is_empty());
    assert!(blocked.obstacles.iter().all(|obstacle| obstacle.owner == ObstacleOwner::FormerStore));
    assert_eq!(blocked.obstacles.len(), 5);
}

/// A claim of member 0 of this size.
fn claim(size: &str) -> Arc<PersistentVolumeClaim> {
    let yaml = format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data-orders-0}}\nspec: {{resources: {{requests: {{storage: {size}}}}}}}"
    );
    Arc::new(serde_yaml::from_str(&yaml).unwrap())
}

#[test]
fn a_larger_size_grows_the_claim_and_leaves_the_template_that_cannot_change() {
    let mut observed = settled("{storage: {size: 1Gi}}");
    observed.claims = vec![claim("1Gi")];
    let grown = plan(&observed, &valid(&store_with("{storage: {size: 2Gi}}")));
    assert!(grown.writes.is_empty(), "{:?}", grown.writes);
    assert_eq!(grown.growths.len(), 1);
    assert_eq!((grown.growths[0].claim.as_str(), grown.growths[0].to.0.as_str()), ("data-orders-0", "2Gi"));
}

#[test]
fn an_adopted_claim_that_is_larger_stays_as_it_is() {
    let mut observed = settled("{storage: {size: 1Gi}}");
    for size in ["1Gi", "1024Mi", "3Gi"] {
        observed.claims = vec![claim(size)];
        assert!(plan(&observed, &valid(&store_with("{storage: {size: 1Gi}}"))).growths.is_empty(), "{size}");
    }
}

#[test]
fn one_to_nine_members_are_built() {
    for members in 1..=9_u8 {
        let mut wanted = valid(&store_with("{}"));
        wanted.members = members;
        let plan = plan(&Observed::default(), &wanted);
        let Child::StatefulSet(set) = &plan.writes[4].child else { panic!("the StatefulSet comes last") };
        let spec = set.spec.as_ref().unwrap();
        assert_eq!(spec.replicas, Some(i32::from(members)));
        assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
        let strategy = spec.update_strategy.as_ref().unwrap().type_.as_deref().unwrap();
        assert_eq!(strategy, if members == 1 { "RollingUpdate" } else { "OnDelete" });
        let pod = spec.template.spec.as_ref().unwrap();
        assert_eq!(pod.topology_spread_constraints.is_some(), members > 1);
    }
}
