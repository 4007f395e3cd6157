//! The cases of tests/cases, judged from the Rust types. The end-to-end tests put the same cases to a real API server.
//!
//! What a schema refuses (an unknown word, a number out of bounds) is judged here as far as the types do: a word that
//! no type knows fails to be read; bounds stand in the definition alone, so such a case must only name a real bound.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

use std::fs;
use std::path::Path;

use kvs_operator::backup::cron::Cron;
use kvs_operator::resource::{KvsBackup, KvsBackupSchedule, KvsStore};
use kvs_operator::validate::{Settings, validate};
use serde::Deserialize;
use serde_yaml::Value;

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    title: String,
    #[serde(default = "probe")]
    name: String,
    before: Option<Value>,
    spec: Value,
    #[serde(default)]
    accept: bool,
    reject: Option<String>,
    by: Option<String>,
}

fn probe() -> String {
    "probe".into()
}

fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What a kind's types and rules say to a case, as one text.
macro_rules! judge {
    ($kind:ty) => {
        |case: &Case| -> Result<(), String> {
            let object = |spec: &Value| -> Result<$kind, String> {
                let yaml = serde_yaml::to_string(spec).unwrap();
                let spec = serde_yaml::from_str(&yaml).map_err(|error| error.to_string())?;
                Ok(<$kind>::new(&case.name, spec))
            };
            let after = object(&case.spec)?;
            let verdict = match &case.before {
                Some(before) => after.validate_cel_update(&object(before)?),
                None => after.validate_cel(),
            };
            verdict.map_err(|errors| format!("{errors:?}"))
        }
    };
}

fn run(file: &str, least: usize, judge: impl Fn(&Case) -> Result<(), String>) {
    let cases = cases(file);
    assert!(cases.len() >= least, "{file} lost cases");
    for case in &cases {
        let title = &case.title;
        let verdict = judge(case);
        match (&case.reject, case.by.as_deref()) {
            (None, None) => {
                assert!(case.accept, "{title}: say accept or reject");
                assert_eq!(verdict, Ok(()), "{title}");
            }
            // Bounds are the API server's to judge; unknown words fail in the types already.
            (Some(_), Some("schema")) => assert!(!case.accept, "{title}"),
            (Some(words), None) => {
                let error = verdict.expect_err(title);
                assert!(error.contains(words.as_str()), "{title}: {error}");
            }
            (_, by) => panic!("{title}: {by:?}"),
        }
    }
}

#[test]
fn new_stores_are_judged_as_the_cases_say() {
    run("create.yaml", 80, judge!(KvsStore));
}

#[test]
fn changes_are_judged_as_the_cases_say() {
    run("update.yaml", 29, judge!(KvsStore));
}

#[test]
fn backups_and_schedules_are_judged_as_the_cases_say() {
    run("backup-create.yaml", 13, judge!(KvsBackup));
    run("backup-update.yaml", 5, judge!(KvsBackup));
    run("schedule-create.yaml", 8, judge!(KvsBackupSchedule));
}

#[test]
fn every_example_can_be_served() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let (mut stores, mut others) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            let refused = |errors: &dyn std::fmt::Debug| panic!("{}: {errors:?}", path.display());
            match object["kind"].as_str().unwrap() {
                "KvsStore" => {
                    let mut store: KvsStore = serde_yaml::from_value(object).unwrap();
                    store.metadata.namespace.get_or_insert_with(|| "default".into());
                    store.validate_cel().unwrap_or_else(|errors| refused(&errors));
                    let settings = Settings { server_image: "localhost/aryavarth/kvs-server:0.1.0".into() };
                    validate(&store, &settings).unwrap_or_else(|refusals| panic!("{}: {refusals:?}", path.display()));
                    stores += 1;
                }
                "KvsBackup" => {
                    let backup: KvsBackup = serde_yaml::from_value(object).unwrap();
                    backup.validate_cel().unwrap_or_else(|errors| refused(&errors));
                    others += 1;
                }
                "KvsBackupSchedule" => {
                    let schedule: KvsBackupSchedule = serde_yaml::from_value(object).unwrap();
                    schedule.validate_cel().unwrap_or_else(|errors| refused(&errors));
                    Cron::parse(&schedule.spec.schedule).unwrap();
                    others += 1;
                }
                kind => assert_eq!(kind, "PersistentVolumeClaim", "{}", path.display()),
            }
        }
    }
    assert!(stores >= 9 && others >= 2, "the examples are gone");
}
