//! Backups and their schedules: what is done, and what it comes to, at each point of a backup's life.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kvs_operator::access::{Access, CertificateFacts};
use kvs_operator::backup::plan::{Ground, Observed, Step, Words, plan};
use kvs_operator::backup::schedule;
use kvs_operator::backup::status::assess;
use kvs_operator::resource::{KvsBackup, KvsBackupSchedule, KvsStore};
use kvs_operator::validate::validate;
use kvs_protocol::backup_record::BackupReport;
use serde_json::json;

const SECURED: &str = "{auth: {mode: Token, tokenSecretRef: {name: orders-token, key: token}}, tls: {mode: Mutual, secretName: orders-tls}, service: {port: 4443}, imagePullSecrets: [{name: registry}], scheduling: {nodeSelector: {disk: fast}, tolerations: [{key: dedicated, operator: Exists}]}}";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-12-01T02:00:30Z")
}

fn backup(spec: &str) -> KvsBackup {
    let yaml = format!(
        "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsBackup\nmetadata: {{name: monday, namespace: shop, uid: 99999999-8888-7777-6666-555555555555, generation: 1}}\nspec: {spec}"
    );
    serde_yaml::from_str(&yaml).unwrap()
}

fn monday() -> KvsBackup {
    backup("{storeRef: {name: orders}, target: {persistentVolumeClaim: {claimName: backups}}}")
}

/// A store that answers.
fn serving(spec: &str) -> KvsStore {
    let mut store = support::store_with(spec);
    store.status = Some(
        serde_json::from_value(json!({"conditions": [{
            "type": "Available", "status": "True", "reason": "Serving", "message": "", "lastTransitionTime": "2026-12-01T00:00:00Z",
        }]}))
        .unwrap(),
    );
    store
}

fn ground(store: KvsStore) -> Ground {
    let verdict = validate(&store, &support::settings());
    Ground { store: Some((store, verdict)), has_claim: true, access: Access::default() }
}

fn observed(ground: Ground) -> Observed {
    Observed { ground: Some(ground), ..Observed::default() }
}

/// The Job of a backup, with a status.
fn job(backup: &KvsBackup, status: serde_json::Value) -> Job {
    let Step::Start(mut job) = plan(&observed(ground(serving("{}"))), backup) else { panic!("it starts") };
    job.metadata.creation_timestamp = serde_json::from_value(json!("2026-12-01T02:00:01Z")).unwrap();
    job.metadata.uid = Some("j".into());
    job.status = Some(serde_json::from_value(status).unwrap());
    *job
}

fn ended(kind: &str) -> serde_json::Value {
    json!({"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]})
}

fn report() -> Words {
    Words::Report(BackupReport {
        folder: "/backups/orders/monday-99999999".into(),
        files: 3,
        bytes: 4096,
        last_sequence: 17,
        sha256: "ab".repeat(32),
    })
}

/// The reason of Complete, and whether Failed is True, after a look at this.
fn verdict(backup: &KvsBackup, observed: &Observed) -> (String, bool) {
    let step = plan(observed, backup);
    let (status, _) = assess(backup, observed, &step, now());
    let complete = status.conditions.iter().find(|condition| condition.type_ == "Complete").unwrap();
    (complete.reason.clone(), status.says("Failed"))
}

#[test]
fn the_job_is_as_its_golden_file_says() {
    let many = "{storeRef: {name: orders}, target: {persistentVolumeClaim: {claimName: backups, path: shop/nightly}}, replaces: [sunday-00000000]}";
    for (file, backup, store) in [("open.yaml", monday(), "{}"), ("secured.yaml", backup(many), SECURED)] {
        let mut ground = ground(serving(store));
        if store == SECURED {
            ground.access = Access { token: Some(Ok(())), certificate: Some(Ok(facts(true))) };
        }
        let Step::Start(job) = plan(&observed(ground), &backup) else { panic!("{file}: it starts") };
        let text = serde_yaml::to_string(&job).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-jobs").join(file);
        if std::env::var_os("KVS_FIX").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "look, then run deploy/generate");
    }
}

fn facts(has_authorities: bool) -> CertificateFacts {
    CertificateFacts {
        not_before: at("2026-01-01T00:00:00Z"),
        not_after: at("2027-01-01T00:00:00Z"),
        names_service: true,
        has_authorities,
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let monday = monday();
    let no_claim = Ground { has_claim: false, ..ground(serving("{}")) };
    let no_authority = Ground {
        access: Access { token: None, certificate: Some(Ok(facts(false))) },
        ..ground(serving("{tls: {mode: Server, secretName: orders-tls}}"))
    };
    let asleep = ground(serving("{desiredState: Hibernated}"));
    for (ground, reason, words, is_final) in [
        (Ground::default(), "StoreMissing", "KvsStore orders", false),
        (no_claim, "ClaimMissing", "PersistentVolumeClaim backups", false),
        (asleep, "StoreHibernated", "KvsStore orders", false),
        (ground(serving("{image: 'a b'}")), "StoreRefused", "SpecAccepted", false),
        (ground(support::store_with("{}")), "StoreNotAvailable", "KvsStore orders", false),
        (no_authority, "NoAuthorities", "Secret orders-tls has no ca.crt", false),
        (ground(serving("{engine: sled}")), "EngineHasNoBackup", "engine sled", true),
    ] {
        let observed = observed(ground);
        let step = plan(&observed, &monday);
        assert!(matches!((&step, is_final), (Step::Wait(_), false) | (Step::Refuse(_), true)), "{reason}: {step:?}");
        let (status, telling) = assess(&monday, &observed, &step, now());
        assert_eq!(status.conditions[0].reason, reason);
        assert!(status.conditions[0].message.contains(words), "{}", status.conditions[0].message);
        assert_eq!(status.is_final(), is_final, "{reason}");
        assert!(telling.unwrap().is_warning, "{reason}");
        let again = KvsBackup { status: Some(status.clone()), ..monday.clone() };
        let (second, telling) = assess(&again, &observed, &plan(&observed, &again), at("2026-12-01T03:00:00Z"));
        if !is_final {
            assert_eq!((second, telling), (status, None), "{reason}: no news, no write");
        }
    }
}

#[test]
fn a_backup_ends_as_its_job_does() {
    let monday = monday();
    let look = |status, words| Observed { job: Some(Arc::new(job(&monday, status))), words, ground: None };
    let failed = || Some(Words::Failed("cannot connect".into()));
    assert_eq!(verdict(&monday, &look(json!({}), None)), ("Running".into(), false));
    assert_eq!(verdict(&monday, &look(json!({}), failed())), ("Retrying".into(), false));
    assert_eq!(
        verdict(&monday, &look(json!({}), Some(Words::Waiting("no node".into())))),
        ("PodWaiting".into(), false)
    );
    assert_eq!(verdict(&monday, &look(ended("Complete"), None)), ("ReportMissing".into(), false));
    assert_eq!(verdict(&monday, &look(ended("Failed"), failed())), ("BackupFailed".into(), true));
    assert_eq!(verdict(&monday, &look(ended("Failed"), None)), ("BackupFailed".into(), true));

    let whole = look(ended("Complete"), Some(report()));
    let (status, telling) = assess(&monday, &whole, &plan(&whole, &monday), now());
    assert!(status.says("Complete") && !status.says("Failed"));
    assert!(telling.is_some_and(|telling| !telling.is_warning && telling.note.contains("orders/monday-99999999")));
    assert_eq!(status.path.as_deref(), Some("orders/monday-99999999"));
    assert_eq!((status.size_bytes, status.sequence), (Some(4096), Some(17)));
    assert_eq!(status.started_at.as_deref(), Some("2026-12-01T02:00:01Z"));
    assert_eq!(status.completed_at.as_deref(), Some("2026-12-01T02:00:30Z"));

    // Nothing changes an end: not even a Job that is gone.
    let done = KvsBackup { status: Some(status.clone()), ..monday };
    let gone = observed(Ground::default());
    assert!(matches!(plan(&gone, &done), Step::Nothing));
    assert_eq!(assess(&done, &gone, &Step::Nothing, now()), (status, None));
}

#[test]
fn a_job_is_mended_and_someone_elses_is_left_alone() {
    let monday = monday();
    let look = |job: Job| Observed { job: Some(Arc::new(job)), words: None, ground: None };
    let live = job(&monday, json!({}));
    assert!(matches!(plan(&look(live.clone()), &monday), Step::Nothing), "nothing differs");
    let mut suspended = live.clone();
    suspended.spec.as_mut().unwrap().suspend = Some(true);
    let Step::Mend(fields) = plan(&look(suspended.clone()), &monday) else { panic!("someone stopped it") };
    assert_eq!(fields["spec"]["suspend"], false);
    let mut unlabelled = live.clone();
    unlabelled.metadata.labels.as_mut().unwrap().remove("app.kubernetes.io/managed-by");
    assert!(matches!(plan(&look(unlabelled), &monday), Step::Mend(_)), "without it the operator would not see it");
    suspended.status = Some(serde_json::from_value(ended("Complete")).unwrap());
    assert!(matches!(plan(&look(suspended), &monday), Step::Nothing), "a Job that has ended needs nothing");
    let mut other = live;
    other.metadata.owner_references.as_mut().unwrap()[0].uid = "another".into();
    assert!(matches!(plan(&look(other), &monday), Step::Wait(obstacle) if obstacle.reason == "NameTaken"));
}

fn nightly(spec: &str) -> KvsBackupSchedule {
    let yaml = format!(
        "apiVersion: kvs.aryavarth.io/v1alpha1\nkind: KvsBackupSchedule\nmetadata: {{name: nightly, namespace: shop, creationTimestamp: '2026-11-28T12:00:00Z', generation: 1}}\nspec: {{storeRef: {{name: orders}}, target: {{persistentVolumeClaim: {{claimName: backups}}}}, schedule: 0 2 * * *, {spec}}}"
    );
    serde_yaml::from_str(&yaml).unwrap()
}

/// The backup of a day of November, which ended so.
fn of_day(day: u8, end: &str) -> Arc<KvsBackup> {
    let mut backup = monday();
    backup.metadata.name = Some(format!("nightly-202611{day:02}0200"));
    backup.metadata.uid = Some(format!("{day:08}-0000"));
    let scheduled_at = format!("2026-11-{day:02}T02:00:00Z");
    backup.metadata.annotations = Some([("kvs.aryavarth.io/scheduled-at".to_owned(), scheduled_at.clone())].into());
    let condition =
        json!({"type": end, "status": "True", "reason": end, "message": "", "lastTransitionTime": scheduled_at});
    backup.status = Some(
        serde_json::from_value(json!({
            "conditions": [condition], "completedAt": format!("2026-11-{day:02}T02:00:09Z"),
            "path": format!("orders/nightly-202611{day:02}0200-{day:08}"),
        }))
        .unwrap(),
    );
    if end == "Running" {
        backup.status.as_mut().unwrap().conditions[0].status = "False".into();
    }
    Arc::new(backup)
}

#[test]
fn of_the_times_that_passed_the_last_is_made_up_for_once() {
    let mut schedule = nightly("keep: {last: 3}");
    let first = schedule::plan(&schedule, &[], now());
    let made = first.create.unwrap();
    assert_eq!(made.name_any(), "nightly-202612010200", "three nights passed, one backup is made");
    assert_eq!(made.spec.replaces, Vec::<String>::new());
    assert_eq!(first.status.last_schedule_time.as_deref(), Some("2026-12-01T02:00:00Z"));
    assert_eq!(first.status.active.as_deref(), Some("nightly-202612010200"));
    assert_eq!(first.next, Some(at("2026-12-02T02:00:00Z")));

    // The backup is there and the status was not written: the operator died between the two.
    let again = schedule::plan(&schedule, &[Arc::new(*made.clone())], now());
    assert!(again.create.is_none(), "one at a time");
    assert_eq!(again.status.last_schedule_time, first.status.last_schedule_time);
    // The status is there and the backup is gone: someone deleted it.
    schedule.status = Some(first.status);
    assert!(schedule::plan(&schedule, &[], now()).create.is_none());
    // Nothing happens: nothing is written.
    let quiet = schedule::plan(&schedule, &[made.into()], now());
    assert_eq!(Some(&quiet.status), schedule.status.as_ref());
    assert!(quiet.tellings.is_empty() && quiet.delete.is_empty());
}

#[test]
fn an_old_backup_goes_only_when_a_newer_one_is_complete() {
    let schedule = nightly("keep: {last: 2}");
    let mut backups =
        vec![of_day(27, "Complete"), of_day(28, "Complete"), of_day(29, "Failed"), of_day(30, "Complete")];
    let plan = schedule::plan(&schedule, &backups, now());
    let new = *plan.create.unwrap();
    assert_eq!(new.spec.replaces, ["nightly-202611280200-00000028", "nightly-202611270200-00000027"]);
    // The failed one is older than one that is complete; no data has been replaced yet.
    assert_eq!(plan.delete, [("nightly-202611290200".to_owned(), "00000029-0000".to_owned())]);

    for (end, gone) in
        [("Running", vec![]), ("Failed", vec![]), ("Complete", vec!["nightly-202611280200", "nightly-202611270200"])]
    {
        let mut night = KvsBackup { metadata: new.metadata.clone(), ..(*of_day(30, end)).clone() };
        night.spec = new.spec.clone();
        let mut all = backups.clone();
        all.retain(|backup| !backup.name_any().contains("1129"));
        all.push(Arc::new(night));
        let plan = schedule::plan(&schedule, &all, now());
        let deleted: Vec<&str> = plan.delete.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(deleted, gone, "{end}");
    }

    // What lies elsewhere can't be reached from the new place.
    Arc::make_mut(&mut backups[0]).spec.target.persistent_volume_claim.claim_name = "former".into();
    assert_eq!(
        schedule::plan(&schedule, &backups, now()).create.unwrap().spec.replaces,
        ["nightly-202611280200-00000028"]
    );
}

#[test]
fn a_schedule_rests_and_says_why() {
    for (spec, reason) in [
        ("suspend: true", "Suspended"),
        ("timeZone: Europe/Atlantis", "ScheduleRefused"),
        ("timeZone: Asia/Kolkata", "Scheduled"),
    ] {
        let plan = schedule::plan(&nightly(spec), &[], now());
        assert_eq!(plan.status.conditions[0].reason, reason);
        assert_eq!(plan.create.is_some(), reason == "Scheduled", "{spec}");
    }
    let mut never = nightly("");
    never.spec.schedule = "0 0 30 2 *".into();
    let plan = schedule::plan(&never, &[], now());
    assert!(plan.status.conditions[0].message.contains("spec.schedule"), "{:?}", plan.status.conditions);
    assert_eq!(plan.next, None);
}
