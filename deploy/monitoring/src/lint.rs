//! What a compiler can't see of metrics, rules, dashboards and runbooks: `kvs-monitoring generate` refuses to write while
//! one of these holds, and so does every check that the generated files are up to date.
//!
//! What must hold: each problem says where it is and what is wrong there; nothing here writes or asks anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::dashboards;
use crate::metrics::{all, unknown_in, uses};
use crate::rules::{ALERTS, Alert, RECORDED};

/// The page with a section for each alert.
const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
/// The sections that each page has.
const SECTIONS: [&str; 4] = ["Meaning", "Impact", "Diagnosis", "Mitigation"];
/// Metrics that no panel shows and no alert asks for, because they are for a look by hand.
const BY_HAND: [&str; 2] = ["kvs_config_last_reload_success_timestamp_seconds", "kvs_server_info"];

/// Everything that is wrong, or nothing.
#[must_use]
pub fn problems() -> Vec<String> {
    let mut problems = catalogues();
    problems.extend(registrations());
    problems.extend(unknown_names());
    problems.extend(unused_metrics());
    problems.extend(alerts());
    problems.extend(pages(RUNBOOKS));
    problems
}

/// Every expression, with where it stands.
fn expressions() -> Vec<(String, &'static str)> {
    let mut all: Vec<(String, &str)> = Vec::new();
    for dashboard in dashboards::ALL {
        for panel in dashboard.panels {
            let place = format!("dashboard {}, {}", dashboard.name, panel.title);
            all.extend(panel.queries.iter().map(|(expression, _)| (place.clone(), *expression)));
        }
    }
    all.extend(ALERTS.iter().map(|alert| (format!("alert {}", alert.name), alert.expression)));
    all.extend(RECORDED.iter().map(|one| (format!("recording rule {}", one.name), one.expression)));
    all
}

fn catalogues() -> Vec<String> {
    let mut names = BTreeSet::new();
    let twice = all().filter(|metric| !names.insert(metric.name)).map(|metric| format!("{} comes twice", metric.name));
    let mut problems: Vec<String> = twice.collect();
    problems.extend(all().filter_map(|metric| metric.check().err()));
    problems
}

/// What server and operator register, against what their catalogues say.
fn registrations() -> Vec<String> {
    let operator = kvs_operator::metrics::registered();
    let mut problems = Vec::new();
    for (program, registered, catalogue) in [
        ("server", kvs_server::registered_metrics(), kvs_server::catalogue::ALL),
        ("operator", operator.iter().map(String::as_str).collect(), kvs_operator::metrics::catalogue::ALL),
    ] {
        let listed: BTreeSet<&str> = catalogue.iter().map(|metric| metric.name).collect();
        problems.extend(
            listed.difference(&registered).map(|name| format!("the {program} lists {name} and registers it nowhere")),
        );
        problems.extend(
            registered.difference(&listed).map(|name| format!("the {program} registers {name} and does not list it")),
        );
    }
    problems
}

fn unknown_names() -> Vec<String> {
    let unknown = |(place, expression): (String, &'static str)| -> Vec<String> {
        unknown_in(expression).into_iter().map(|name| format!("{place}: no catalogue has {name}")).collect()
    };
    expressions().into_iter().flat_map(unknown).collect()
}

fn unused_metrics() -> Vec<String> {
    let expressions = expressions();
    let mut problems = Vec::new();
    for metric in all() {
        let used = expressions.iter().any(|(_, expression)| uses(expression, metric));
        match (used, BY_HAND.contains(&metric.name)) {
            (false, false) => problems.push(format!("{} is in no panel, rule or alert", metric.name)),
            (true, true) => problems.push(format!("{} is said to be for a look by hand, and is used", metric.name)),
            (true, false) | (false, true) => {}
        }
    }
    problems
}

fn alerts() -> Vec<String> {
    let names: BTreeSet<&str> = ALERTS.iter().map(|alert| alert.name).collect();
    let recorded: BTreeSet<String> =
        RECORDED.iter().flat_map(|one| one.ranges.iter().map(move |range| format!("{}{range}", one.name))).collect();
    let mut problems = Vec::new();
    if names.len() != ALERTS.len() {
        problems.push("two alerts have one name".to_owned());
    }
    for alert in ALERTS {
        let Alert { name, expression, summary, description, with, .. } = alert;
        let mut problem = |text: String| problems.push(format!("alert {name}: {text}"));
        for word in expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != ':') {
            if word.contains(':') && !recorded.contains(word) {
                problem(format!("{word} is recorded by no rule"));
            }
        }
        if !(name.starts_with("Kvs") && summary.ends_with('.') && description.ends_with('.')) {
            problem("needs a name with Kvs, and a summary and a description in sentences".to_owned());
        }
        for label in description.split("{{ $labels.").skip(1).filter_map(|rest| rest.split(' ').next()) {
            if !alert.by.labels().contains(&label) {
                problem(format!("its description names {label}, which it has not"));
            }
        }
        for other in with.iter().filter(|other| !names.contains(*other)) {
            problem(format!("there is no alert {other} that it could fire with"));
        }
    }
    problems
}

/// What is wrong with a text of runbooks.
fn pages(text: &str) -> Vec<String> {
    let pages: BTreeMap<&str, &str> = text.split("\n## ").skip(1).filter_map(|page| page.split_once('\n')).collect();
    let mut problems = Vec::new();
    for alert in ALERTS {
        let Some(page) = pages.get(alert.name) else {
            problems.push(format!("docs/runbooks.md has no page for {}", alert.name));
            continue;
        };
        for title in SECTIONS {
            let part = page.split_once(&format!("**{title}.** ")).map(|(_, rest)| rest);
            let words =
                part.and_then(|rest| rest.split("\n\n").next()).map_or(0, |part| part.split_whitespace().count());
            if words < 2 {
                problems.push(format!("docs/runbooks.md, {}: {title} is missing or says nothing", alert.name));
            }
        }
    }
    let is_alert = |page: &&&str| ALERTS.iter().any(|alert| alert.name == **page);
    problems.extend(
        pages.keys().filter(|page| !is_alert(page)).map(|page| format!("docs/runbooks.md: there is no alert {page}")),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wrong() {
        assert_eq!(problems(), Vec::<String>::new());
    }

    #[test]
    fn an_empty_section_and_a_page_of_nobody_are_noticed() {
        let damaged = RUNBOOKS.replacen("**Impact.** Clients of this store can't read or write.", "**Impact.**\n\n", 1);
        assert!(pages(&damaged).iter().any(|problem| problem.contains("KvsDown: Impact")), "{:?}", pages(&damaged));
        let more = format!("{RUNBOOKS}\n## KvsNobody\n\ntext\n");
        assert_eq!(pages(&more), ["docs/runbooks.md: there is no alert KvsNobody"]);
        assert_eq!(pages("").len(), ALERTS.len());
    }
}
