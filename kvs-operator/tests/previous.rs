//! Upgrades touch nothing: for the stores of tests/fixtures/previous this operator makes the pods that the previous one
//! made, to the letter, so that no pod restarts when the operator is replaced.
//!
//! A difference here restarts every pod of every store at the next upgrade. If that can't be helped, say it in the
//! changelog, and only then take over the fixtures of a newer commit (tests/fixtures/previous/README.md says how).
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, plan};
use serde_json::Value;

/// The folders of the stores.
fn stores() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/previous/stores");
    let mut stores: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    stores.sort();
    assert!(stores.len() >= 3, "the fixtures are gone");
    stores
}

fn text(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

/// What a child looks like, or nothing if the plan leaves it alone.
fn body(writes: &[kvs_operator::plan::Write], wanted: fn(&Child) -> bool) -> Option<Value> {
    writes.iter().find(|write| wanted(&write.child)).map(|write| serde_json::to_value(write.child.body()).unwrap())
}

#[test]
fn the_pods_of_the_previous_operator_stay_as_they_are() {
    for folder in stores() {
        let store = support::store(&text(&folder, "store.yaml"));
        let mut valid = support::valid(&store);
        // One of them has more members than a store may have today.
        valid.members = if folder.ends_with("three-members") { 3 } else { 1 };
        let before: StatefulSet = serde_yaml::from_str(&text(&folder, "stateful-set.yaml")).unwrap();
        let configuration: ConfigMap = serde_yaml::from_str(&text(&folder, "config-map.yaml")).unwrap();
        let is_set = |child: &Child| matches!(child, Child::StatefulSet(_));
        let fresh = plan(&Observed::default(), &valid);
        let now = body(&fresh.writes, is_set).unwrap();
        let template = serde_json::to_value(&before.spec.as_ref().unwrap().template).unwrap();
        let readable = |value: &Value| serde_yaml::to_string(value).unwrap();
        assert_eq!(readable(&now["spec"]["template"]), readable(&template), "{}: every pod restarts", folder.display());

        // And where the previous one's children are there, the set is not written at all, or with the same pods.
        let observed = Observed {
            stateful_set: Some(Arc::new(before)),
            config_map: Some(Arc::new(configuration)),
            ..Observed::default()
        };
        let upgrade = plan(&observed, &valid);
        if let Some(written) = body(&upgrade.writes, is_set) {
            assert_eq!(written["spec"]["template"], template, "{}: every pod restarts", folder.display());
        }
    }
}
