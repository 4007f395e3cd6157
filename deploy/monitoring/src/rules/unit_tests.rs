//! The tests for `promtool test rules`: each alert fires in its story with its shipped times, stays quiet in the other one,
//! and no alert fires beside it that it does not name.

use std::collections::BTreeMap;

use serde::Serialize;

use super::story::{OPERATOR, SERVER};
use super::{ALERTS, Alert, By, Story, company, runbook};

#[derive(Serialize)]
struct TestFile {
    rule_files: Vec<&'static str>,
    evaluation_interval: &'static str,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<Series>,
    alert_rule_test: Vec<Expectation>,
}

#[derive(Serialize)]
struct Series {
    series: String,
    values: &'static str,
}

#[derive(Serialize)]
struct Expectation {
    eval_time: &'static str,
    alertname: &'static str,
    exp_alerts: Vec<Firing>,
}

#[derive(Serialize)]
struct Firing {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<&'static str, String>,
}

/// The test file for a rule file of this name beside it.
#[must_use]
pub fn unit_tests(rule_file: &'static str) -> String {
    let tests = ALERTS.iter().flat_map(|alert| [firing(alert), quiet(alert)]).collect();
    serde_yaml::to_string(&TestFile { rule_files: vec![rule_file], evaluation_interval: "1m", tests })
        .expect("texts have a YAML form")
}

fn firing(alert: &Alert) -> Test {
    let labels = labels_of(alert);
    let description = labels.iter().fold(alert.description.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{ $labels.{name} }}}}"), value)
    });
    let annotations = BTreeMap::from([
        ("summary", alert.summary.to_owned()),
        ("description", description),
        ("runbook_url", runbook(alert.name)),
    ]);
    let firing = Firing { exp_labels: labels, exp_annotations: annotations };
    let mut expectations =
        vec![Expectation { eval_time: alert.fires.at, alertname: alert.name, exp_alerts: vec![firing] }];
    let company = company(alert.name);
    let others = ALERTS.iter().filter(|other| other.name != alert.name && !company.contains(other.name));
    expectations.extend(others.map(|other| is_quiet(other, &alert.fires)));
    test(format!("{} fires", alert.name), &alert.fires, expectations)
}

fn quiet(alert: &Alert) -> Test {
    test(format!("{} stays quiet", alert.name), &alert.quiet, vec![is_quiet(alert, &alert.quiet)])
}

fn is_quiet(alert: &Alert, story: &Story) -> Expectation {
    Expectation { eval_time: story.at, alertname: alert.name, exp_alerts: Vec::new() }
}

fn test(name: String, story: &Story, alert_rule_test: Vec<Expectation>) -> Test {
    let series = story.full_series();
    let input_series = series.into_iter().map(|(series, values)| Series { series, values }).collect();
    Test { name, interval: "1m", input_series, alert_rule_test }
}

/// The labels with which an alert fires in its story.
fn labels_of(alert: &Alert) -> BTreeMap<String, String> {
    let target = if alert.by == By::Operator || alert.name.starts_with("KvsOperator") { OPERATOR } else { SERVER };
    let pairs = target.split(',').filter_map(|pair| pair.split_once('='));
    let wanted = |name: &&str| alert.by.labels().contains(name);
    let mut labels: BTreeMap<String, String> = pairs
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    labels.extend(alert.fires.labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    labels.insert("severity".into(), alert.severity.as_str().into());
    labels
}
