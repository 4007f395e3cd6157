//! docs/metrics.md: both catalogues as tables, with the alerts and dashboards that use each metric.

use std::fmt::Write as _;

use kvs_protocol::metric::{Kind, Metric};

use crate::dashboards;
use crate::metrics::{PROCESS, uses};
use crate::rules::{ALERTS, RECORDED, RUNBOOKS, Severity};

/// The document.
#[must_use]
pub fn metrics() -> String {
    let mut text = String::from(
        "# Metrics\n\n<!-- Made by deploy/generate; change its source instead. -->\n\n\
         The server exports these on its admin port (`--admin-addr`, 9090 in a pod) under `/metrics`, the operator on its own. Names \
         are in\nbase units, labels have closed sets of values, and a server has at most 600 series. Alerts are in \
         deploy/monitoring/rules, each\nwith a section of [the runbooks](runbooks.md); dashboards for Grafana in \
         deploy/dashboards, with pictures of them in [dashboards.md](dashboards.md).\n",
    );
    section(&mut text, "Server", kvs_server::catalogue::ALL);
    section(&mut text, "Operator", kvs_operator::metrics::catalogue::ALL);
    text.push_str("\n## Process\n\nBoth export what the operating system knows of them: ");
    let names: Vec<String> = PROCESS.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(text, "{}.", names.join(", "));
    text.push_str("\n## Alerts\n\n| alert | severity | what is wrong |\n|---|---|---|\n");
    for alert in ALERTS {
        let severity = match alert.severity {
            Severity::Page => "page",
            Severity::Ticket => "ticket",
        };
        let file = RUNBOOKS.trim_start_matches("docs/");
        let _ = writeln!(
            text,
            "| [{}]({file}#{}) | {severity} | {} |",
            alert.name,
            alert.name.to_ascii_lowercase(),
            alert.summary
        );
    }
    text
}

/// The page with the pictures.
#[must_use]
pub fn dashboards() -> String {
    let mut text = String::from(
        "# Dashboards\n\n<!-- Made by deploy/generate; change its source instead. -->\n\n\
         The files are in deploy/dashboards; the chart kvs-operator makes ConfigMaps of them that Grafana's sidecar finds\n\
         (`monitoring.dashboards.enabled`). The pictures show the same queries, asked of a Prometheus that watches a server under \
         load\n(`tests/bin/dashboards`).\n",
    );
    for dashboard in dashboards::ALL {
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n![{}](pictures/{}.svg)\n",
            dashboard.title, dashboard.description, dashboard.title, dashboard.name
        );
    }
    text
}

fn section(text: &mut String, title: &str, metrics: &[Metric]) {
    let _ = write!(
        text,
        "\n## {title}\n\n| metric | kind, unit | labels | what it says | question | used by |\n|---|---|---|---|---|---|\n"
    );
    for metric in metrics {
        let Metric { name, kind, unit, labels, help, question } = metric;
        let kind = match kind {
            Kind::Counter => "counter".to_owned(),
            Kind::Gauge => "gauge".to_owned(),
            Kind::Histogram { first, factor, count } => {
                let last = first * factor.powi(i32::try_from(*count).unwrap_or(0) - 1);
                format!("histogram from {first} to {last:.3}, ×{factor}")
            }
        };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            text,
            "| `{name}` | {kind}, {} | {} | {help} | {question} | {} |",
            unit.as_str(),
            labels.join(", "),
            users(metric).join(", ")
        );
    }
}

/// The dashboards and alerts that use a metric.
fn users(metric: &Metric) -> Vec<&'static str> {
    let has_panel = |dashboard: &&&dashboards::Dashboard| {
        dashboard.panels.iter().flat_map(|panel| panel.queries).any(|(expression, _)| uses(expression, metric))
    };
    let mut users: Vec<&str> = dashboards::ALL.iter().filter(has_panel).map(|dashboard| dashboard.name).collect();
    let recorded: Vec<&str> =
        RECORDED.iter().filter(|recorded| uses(recorded.expression, metric)).map(|recorded| recorded.name).collect();
    let asks = |expression: &str| uses(expression, metric) || recorded.iter().any(|name| expression.contains(name));
    users.extend(ALERTS.iter().filter(|alert| asks(alert.expression)).map(|alert| alert.name));
    users
}
