//! Every file that is made of the catalogues, the rules and the dashboards, with its path in the repository.

use crate::{dashboards, document, rules};

const HEADER: &str = "# Made by deploy/generate; change its source instead.\n";
/// The chart that installs rules and dashboards.
const CHART: &str = "charts/kvs-operator/files";

/// The files.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let rules = format!("{HEADER}{}", rules::rule_file(1));
    let mut files = vec![
        ("docs/metrics.md".to_owned(), document::metrics()),
        ("docs/dashboards.md".to_owned(), document::dashboards()),
        (format!("{CHART}/kvs.rules.yaml"), rules.clone()),
        ("deploy/monitoring/rules/kvs.rules.yaml".to_owned(), rules),
        (
            "deploy/monitoring/rules/kvs.test.yaml".to_owned(),
            format!("{HEADER}{}", rules::unit_tests("kvs.rules.yaml")),
        ),
    ];
    for dashboard in dashboards::ALL {
        for folder in ["deploy/dashboards", &format!("{CHART}/dashboards")] {
            files.push((format!("{folder}/{}.json", dashboard.name), dashboard.json()));
        }
    }
    files
}
