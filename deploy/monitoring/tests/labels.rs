//! The two ways to be scraped, the operator's PodMonitor and deploy/monitoring/prometheus.yaml, give a server the same labels,
//! and among them each that alerts group by: an alert without its label would name no store.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use kvs_monitoring::rules::By;
use serde_yaml::Value;

/// Labels that Prometheus Operator gives to the targets of a PodMonitor, with where it takes them from.
const OF_PROMETHEUS_OPERATOR: [(&str, &str); 2] =
    [("namespace", "__meta_kubernetes_namespace"), ("pod", "__meta_kubernetes_pod_name")];

fn yaml(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The labels of the rules that copy one, or set one to a constant, with that; the spellings of the fields differ.
fn labels(rules: &Value, [source, target]: [&str; 2]) -> BTreeMap<String, String> {
    let label = |rule: &Value| {
        let from = rule[source][0].as_str().or(rule["replacement"].as_str())?;
        Some((rule[target].as_str()?.to_owned(), from.to_owned()))
    };
    rules.as_sequence().unwrap().iter().filter_map(label).collect()
}

/// What a job of prometheus.yaml gives to its targets.
fn of_plain_prometheus(job: &str) -> BTreeMap<String, String> {
    let config = yaml("prometheus.yaml");
    let jobs = config["scrape_configs"].as_sequence().unwrap();
    let job_config = jobs.iter().find(|one| one["job_name"] == job).unwrap();
    let mut labels = labels(&job_config["relabel_configs"], ["source_labels", "target_label"]);
    // What begins so says where to scrape and is dropped; every target has an instance, named as one likes.
    labels.retain(|name, _| !name.starts_with("__") && name != "instance");
    labels.insert("job".to_owned(), job.to_owned());
    labels
}

fn assert_has(labels: &BTreeMap<String, String>, by: By) {
    let names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
    let missing: Vec<_> = by.labels().iter().filter(|label| !names.contains(*label)).collect();
    assert!(missing.is_empty(), "alerts group by {missing:?}, which no target has: {names:?}");
}

#[test]
fn both_ways_to_scrape_give_a_server_the_same_labels() {
    // To the letter what the operator makes: its own tests compare them.
    let monitor = yaml("../../kvs-operator/tests/golden/secured/pod-monitor.yaml");
    let rules = &monitor["spec"]["podMetricsEndpoints"][0]["relabelings"];
    let mut of_monitor = labels(rules, ["sourceLabels", "targetLabel"]);
    of_monitor.extend(OF_PROMETHEUS_OPERATOR.map(|(label, source)| (label.to_owned(), source.to_owned())));
    assert_eq!(of_monitor, of_plain_prometheus("kvs-server"));
    assert_has(&of_monitor, By::Server);
    assert_has(&of_monitor, By::Store);
    assert_has(&of_monitor, By::Job);
}

#[test]
fn an_operator_has_the_labels_of_its_alerts() {
    let labels = of_plain_prometheus("kvs-operator");
    assert_has(&labels, By::Operator);
    assert_has(&labels, By::Installation);
    assert_has(&labels, By::Job);
}
