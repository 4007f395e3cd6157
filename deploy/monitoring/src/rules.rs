//! The alert rules: what they are, and how they are written down.
//!
//! What must hold: an expression spells times as `@5m` (a range or a wait) and `#3600` (a number of seconds), so that the
//! same rule runs with its shipped times and, divided by a scale, in a test; an alert says who is woken, what it means, and
//! where its page of the runbooks is; and it names the other alerts that may fire for the same cause.

mod alerts;
mod recorded;
mod story;
mod unit_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

pub use alerts::ALERTS;
pub use recorded::RECORDED;
pub use story::{OPERATOR, SERVER, Story};
pub use unit_tests::unit_tests;

/// Where the runbooks stand, from the top of the repository; a chart puts its own address there.
pub const RUNBOOKS: &str = "docs/runbooks.md";

/// How soon somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Now: clients notice, or data is in danger.
    Page,
    /// In working hours.
    Ticket,
}

impl Severity {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "critical",
            Self::Ticket => "warning",
        }
    }
}

/// Whose label set an alert has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One server: `namespace`, `kvsstore`, `pod`.
    Server,
    /// One store: `namespace`, `kvsstore`.
    Store,
    /// One pool of a server: as [`By::Server`], and `pool`.
    Pool,
    /// One operator: `namespace`, `pod`.
    Operator,
    /// All operators of one installation: `namespace`.
    Installation,
    /// All servers or operators: `job`.
    Job,
    /// Everything that is watched: nothing.
    All,
}

impl By {
    /// The labels, in the order of an expression.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["namespace", "kvsstore", "pod"],
            Self::Store => &["namespace", "kvsstore"],
            Self::Pool => &["namespace", "kvsstore", "pod", "pool"],
            Self::Operator => &["namespace", "pod"],
            Self::Installation => &["namespace"],
            Self::Job => &["job"],
            Self::All => &[],
        }
    }
}

/// An alert.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    /// Its name, which is the title of its runbook.
    pub name: &'static str,
    /// How soon somebody must look.
    pub severity: Severity,
    /// Whose it is.
    pub by: By,
    /// The expression, with `@` and `#` for times.
    pub expression: &'static str,
    /// How long the expression must hold, such as `5m`.
    pub wait: &'static str,
    /// What is wrong, in one sentence.
    pub summary: &'static str,
    /// What it means and what to look at; `{{ $labels.x }}` names whose it is.
    pub description: &'static str,
    /// Alerts that may fire for the same cause. That holds both ways, see [`company`].
    pub with: &'static [&'static str],
    /// Series with which it fires.
    pub fires: Story,
    /// Series with which it stays quiet: near the threshold, on the other side.
    pub quiet: Story,
}

/// A recording rule: the same expression for several ranges.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    /// Its name without the range, such as `kvs:requests_failed:ratio_rate`.
    pub name: &'static str,
    /// The expression, with `@RANGE` for the range.
    pub expression: &'static str,
    /// The ranges, such as `5m`.
    pub ranges: &'static [&'static str],
}

#[derive(Serialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Recording {
        record: String,
        expr: String,
    },
    Alerting {
        alert: &'static str,
        expr: String,
        #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
        wait: Option<String>,
        labels: BTreeMap<&'static str, &'static str>,
        annotations: BTreeMap<&'static str, String>,
    },
}

/// The file of rules, with every time divided by `scale`.
#[must_use]
pub fn rule_file(scale: u32) -> String {
    let recordings = RECORDED.iter().flat_map(|recorded| {
        recorded.ranges.iter().map(move |range| Rule::Recording {
            record: format!("{}{range}", recorded.name),
            expr: with_times(&recorded.expression.replace("@RANGE", &format!("@{range}")), scale),
        })
    });
    let alerts = ALERTS.iter().map(|alert| Rule::Alerting {
        alert: alert.name,
        expr: with_times(alert.expression, scale),
        wait: (alert.wait != "0m").then(|| duration(alert.wait, scale)),
        labels: BTreeMap::from([("severity", alert.severity.as_str())]),
        annotations: BTreeMap::from([
            ("summary", alert.summary.to_owned()),
            ("description", alert.description.to_owned()),
            ("runbook_url", runbook(alert.name)),
        ]),
    });
    let groups = vec![
        Group { name: "kvs-recorded".into(), rules: recordings.collect() },
        Group { name: "kvs-alerts".into(), rules: alerts.collect() },
    ];
    serde_yaml::to_string(&RuleFile { groups }).expect("texts have a YAML form")
}

/// The alerts that may fire for the same cause as this one: those that it names, and those that name it.
#[must_use]
pub fn company(name: &str) -> BTreeSet<&'static str> {
    let mut company = BTreeSet::new();
    for alert in ALERTS {
        if alert.name == name {
            company.extend(alert.with);
        } else if alert.with.contains(&name) {
            company.insert(alert.name);
        }
    }
    company.remove(name);
    company
}

/// Where an alert's page is.
#[must_use]
pub fn runbook(alert: &str) -> String {
    format!("{RUNBOOKS}#{}", alert.to_ascii_lowercase())
}

/// An expression with its times, divided by `scale`.
#[must_use]
pub fn with_times(expression: &str, scale: u32) -> String {
    let mut text = String::new();
    let mut rest = expression;
    while let Some(place) = rest.find(['@', '#']) {
        text.push_str(&rest[..place]);
        let is_range = rest[place..].starts_with('@');
        rest = &rest[place + 1..];
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let time = &rest[..end];
        rest = &rest[end..];
        if is_range {
            text.push_str(&duration(time, scale));
        } else {
            let seconds: f64 = time.parse().expect("behind # stands a number of seconds");
            let _ = write!(text, "{}", seconds / f64::from(scale));
        }
    }
    text.push_str(rest);
    text
}

/// A duration such as `5m`, divided by `scale`, as Prometheus writes one.
///
/// # Panics
/// When it is none: an error of ours that any test shows.
#[must_use]
pub fn duration(text: &str, scale: u32) -> String {
    if scale == 1 {
        return text.to_owned();
    }
    format!("{}ms", milliseconds(text) / u64::from(scale))
}

/// A duration such as `5m` in milliseconds.
///
/// # Panics
/// When it is none: an error of ours that any test shows.
#[must_use]
pub fn milliseconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a duration is a number and a letter");
    number
        * match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => panic!("{text} is no duration"),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_divided_and_nothing_else() {
        let text = "rate(x{le=\"0.5\"}[@5m]) > 14.4 * 0.001 and time() - y < #3600";
        assert_eq!(with_times(text, 1), "rate(x{le=\"0.5\"}[5m]) > 14.4 * 0.001 and time() - y < 3600");
        assert_eq!(with_times(text, 60), "rate(x{le=\"0.5\"}[5000ms]) > 14.4 * 0.001 and time() - y < 60");
    }

    #[test]
    fn company_holds_both_ways() {
        assert!(company("KvsLatencyBudgetBurn").contains("KvsFsyncSlow"), "it is named by the other one");
        for alert in ALERTS {
            let company_of_it = company(alert.name);
            assert!(!company_of_it.contains(alert.name), "{} needs no leave for itself", alert.name);
            for other in company_of_it {
                assert!(company(other).contains(alert.name), "{other} does not know {}", alert.name);
            }
        }
    }
}
