//! The life of a store as its status tells it: what each situation means, and what is told as an event.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kvs_operator::apply::{Deed, Outcome};
use kvs_operator::observe::Observed;
use kvs_operator::plan::{ChildKind, Growth, WriteReason, plan};
use kvs_operator::resource::{KvsStore, KvsStoreStatus};
use kvs_operator::status::{Assessment, NoticeKind, Situation, assess};
use kvs_operator::validate::validate;
use support::{applied, settings, store_with};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// Assesses a store whose children are as wanted.
fn assessed(store: &KvsStore, observed: &Observed, outcome: &Outcome, second: i64) -> Assessment {
    let verdict = validate(store, &settings());
    let obstacles = verdict.as_ref().map(|valid| plan(observed, valid).obstacles).unwrap_or_default();
    let verdict = verdict.as_ref().map_err(Vec::as_slice);
    assess(&Situation { store, observed, verdict, obstacles: &obstacles, outcome, now: at(second) })
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
