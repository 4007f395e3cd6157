//! Golden files: what each child of a store looks like, to the letter.
//!
//! Each folder of tests/golden is a case: `store.yaml` goes in, the other files come out. `KVS_FIX=1` rewrites them. A
//! change here of a `stateful-set.yaml` restarts every pod when operators are upgraded: say so in the changelog.
#![allow(clippy::unwrap_used, reason = "a test may end at the line that surprises it")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use kvs_operator::kinds::KnownKinds;
use kvs_operator::observe::Observed;
use kvs_operator::plan::{Child, plan};

/// The folder of the cases.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The file of a child in its case.
fn file_name(child: &Child) -> &'static str {
    match child {
        Child::ServiceAccount(_) => "service-account.yaml",
        Child::ConfigMap(_) => "config-map.yaml",
        Child::Service(_) if child.name().ends_with("-peers") => "peers-service.yaml",
        Child::Service(_) => "client-service.yaml",
        Child::NetworkPolicy(_) => "network-policy.yaml",
        Child::PodDisruptionBudget(_) => "disruption-budget.yaml",
        Child::Certificate(_) => "certificate.yaml",
        Child::PodMonitor(_) => "pod-monitor.yaml",
        Child::StatefulSet(_) => "stateful-set.yaml",
    }
}

/// The members that a case asks for: `three-members` needs more than a store may have today.
fn members(case: &str) -> u8 {
    if case == "three-members" { 3 } else { 1 }
}

/// The children that a case has: its folder has no file of another.
fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name != "store.yaml").collect();
    files.sort();
    files
}

/// What the cluster of a case knows: those of `minimal` and `full` know nothing of other projects.
fn kinds(case: &str) -> KnownKinds {
    let knows = case == "secured";
    KnownKinds { certificates: knows, pod_monitors: knows }
}

#[test]
fn every_child_is_as_its_golden_file_says() {
    let fix = std::env::var_os("KVS_FIX").is_some();
    let mut differences = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let folder = entry.unwrap().path();
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        let store = support::store(&fs::read_to_string(folder.join("store.yaml")).unwrap());
        let mut valid = support::valid(&store);
        valid.members = members(&case);
        let plan = plan(&Observed { kinds: kinds(&case), ..Observed::default() }, &valid);
        let mut made: Vec<String> = plan.writes.iter().map(|write| file_name(&write.child).to_owned()).collect();
        made.sort();
        assert!(made.len() >= 5, "{case}: a new store needs every child");
        assert!(fix || made == files(&folder), "{case}: makes {made:?}");
        assert!(matches!(plan.writes.last().unwrap().child, Child::StatefulSet(_)), "{case}: the pods come last");
        for write in &plan.writes {
            let file = folder.join(file_name(&write.child));
            let text = serde_yaml::to_string(&write.child.body()).unwrap();
            if fix {
                fs::write(&file, &text).unwrap();
            } else if fs::read_to_string(&file).unwrap_or_default() != text {
                differences.push(format!("--- {}\n{text}", file.display()));
            }
        }
        cases += 1;
    }
    assert!(cases >= 5, "the cases are gone");
    assert!(differences.is_empty(), "look, then run deploy/generate:\n{}", differences.join("\n"));
}
