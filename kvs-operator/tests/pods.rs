//! The pods' shape and what stands around them: placement, overlay, rollout, network, monitoring.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kvs_operator::kinds::KnownKinds;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, ChildKind, ObstacleOwner, Plan, WriteReason, plan};
use proptest::prelude::*;
use proptest::sample::subsequence;
use support::{applied, put, store_with, valid};

const ALL_KINDS: KnownKinds = KnownKinds { certificates: true, pod_monitors: true };

fn empty() -> Observed {
    Observed { kinds: ALL_KINDS, ..Observed::default() }
}

/// Carries a plan out, as an API server without defaults would.
fn carry_out(mut observed: Observed, plan: Plan) -> Observed {
    for removal in plan.removals {
        match removal.kind {
            ChildKind::NetworkPolicy => observed.network_policy = None,
            ChildKind::PodDisruptionBudget => observed.disruption_budget = None,
            ChildKind::Certificate => observed.certificate = None,
            ChildKind::PodMonitor => observed.pod_monitor = None,
            other => panic!("{other} is never removed"),
        }
    }
    for write in plan.writes {
        put(&mut observed, write.child);
    }
    observed
}

fn json<K: serde::Serialize>(child: &Option<Arc<K>>) -> serde_json::Value {
    serde_json::to_value(child.as_deref()).unwrap()
}

/// Every child as JSON, in a fixed order.
fn bodies(observed: &Observed) -> Vec<serde_json::Value> {
    let Observed {
        service_account,
        config_map,
        peers_service,
        client_service,
        network_policy,
        disruption_budget,
        certificate,
        pod_monitor,
        stateful_set,
        pods: _,
        claims: _,
        access: _,
        kinds: _,
        settled: _,
        kept_configuration: _,
        origin: _,
    } = observed;
    vec![
        json(service_account),
        json(config_map),
        json(peers_service),
        json(client_service),
        json(network_policy),
        json(disruption_budget),
        json(certificate),
        json(pod_monitor),
        json(stateful_set),
    ]
}

/// A value for each field of access and shape, each of which fits every other.
const FRAGMENTS: [&str; 14] = [
    "auth: {mode: Token, tokenSecretRef: {name: t, key: k}}",
    "tls: {mode: Mutual, issuerRef: {name: i}}",
    "networkPolicy: {mode: Disabled}",
    "service: {type: NodePort, port: 4443, externalTrafficPolicy: Local}",
    "disruption: {budget: Disabled}",
    "scheduling: {spread: Required, nodeSelector: {a: b}, tolerations: [{operator: Exists}], topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]}",
    "podTemplate: {metadata: {labels: {a: b}}, spec: {hostNetwork: false, volumes: [{name: s, emptyDir: {sizeLimit: 1024Mi}}], containers: [{name: p, image: i, ports: [{containerPort: 1}], env: [{name: A, value: ''}]}]}}",
    "update: {strategy: OnDelete}",
    "monitoring: {podMonitor: Disabled}",
    "engine: sled",
    "threadPool: {strategy: rayon, size: 2}",
    "engineConfig: {syncPolicy: {mode: os}}",
    "resources: {requests: {cpu: 500m}, limits: {memory: 1Gi}}",
    // The level alone rolls nothing, so it leaves a hash that tells of what was before.
    "logging: {format: text}",
];

fn spec() -> impl Strategy<Value = String> {
    subsequence(FRAGMENTS.to_vec(), 0..=FRAGMENTS.len()).prop_map(|fields| format!("{{{}}}", fields.join(", ")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was planned and carried out asks for nothing more; and a change of the spec ends where a new store of that
    /// spec begins, whatever was there before.
    #[test]
    fn a_plan_that_was_carried_out_leaves_nothing_to_do(before in spec(), after in spec(), members in 1..=9_u8) {
        let wanted = |spec: &str| {
            let mut wanted = valid(&store_with(spec));
            wanted.members = members;
            wanted
        };
        let (before, after) = (wanted(&before), wanted(&after));
        let settled = carry_out(empty(), plan(&empty(), &before));
        let again = plan(&settled, &before);
        prop_assert!(again.writes.is_empty() && again.removals.is_empty() && again.obstacles.is_empty(), "{:?}", again);
        let planned = plan(&settled, &after);
        let changed = carry_out(settled, planned);
        let fresh = carry_out(empty(), plan(&empty(), &after));
        prop_assert_eq!(bodies(&changed), bodies(&fresh));
        let again = plan(&changed, &after);
        prop_assert!(again.writes.is_empty() && again.removals.is_empty() && again.obstacles.is_empty(), "{:?}", again);
    }
}

#[test]
fn a_budget_leaves_a_quorum_and_a_single_member_has_none() {
    for (members, least) in [
        (1, None),
        (2, Some(2)),
        (3, Some(2)),
        (4, Some(3)),
        (5, Some(3)),
        (6, Some(4)),
        (7, Some(4)),
        (8, Some(5)),
        (9, Some(5)),
    ] {
        let mut wanted = valid(&store_with("{}"));
        wanted.members = members;
        let budget = applied(plan(&Observed::default(), &wanted)).disruption_budget;
        let available = budget.and_then(|budget| budget.spec.clone()?.min_available);
        assert_eq!(available, least.map(IntOrString::Int), "{members} members");
        wanted.disruption_budget = kvs_operator::resource::DisruptionBudget::Disabled;
        assert!(applied(plan(&Observed::default(), &wanted)).disruption_budget.is_none());
    }
}

#[test]
fn the_client_port_is_for_the_namespace_for_those_listed_or_for_the_outside() {
    let from = |spec: &str| {
        let policy = applied(plan(&Observed::default(), &valid(&store_with(spec)))).network_policy.unwrap();
        let rules = policy.spec.clone().unwrap().ingress.unwrap();
        let ports: Vec<_> = rules.iter().map(|rule| rule.ports.clone().unwrap()[0].port.clone().unwrap()).collect();
        assert_eq!(ports, [4000, 4001, 9090].map(IntOrString::Int), "{spec}");
        let members = rules[1].from.as_ref().unwrap();
        let selected = members[0].pod_selector.as_ref().unwrap().match_labels.as_ref().unwrap();
        assert_eq!((members.len(), selected["app.kubernetes.io/instance"].as_str()), (1, "orders"), "{spec}");
        assert_eq!(rules[2].from, None, "health checks come from the node, metrics from anywhere");
        serde_json::to_value(&rules[0].from).unwrap()
    };
    assert_eq!(from("{}"), serde_json::json!([{"podSelector": {}}]));
    assert_eq!(from("{networkPolicy: {clients: []}}"), serde_json::json!([{"podSelector": {}}]));
    assert_eq!(from("{service: {type: LoadBalancer}}"), serde_json::Value::Null, "anyone");
    let listed = "{service: {type: LoadBalancer}, networkPolicy: {clients: [{namespaceSelector: {}}]}}";
    let backups = serde_json::json!({"matchLabels": {
        "app.kubernetes.io/component": "backup", "app.kubernetes.io/instance": "orders", "app.kubernetes.io/name": "kvs-store",
    }});
    let expected = serde_json::json!([{"namespaceSelector": {}}, {"podSelector": backups}]);
    assert_eq!(from(listed), expected, "and those who make backups, who were asked for by name");
}

#[test]
fn a_child_that_is_no_longer_asked_for_is_removed_and_one_of_others_is_left() {
    let settled = carry_out(empty(), plan(&empty(), &valid(&store_with("{}"))));
    let mut settled = Observed { kinds: ALL_KINDS, ..settled };
    let off = valid(&store_with("{networkPolicy: {mode: Disabled}, monitoring: {podMonitor: Disabled}}"));
    let removed: Vec<_> = plan(&settled, &off).removals.iter().map(|removal| removal.kind).collect();
    assert_eq!(removed, [ChildKind::NetworkPolicy, ChildKind::PodMonitor]);

    let mut theirs = settled.network_policy.as_deref().unwrap().clone();
    theirs.metadata = kube::api::ObjectMeta { name: Some("orders".into()), ..Default::default() };
    settled.network_policy = Some(Arc::new(theirs));
    let off = plan(&settled, &off);
    assert_eq!(off.removals.iter().map(|removal| removal.kind).collect::<Vec<_>>(), [ChildKind::PodMonitor]);
    let on = plan(&settled, &valid(&store_with("{threadPool: {strategy: rayon}}")));
    assert_eq!((on.obstacles.len(), on.obstacles[0].owner, on.obstacles[0].blocks()), (1, ObstacleOwner::Other, false));
    assert!(on.writes.iter().any(|write| write.child.kind() == ChildKind::StatefulSet), "the store goes on");
    assert!(!on.writes.iter().any(|write| write.child.kind() == ChildKind::NetworkPolicy));
}

#[test]
fn a_paused_rollout_keeps_pods_and_their_configuration() {
    let settled = carry_out(empty(), plan(&empty(), &valid(&store_with("{}"))));
    let paused = "{threadPool: {strategy: rayon}, update: {rollout: Paused}}";
    let planned = plan(&settled, &valid(&store_with(paused)));
    let kinds: Vec<_> = planned.writes.iter().map(|write| (write.child.kind(), write.reason.clone())).collect();
    assert_eq!(kinds, [(ChildKind::StatefulSet, WriteReason::Changed)], "the configuration waits");
    let Child::StatefulSet(set) = &planned.writes[0].child else { panic!("a StatefulSet") };
    let strategy = set.spec.as_ref().unwrap().update_strategy.clone().unwrap();
    assert_eq!(strategy.rolling_update.unwrap().partition, Some(1), "no ordinal is at or above it");
    let held = carry_out(settled, planned);
    assert!(plan(&held, &valid(&store_with(paused))).writes.is_empty(), "and it stays quiet");
    let resumed = plan(&held, &valid(&store_with("{threadPool: {strategy: rayon}}")));
    let kinds: Vec<_> = resumed.writes.iter().map(|write| write.child.kind()).collect();
    assert_eq!(kinds, [ChildKind::ConfigMap, ChildKind::StatefulSet]);
}

#[test]
fn several_members_keep_apart_as_they_are_told() {
    let constraints = |spec: &str| {
        let mut wanted = valid(&store_with(spec));
        wanted.members = 3;
        let set = applied(plan(&Observed::default(), &wanted)).stateful_set.unwrap();
        let pod = set.spec.as_ref().unwrap().template.spec.clone().unwrap();
        let all = pod.topology_spread_constraints.unwrap_or_default();
        all.into_iter().map(|one| (one.max_skew, one.topology_key, one.when_unsatisfiable)).collect::<Vec<_>>()
    };
    let host = "kubernetes.io/hostname".to_owned();
    assert_eq!(constraints("{}"), [(1, host.clone(), "ScheduleAnyway".to_owned())]);
    let zones = constraints("{scheduling: {spread: Required, topologyKey: zone}}");
    assert_eq!(zones, [(1, "zone".to_owned(), "DoNotSchedule".to_owned())]);
    assert!(constraints("{scheduling: {spread: Disabled}}").is_empty());
    let own = "{scheduling: {topologySpreadConstraints: [{maxSkew: 3, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}]}}";
    assert_eq!(constraints(own), [(3, host, "ScheduleAnyway".to_owned())], "a pod can't have both");
}
