//! The life of a store as its status tells it: what each situation means, and what is told as an event.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kvs_operator::apply::{Deed, Outcome};
use kvs_operator::observe::Observed;
use kvs_operator::plan::{ChildKind, Growth, WriteReason, plan};
use kvs_operator::resource::{DesiredState, KvsStore, KvsStoreStatus, ReconcilePolicy};
use kvs_operator::status::{Assessment, NoticeKind, Situation, assess};
use kvs_operator::validate::validate;
use support::{applied, settings, store_with};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// Assesses a store whose children are as wanted.
fn assessed(store: &KvsStore, observed: &Observed, outcome: &Outcome, second: i64) -> Assessment {
    let verdict = validate(store, &settings());
    let plan = verdict.as_ref().map(|valid| plan(observed, valid)).unwrap_or_default();
    let held_back = verdict.as_ref().is_ok_and(|valid| valid.is_paused).then(|| plan.summary());
    assess(&Situation {
        store,
        observed,
        verdict: verdict.as_ref().map_err(Vec::as_slice),
        obstacles: &plan.obstacles,
        held_back: held_back.as_deref(),
        outcome,
        is_definition_old: false,
        now: at(second),
    })
}

/// A cluster in which the store was applied and its StatefulSet says this.
fn cluster(store: &KvsStore, ready: i32, updated: i32) -> Observed {
    let mut observed = applied(plan(&Observed::default(), &support::valid(store)));
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.metadata.generation = Some(1);
    set.status = Some(StatefulSetStatus {
        observed_generation: Some(1),
        replicas: 1,
        ready_replicas: Some(ready),
        updated_replicas: Some(updated),
        ..StatefulSetStatus::default()
    });
    observed.stateful_set = Some(Arc::new(set));
    observed
}

fn condition<'a>(status: &'a KvsStoreStatus, name: &str) -> (&'a str, &'a str, i64) {
    let found = status.conditions.iter().find(|condition| condition.type_ == name).unwrap();
    (&found.status, &found.reason, found.last_transition_time.0.as_second())
}

fn reasons(assessment: &Assessment) -> Vec<(NoticeKind, &str)> {
    assessment.notices.iter().map(|notice| (notice.kind, notice.reason.as_str())).collect()
}

#[test]
fn from_creation_to_ready_to_a_roll_and_back() {
    use NoticeKind::Normal;
    let mut store = store_with("{}");
    let created = Outcome {
        deeds: vec![Deed::Applied {
            kind: ChildKind::StatefulSet,
            name: "orders".into(),
            reason: WriteReason::Missing,
        }],
        ..Outcome::default()
    };
    let mut young = cluster(&store, 0, 0);
    let mut set = young.stateful_set.as_deref().unwrap().clone();
    set.status = None;
    young.stateful_set = Some(Arc::new(set));
    let first = assessed(&store, &young, &created, 100);
    assert_eq!(condition(&first.status, "Ready"), ("False", "Creating", 100));
    assert_eq!(condition(&first.status, "SpecAccepted"), ("True", "Accepted", 100));
    assert_eq!(condition(&first.status, "Available"), ("False", "NotServing", 100));
    assert_eq!(reasons(&first), [(Normal, "Created")]);

    store.status = Some(first.status);
    let second = assessed(&store, &cluster(&store, 1, 1), &Outcome::default(), 110);
    assert_eq!(condition(&second.status, "Ready"), ("True", "AllMembersReady", 110));
    assert_eq!(condition(&second.status, "SpecAccepted"), ("True", "Accepted", 100), "it did not flip");
    assert_eq!(second.status.endpoints.as_ref().unwrap().client, "orders.shop.svc:4000");
    assert_eq!(second.status.version.as_deref(), Some("0.1.0"));
    assert_eq!(reasons(&second), [(Normal, "Ready")]);

    store.status = Some(second.status.clone());
    let third = assessed(&store, &cluster(&store, 1, 1), &Outcome::default(), 999);
    assert_eq!(third.status, second.status, "nothing happened, so nothing changes");
    assert!(third.notices.is_empty());

    let rolling = assessed(&store, &cluster(&store, 0, 0), &Outcome::default(), 120);
    assert_eq!(condition(&rolling.status, "Ready"), ("False", "RollingUpdate", 120));
    assert_eq!(condition(&rolling.status, "Progressing"), ("True", "RollingUpdate", 120));
    assert_eq!(condition(&rolling.status, "Degraded").0, "False");
}

#[test]
fn a_refused_spec_leaves_the_members_serving_and_says_why() {
    let mut store = store_with("{}");
    let observed = cluster(&store, 1, 1);
    store.status = Some(assessed(&store, &observed, &Outcome::default(), 1).status);
    store.spec.replicas = 3;
    store.metadata.generation = Some(2);
    let refused = assessed(&store, &observed, &Outcome::default(), 2);
    assert_eq!(condition(&refused.status, "SpecAccepted"), ("False", "SpecRefused", 2));
    assert_eq!(condition(&refused.status, "Ready"), ("False", "SpecRefused", 2));
    assert_eq!(condition(&refused.status, "Available"), ("True", "Serving", 1));
    assert_eq!(refused.status.observed_generation, Some(2));
    assert_eq!(reasons(&refused), [(NoticeKind::Warning, "SpecRefused")]);
    assert!(refused.notices[0].note.contains("replicas above 1 need replication, which this version does not have"));
}

#[test]
fn a_corrupt_log_is_degraded_and_told_once() {
    let mut store = store_with("{}");
    let mut observed = cluster(&store, 0, 1);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: orders-0}\nstatus: {containerStatuses: [{name: kvs-server, image: i, imageID: '', ready: false, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, message: 'corruption: 1.log: corruption at byte 7 (sequence 3)'}}}]}";
    observed.pods = vec![Arc::new(serde_yaml::from_str(pod).unwrap())];
    let broken = assessed(&store, &observed, &Outcome::default(), 5);
    assert_eq!(condition(&broken.status, "Degraded"), ("True", "LogCorrupted", 5));
    assert_eq!(condition(&broken.status, "Ready"), ("False", "LogCorrupted", 5));
    assert_eq!(condition(&broken.status, "Progressing").0, "False");
    assert_eq!(reasons(&broken), [(NoticeKind::Warning, "LogCorrupted")]);
    assert_eq!(broken.notices[0].note, "orders-0: 1.log: corruption at byte 7 (sequence 3)");
    store.status = Some(broken.status);
    assert!(assessed(&store, &observed, &Outcome::default(), 6).notices.is_empty());
}

#[test]
fn a_taken_name_is_a_fault_that_names_the_object() {
    let store = store_with("{}");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: orders}";
    let observed =
        Observed { client_service: Some(Arc::new(serde_yaml::from_str(service).unwrap())), ..Observed::default() };
    let blocked = assessed(&store, &observed, &Outcome::default(), 1);
    assert_eq!(condition(&blocked.status, "Degraded"), ("True", "NameTaken", 1));
    assert!(blocked.notices[0].note.starts_with("Service orders exists and belongs to someone else"));
}

#[test]
fn an_adopted_claim_and_a_growing_one_are_told() {
    let store = store_with("{storage: {size: 2Gi}}");
    let mut observed = cluster(&store, 1, 1);
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data-orders-0}\nspec: {storageClassName: fast, volumeName: v, resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 1Gi}}";
    observed.claims = vec![Arc::new(serde_yaml::from_str(claim).unwrap())];
    let growth = Growth {
        claim: "data-orders-0".into(),
        from: k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".into()),
        to: k8s_openapi::apimachinery::pkg::api::resource::Quantity("2Gi".into()),
    };
    let outcome = Outcome {
        deeds: vec![
            Deed::Applied { kind: ChildKind::StatefulSet, name: "orders".into(), reason: WriteReason::Missing },
            Deed::Grown(growth),
        ],
        ..Outcome::default()
    };
    let told = assessed(&store, &observed, &outcome, 1);
    let reasons: Vec<_> = told.notices.iter().map(|notice| notice.reason.as_str()).collect();
    assert_eq!(reasons, ["Created", "VolumeGrowing", "VolumeAdopted", "Ready"]);
    assert_eq!(condition(&told.status, "StorageResized"), ("False", "Growing", 1));
    let storage = told.status.storage.unwrap();
    assert_eq!((storage.requested.as_str(), storage.capacity.as_deref()), ("2Gi", Some("1Gi")));
    assert_eq!(told.status.members[0].volume_claim.as_deref(), Some("data-orders-0"));
}

#[test]
fn the_children_of_a_former_store_are_not_this_ones() {
    let mut store = store_with("{}");
    let observed = cluster(&store, 1, 1);
    store.metadata.uid = Some("another".into());
    let waiting = assessed(&store, &observed, &Outcome::default(), 1);
    assert_eq!(condition(&waiting.status, "Ready"), ("False", "FormerStoreLeaving", 1));
    assert_eq!(condition(&waiting.status, "Available").0, "False");
    assert_eq!(waiting.status.replicas, Some(0));
    store.status = Some(waiting.status);
    let created = Outcome {
        deeds: vec![Deed::Applied {
            kind: ChildKind::StatefulSet,
            name: "orders".into(),
            reason: WriteReason::Missing,
        }],
        ..Outcome::default()
    };
    let next = assessed(&store, &cluster(&store, 0, 0), &created, 2);
    assert_eq!(reasons(&next), [(NoticeKind::Normal, "Created")]);
}

/// The store's pod, which answers or not.
fn pod(ready: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    let yaml = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: orders-0}}\nstatus: {{conditions: [{{type: Ready, status: '{status}'}}]}}"
    );
    Arc::new(serde_yaml::from_str(&yaml).unwrap())
}

/// A cluster whose StatefulSet has so many pods and wants so many.
fn scaled(store: &KvsStore, wanted: i32, existing: i32) -> Observed {
    let mut observed = cluster(store, existing, existing);
    let mut set = observed.stateful_set.as_deref().unwrap().clone();
    set.spec.as_mut().unwrap().replicas = Some(wanted);
    set.status.as_mut().unwrap().replicas = existing;
    observed.stateful_set = Some(Arc::new(set));
    observed
}

#[test]
fn from_serving_to_sleep_and_back_each_step_is_told_once() {
    let quiet = Outcome::default();
    let mut store = store_with("{}");
    store.status = Some(assessed(&store, &scaled(&store, 1, 1), &quiet, 1).status);

    store.spec.desired_state = DesiredState::Hibernated;
    let stopping = assessed(&store, &scaled(&store, 0, 1), &quiet, 2);
    assert_eq!(condition(&stopping.status, "Ready"), ("False", "Hibernating", 2));
    assert_eq!(condition(&stopping.status, "Progressing").0, "True");
    assert_eq!(reasons(&stopping), [(NoticeKind::Normal, "Hibernating")]);
    store.status = Some(stopping.status);
    let asleep = assessed(&store, &scaled(&store, 0, 0), &quiet, 3);
    assert_eq!(condition(&asleep.status, "Ready"), ("False", "Hibernated", 2));
    assert_eq!(condition(&asleep.status, "Available"), ("False", "Hibernated", 2));
    assert_eq!(condition(&asleep.status, "Progressing").0, "False");
    assert_eq!(condition(&asleep.status, "Degraded").0, "False", "what was asked for is no fault");
    assert_eq!(reasons(&asleep), [(NoticeKind::Normal, "Hibernated")]);
    store.status = Some(asleep.status.clone());
    let still = assessed(&store, &scaled(&store, 0, 0), &quiet, 4);
    assert_eq!((&still.status, still.notices.len()), (&asleep.status, 0), "a store that sleeps is silent");

    store.spec.desired_state = DesiredState::Running;
    let waking = assessed(&store, &scaled(&store, 1, 0), &quiet, 5);
    assert_eq!(condition(&waking.status, "Ready"), ("False", "Resuming", 2));
    assert_eq!(reasons(&waking), [(NoticeKind::Normal, "Resuming")]);
    store.status = Some(waking.status);
    let awake = assessed(&store, &scaled(&store, 1, 1), &quiet, 6);
    assert_eq!(condition(&awake.status, "Ready"), ("True", "AllMembersReady", 6));
    assert_eq!(reasons(&awake), [(NoticeKind::Normal, "Ready")]);
}

#[test]
fn a_paused_store_tells_what_is_not_written_and_goes_on_serving() {
    let quiet = Outcome::default();
    let mut store = store_with("{reconcilePolicy: Paused}");
    let observed = scaled(&store, 1, 1);
    let paused = assessed(&store, &observed, &quiet, 1);
    assert_eq!(condition(&paused.status, "Paused"), ("True", "ReconcilePolicyPaused", 1));
    assert_eq!(condition(&paused.status, "Ready").0, "True", "nothing is held back");
    assert_eq!(reasons(&paused)[0], (NoticeKind::Normal, "Paused"));
    store.status = Some(paused.status);

    store.spec.desired_state = DesiredState::Hibernated;
    let held_back = assessed(&store, &observed, &quiet, 2);
    assert_eq!(condition(&held_back.status, "Ready"), ("False", "Paused", 2));
    assert_eq!(condition(&held_back.status, "Available").0, "True", "its pods run");
    let message = |assessment: &Assessment| {
        let conditions = &assessment.status.conditions;
        conditions.iter().find(|condition| condition.type_ == "Paused").unwrap().message.clone()
    };
    assert!(message(&held_back).contains("not written: StatefulSet orders"), "{}", message(&held_back));
    store.status = Some(held_back.status);

    store.spec.desired_state = DesiredState::Running;
    store.spec.reconcile_policy = ReconcilePolicy::Managed;
    let managed = assessed(&store, &observed, &quiet, 3);
    assert_eq!(condition(&managed.status, "Paused"), ("False", "Managed", 3));
    let told: Vec<_> = managed.notices.iter().map(|notice| notice.reason.as_str()).collect();
    assert_eq!(told, ["Managed", "Ready"]);
}

#[test]
fn a_stateful_set_that_is_made_again_interrupts_no_service() {
    let mut store = store_with("{storage: {size: 2Gi}}");
    let mut observed = cluster(&store, 1, 1);
    observed.pods = vec![pod(true)];
    store.status = Some(assessed(&store, &observed, &Outcome::default(), 1).status);
    let mut going = observed.stateful_set.as_deref().unwrap().clone();
    going.metadata.deletion_timestamp = Some(at(2));
    let mut fresh = going.clone();
    (fresh.metadata.deletion_timestamp, fresh.status) = (None, None);
    for set in [Some(going), None, Some(fresh)] {
        observed.stateful_set = set.map(Arc::new);
        let told = assessed(&store, &observed, &Outcome::default(), 2);
        assert_eq!(condition(&told.status, "Available"), ("True", "Serving", 1));
        assert_eq!(condition(&told.status, "Ready"), ("False", "RecreatingStatefulSet", 2));
        assert_eq!((told.status.replicas, told.status.ready_replicas), (Some(1), Some(1)));
        store.status = Some(told.status);
    }
    observed.pods = vec![pod(false)];
    let down = assessed(&store, &observed, &Outcome::default(), 3);
    assert_eq!(condition(&down.status, "Available").0, "False", "a pod that does not answer is not counted");
}

#[test]
fn what_may_surprise_is_told_once_and_stops_nothing() {
    let mut store = store_with("{engineConfig: {syncPolicy: {mode: os}}}");
    let observed = cluster(&store, 1, 1);
    let warned = assessed(&store, &observed, &Outcome::default(), 1);
    assert_eq!(condition(&warned.status, "ConfigurationWarning"), ("True", "SpecMaySurprise", 1));
    assert_eq!(condition(&warned.status, "Ready").0, "True");
    assert!(reasons(&warned).contains(&(NoticeKind::Warning, "SpecMaySurprise")));
    store.status = Some(warned.status);
    assert!(assessed(&store, &observed, &Outcome::default(), 2).notices.is_empty());
}
