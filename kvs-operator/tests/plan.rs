//! What a plan must never do and always do: stay silent when nothing differs, see every change of every field that is
//! ours, leave alone what is not.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, ChildKind, Obstacle, ObstacleOwner, Plan, WriteReason, plan};
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
        Child::NetworkPolicy(_) => Child::NetworkPolicy(serde_json::from_value(body).unwrap()),
        Child::PodDisruptionBudget(_) => Child::PodDisruptionBudget(serde_json::from_value(body).unwrap()),
        Child::Certificate(_) => Child::Certificate(serde_json::from_value(body).unwrap()),
        Child::PodMonitor(_) => Child::PodMonitor(serde_json::from_value(body).unwrap()),
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
    assert_eq!(blocked.obstacles.len(), 6);
}

/// A claim of member 0 of this size.
fn claim(size: &str) -> Arc<PersistentVolumeClaim> {
    let yaml = format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data-orders-0}}\nspec: {{volumeName: v, resources: {{requests: {{storage: {size}}}}}}}"
    );
    Arc::new(serde_yaml::from_str(&yaml).unwrap())
}

/// What the StatefulSet of a plan asks for each member.
fn claim_template_size(plan: &Plan) -> String {
    let Child::StatefulSet(set) = &plan.writes.last().unwrap().child else { panic!("the StatefulSet comes last") };
    let template = &set.spec.as_ref().unwrap().volume_claim_templates.as_ref().unwrap()[0];
    template.spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"].0.clone()
}

#[test]
fn a_larger_size_grows_the_claims_and_then_makes_the_stateful_set_again_around_its_pods() {
    let wanted = valid(&store_with("{storage: {size: 2Gi}}"));
    let mut observed = settled("{storage: {size: 1Gi}}");
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.uid = Some("first".into());
    observed.stateful_set = Some(Arc::new(set.clone()));

    observed.claims = vec![claim("1Gi")];
    let grown = plan(&observed, &wanted);
    assert!(grown.writes.is_empty() && grown.recreation.is_none(), "one after the other: {grown:?}");
    assert_eq!(grown.growths.len(), 1);
    assert_eq!((grown.growths[0].claim.as_str(), grown.growths[0].to.0.as_str()), ("data-orders-0", "2Gi"));

    observed.claims = vec![claim("2Gi")];
    let recreated = plan(&observed, &wanted);
    assert!(recreated.writes.is_empty() && recreated.growths.is_empty());
    let Some(recreation) = recreated.recreation else { panic!("the template is too small") };
    assert_eq!(
        (recreation.uid.as_str(), recreation.from.0.as_str(), recreation.to.0.as_str()),
        ("first", "1Gi", "2Gi")
    );

    // While it goes nothing is written; when it is gone, or after a crash in between, it is missing.
    set.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    observed.stateful_set = Some(Arc::new(set));
    let waiting = plan(&observed, &wanted);
    assert!(waiting.writes.is_empty() && waiting.recreation.is_none(), "{waiting:?}");
    observed.stateful_set = None;
    let again = plan(&observed, &wanted);
    assert_eq!((again.writes.len(), &again.writes[0].reason), (1, &WriteReason::Missing));
    assert_eq!(claim_template_size(&again), "2Gi");
    observed.stateful_set = applied(again).stateful_set;
    let rest = plan(&observed, &wanted);
    assert!(rest.writes.is_empty() && rest.growths.is_empty() && rest.recreation.is_none(), "{rest:?}");
}

#[test]
fn a_change_beside_a_larger_size_is_written_before_the_stateful_set_is_made_again() {
    let mut observed = settled("{storage: {size: 1Gi}}");
    observed.claims = vec![claim("2Gi")];
    let both = plan(&observed, &valid(&store_with("{storage: {size: 2Gi}, threadPool: {strategy: rayon}}")));
    assert_eq!(both.writes.len(), 2);
    assert_eq!(claim_template_size(&both), "1Gi", "the live template can't change");
    assert_eq!(both.recreation, None);
    assert_eq!(both.summary(), ["ConfigMap orders-config", "StatefulSet orders"]);
}

#[test]
fn hibernation_takes_the_pods_and_nothing_else() {
    let asleep = plan(&settled("{}"), &valid(&store_with("{desiredState: Hibernated}")));
    assert_eq!(asleep.writes.len(), 1);
    let Child::StatefulSet(set) = &asleep.writes[0].child else { panic!("{asleep:?}") };
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(spec.replicas, Some(0));
    let retention = spec.persistent_volume_claim_retention_policy.as_ref().unwrap();
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"), "the data stays");
    let awake = plan(&settled("{}"), &valid(&store_with("{}")));
    assert!(awake.writes.is_empty(), "resuming restores what was there");
}

#[test]
fn a_claim_without_a_volume_is_raised_when_it_has_one() {
    let wanted = valid(&store_with("{storage: {size: 2Gi}}"));
    let mut observed = settled("{storage: {size: 2Gi}}");
    let mut unbound = claim("1Gi").as_ref().clone();
    unbound.spec.as_mut().unwrap().volume_name = None;
    observed.claims = vec![Arc::new(unbound)];
    assert!(plan(&observed, &wanted).growths.is_empty(), "the API server would refuse it");
    observed.claims = vec![claim("1Gi")];
    assert_eq!(plan(&observed, &wanted).growths.len(), 1);
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
        let Child::StatefulSet(set) = &plan.writes.last().unwrap().child else { panic!("the StatefulSet comes last") };
        let spec = set.spec.as_ref().unwrap();
        assert_eq!(spec.replicas, Some(i32::from(members)));
        assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
        let strategy = spec.update_strategy.as_ref().unwrap().type_.as_deref().unwrap();
        assert_eq!(strategy, if members == 1 { "RollingUpdate" } else { "OnDelete" });
        let pod = spec.template.spec.as_ref().unwrap();
        assert_eq!(pod.topology_spread_constraints.is_some(), members > 1);
    }
}

/// Kinds and reasons of a plan's writes.
fn written(plan: &Plan) -> Vec<(ChildKind, WriteReason)> {
    plan.writes.iter().map(|write| (write.child.kind(), write.reason.clone())).collect()
}

#[test]
fn a_paused_rollout_holds_the_configuration_of_pods_that_run_and_of_no_others() {
    let changed = "update: {rollout: Paused}, threadPool: {strategy: rayon}";
    let held = plan(&settled("{}"), &valid(&store_with(&format!("{{{changed}}}"))));
    assert_eq!(written(&held), [(ChildKind::StatefulSet, WriteReason::Changed)]);
    // Without pods Kubernetes takes the template for rolled out: the next pod begins with it, and with the configuration.
    let asleep = plan(&settled("{}"), &valid(&store_with(&format!("{{{changed}, desiredState: Hibernated}}"))));
    let changed = WriteReason::Changed;
    assert_eq!(written(&asleep), [(ChildKind::ConfigMap, changed.clone()), (ChildKind::StatefulSet, changed)]);
}

#[test]
fn what_an_apply_proved_to_be_as_asked_is_not_written_again_until_somebody_changes_it() {
    let wanted = valid(&store_with(
        "{podTemplate: {spec: {containers: [{name: kvs-server, ports: [{name: extra, containerPort: 9999, protocol: TCP, hostPort: 0}]}]}}}",
    ));
    let mut observed = applied(plan(&Observed::default(), &wanted));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.uid = Some("u".into());
    let pod = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    for port in pod.containers[0].ports.as_mut().unwrap() {
        // As the API server does.
        port.host_port = None;
    }
    observed.stateful_set = Some(Arc::new(set.clone()));
    let mut first = plan(&observed, &wanted);
    assert_eq!(first.writes.len(), 1, "it looks changed: {first:?}");
    observed.settled = vec![first.writes.remove(0).seen.unwrap()];
    assert!(plan(&observed, &wanted).writes.is_empty(), "the apply changed nothing");

    // A status that moves is no change of the object, and a larger volume still leads to a new StatefulSet.
    set.metadata.resource_version = Some("9".into());
    set.metadata.generation = Some(4);
    set.status = Some(StatefulSetStatus { observed_generation: Some(4), replicas: 1, ..Default::default() });
    observed.stateful_set = Some(Arc::new(set.clone()));
    assert!(plan(&observed, &wanted).writes.is_empty());

    set.spec.as_mut().unwrap().template.spec.as_mut().unwrap().automount_service_account_token = None;
    observed.stateful_set = Some(Arc::new(set));
    assert_eq!(plan(&observed, &wanted).writes.len(), 1, "somebody changed it");
}

#[test]
fn a_stateful_set_lets_go_of_claims_that_go_with_their_store_before_it_is_made_again() {
    let spec = |size: &str| format!("{{storage: {{size: {size}, retentionPolicy: {{whenDeleted: Delete}}}}}}");
    let mut observed = settled(&spec("1Gi"));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.uid = Some("first".into());
    set.metadata.generation = Some(1);
    observed.stateful_set = Some(Arc::new(set));
    let mut owned = claim("2Gi").as_ref().clone();
    let owner = "{apiVersion: apps/v1, kind: StatefulSet, name: orders, uid: first}";
    owned.metadata.owner_references = Some(vec![serde_yaml::from_str(owner).unwrap()]);
    observed.claims = vec![Arc::new(owned)];
    let wanted = valid(&store_with(&spec("2Gi")));
    let mut letting_go = plan(&observed, &wanted);
    assert_eq!(letting_go.recreation, None, "the garbage collector might take the claim");
    let Child::StatefulSet(mut set) = letting_go.writes.remove(0).child else { panic!("{letting_go:?}") };
    let retention = |set: &StatefulSet| {
        let policy = set.spec.as_ref().unwrap().persistent_volume_claim_retention_policy.clone().unwrap();
        policy.when_deleted.unwrap()
    };
    assert_eq!(retention(&set), "Retain");

    set.metadata.uid = Some("first".into());
    set.metadata.generation = Some(2);
    let seen = |generation: i64| StatefulSetStatus {
        observed_generation: Some(generation),
        replicas: 1,
        ..Default::default()
    };
    set.status = Some(seen(2));
    observed.stateful_set = Some(Arc::new(set.as_ref().clone()));
    assert_eq!(plan(&observed, &wanted).recreation, None, "its name is on the claim");
    observed.claims = vec![claim("2Gi")];
    set.status = Some(seen(1));
    observed.stateful_set = Some(Arc::new(set.as_ref().clone()));
    assert_eq!(plan(&observed, &wanted).recreation, None, "its controller has not looked yet");
    set.status = Some(seen(2));
    observed.stateful_set = Some(Arc::new(set.as_ref().clone()));
    assert_eq!(plan(&observed, &wanted).recreation.unwrap().uid, "first");

    observed.stateful_set = None;
    let again = plan(&observed, &wanted);
    let Child::StatefulSet(set) = &again.writes[0].child else { panic!("{again:?}") };
    assert_eq!(retention(set), "Delete", "and the new one owns them as it was asked");
}

#[test]
fn a_level_that_the_server_takes_over_rolls_no_pod() {
    let template_hash = |plan: &Plan| {
        let Child::StatefulSet(set) = &plan.writes.last().unwrap().child else { panic!("the StatefulSet comes last") };
        let template = set.spec.as_ref().unwrap().template.metadata.as_ref().unwrap();
        template.annotations.as_ref().unwrap()["kvs.aryavarth.io/config-hash"].clone()
    };
    for (from, to) in [("{}", "{logging: {level: debug}}"), ("{logging: {level: debug}}", "{}")] {
        let before = plan(&Observed::default(), &valid(&store_with(from)));
        let hash = template_hash(&before);
        let mut observed = applied(before);
        let after = plan(&observed, &valid(&store_with(to)));
        assert_eq!(written(&after), [(ChildKind::ConfigMap, WriteReason::Changed)], "{from} to {to}");
        // A StatefulSet that is made again around its pods leaves them alone, too.
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: orders-0, annotations: {{kvs.aryavarth.io/config-hash: {hash}}}}}"
        );
        observed.pods = vec![Arc::new(serde_yaml::from_str(&pod).unwrap())];
        observed.stateful_set = None;
        assert_eq!(template_hash(&plan(&observed, &valid(&store_with(to)))), hash);
        let rolled = plan(&observed, &valid(&store_with("{logging: {format: text}}")));
        assert_ne!(template_hash(&rolled), hash, "the format waits for a restart");
    }
}

#[test]
fn a_configuration_that_a_paused_rollout_holds_is_put_back_as_it_was() {
    let mut observed = settled("{}");
    let wanted = valid(&store_with("{update: {rollout: Paused}, threadPool: {strategy: rayon}}"));
    let mut map = observed.config_map.as_deref().unwrap().clone();
    let text = map.data.as_ref().unwrap()["config.yaml"].clone();
    observed.kept_configuration = Some(text.clone());
    let configuration = |observed: &Observed| {
        let writes = plan(observed, &wanted).writes;
        let maps = writes.into_iter().filter_map(|write| match write.child {
            Child::ConfigMap(map) => Some((map.data.unwrap()["config.yaml"].clone(), write.reason)),
            _ => None,
        });
        maps.collect::<Vec<_>>()
    };
    assert_eq!(configuration(&observed), []);
    map.data.as_mut().unwrap().insert("config.yaml".into(), "engine: sled\n".into());
    observed.config_map = Some(Arc::new(map));
    assert_eq!(configuration(&observed), [(text, WriteReason::Drifted(vec!["data.config.yaml".into()]))]);
}
