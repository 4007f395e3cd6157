//! The dashboards: panels in rows, and their JSON for Grafana.
//!
//! What must hold: every query names metrics of the catalogues only, selects by the dashboard's variables and takes rates
//! over `$__rate_interval`; every panel says its unit and which question it answers. Expressions spell the selection as
//! `{S}` (or `{S,kind="dead"}`) and the range of rates as `[R]`.

mod engine;
mod operator;
mod overview;
mod pool;

use serde_json::{Value, json};

/// A dashboard.
#[derive(Debug, Clone, Copy)]
pub struct Dashboard {
    /// The name of its file, and a part of its address.
    pub name: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// Whom it is for.
    pub description: &'static str,
    /// The job that its variable begins with.
    pub job: &'static str,
    /// The labels that can be chosen, from the widest to the narrowest.
    pub labels: &'static [&'static str],
    /// A metric that all targets have, whose labels are offered.
    pub lists: &'static str,
    /// Its panels, two beside each other.
    pub panels: &'static [Panel],
}

/// How a panel shows its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines over time.
    Lines,
    /// One number.
    Number,
    /// Counts of buckets over time.
    HeatMap,
}

/// What the numbers of a panel are, in Grafana's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Things.
    Count,
    /// Things a second.
    Rate,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    ByteRate,
    /// Shares from 0 to 1.
    Share,
}

impl Scale {
    /// The name of the unit in Grafana.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::Rate => "cps",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::ByteRate => "Bps",
            Self::Share => "percentunit",
        }
    }
}

/// A panel.
#[derive(Debug, Clone, Copy)]
pub struct Panel {
    /// What stands above it.
    pub title: &'static str,
    /// The question that it answers.
    pub description: &'static str,
    /// What its numbers are.
    pub scale: Scale,
    /// How they are shown.
    pub look: Look,
    /// The queries, each with the legend of its series.
    pub queries: &'static [(&'static str, &'static str)],
    /// Whether a healthy store under load may have no series here.
    pub may_be_empty: bool,
}

/// A panel with lines.
const fn lines(
    title: &'static str,
    scale: Scale,
    queries: &'static [(&'static str, &'static str)],
    description: &'static str,
) -> Panel {
    Panel { title, description, scale, look: Look::Lines, queries, may_be_empty: false }
}

/// A panel with one number.
const fn number(
    title: &'static str,
    scale: Scale,
    queries: &'static [(&'static str, &'static str)],
    description: &'static str,
) -> Panel {
    Panel { look: Look::Number, ..lines(title, scale, queries, description) }
}

/// A heat map of a histogram.
const fn heat_map(
    title: &'static str,
    queries: &'static [(&'static str, &'static str)],
    description: &'static str,
) -> Panel {
    Panel { look: Look::HeatMap, ..lines(title, Scale::Seconds, queries, description) }
}

/// Every dashboard.
pub const ALL: &[&Dashboard] = &[&overview::OVERVIEW, &engine::ENGINE, &pool::POOL, &operator::OPERATOR];

/// The time over which rates are taken, as Grafana fills it in.
pub const RATE_INTERVAL: &str = "$__rate_interval";

impl Dashboard {
    /// A query as it stands in the file.
    #[must_use]
    pub fn query(&self, expression: &str) -> String {
        let labels: String = self.labels.iter().map(|label| format!(",{label}=~\"${label}\"")).collect();
        expression.replace("{S", &format!("{{job=~\"$job\"{labels}")).replace("[R]", &format!("[{RATE_INTERVAL}]"))
    }

    /// A query as Prometheus takes it: everything is chosen, and rates are taken over `range`.
    #[must_use]
    pub fn filled_in(&self, expression: &str, range: &str) -> String {
        let labels = self
            .labels
            .iter()
            .fold(self.query(expression), |query, label| query.replace(&format!("\"${label}\""), "\".*\""));
        labels.replace("\"$job\"", &format!("\"{}\"", self.job)).replace(RATE_INTERVAL, range)
    }

    /// The file.
    #[must_use]
    pub fn json(&self) -> String {
        let panels: Vec<Value> =
            self.panels.iter().enumerate().map(|(place, panel)| self.panel(place, panel)).collect();
        let mut variables = vec![
            json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" }),
            self.variable("job", &format!("label_values({}, job)", self.lists), Some(self.job)),
        ];
        let mut chosen = "job=~\"$job\"".to_owned();
        for label in self.labels {
            let query = format!("label_values({}{{{chosen}}}, {label})", self.lists);
            variables.push(self.variable(label, &query, None));
            chosen.push_str(&format!(",{label}=~\"${label}\""));
        }
        let file = json!({
            "title": self.title,
            "description": self.description,
            "uid": format!("kvs-{}", self.name),
            "tags": ["aryavarth-kvs"],
            "schemaVersion": 39,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-1h", "to": "now" },
            "templating": { "list": variables },
            "annotations": { "list": [self.restarts()] },
            "links": [{
                "title": "Aryavarth KVS",
                "type": "dashboards",
                "icon": "external link",
                "tooltip": "",
                "tags": ["aryavarth-kvs"],
                "asDropdown": false,
                "targetBlank": false,
                "includeVars": true,
                "keepTime": true,
            }],
            "panels": panels,
        });
        serde_json::to_string_pretty(&file).expect("texts have a JSON form") + "\n"
    }

    fn variable(&self, name: &str, query: &str, only: Option<&str>) -> Value {
        let (text, value) = only.map_or(("All", "$__all"), |only| (only, only));
        json!({
            "name": name,
            "label": name,
            "type": "query",
            "datasource": datasource(),
            "query": { "query": query, "refId": "Variables" },
            "refresh": 2,
            "sort": 1,
            "multi": true,
            "includeAll": true,
            "allValue": ".*",
            "current": { "text": [text], "value": [value] },
        })
    }

    fn restarts(&self) -> Value {
        json!({
            "name": "Starts",
            "enable": true,
            "iconColor": "orange",
            "datasource": datasource(),
            "expr": self.query("changes(process_start_time_seconds{S}[R]) > 0"),
            "titleFormat": "a start",
        })
    }

    fn panel(&self, place: usize, panel: &Panel) -> Value {
        const WIDTH: usize = 12;
        const HEIGHT: usize = 8;
        let targets: Vec<Value> = panel
            .queries
            .iter()
            .enumerate()
            .map(|(number, (expression, legend))| {
                json!({
                    "refId": char::from(b'A' + u8::try_from(number).expect("a panel has few queries")).to_string(),
                    "datasource": datasource(),
                    "expr": self.query(expression),
                    "legendFormat": legend,
                    "format": if panel.look == Look::HeatMap { "heatmap" } else { "time_series" },
                })
            })
            .collect();
        let kind = match panel.look {
            Look::Lines => "timeseries",
            Look::Number => "stat",
            Look::HeatMap => "heatmap",
        };
        json!({
            "id": place + 1,
            "title": panel.title,
            "description": panel.description,
            "type": kind,
            "datasource": datasource(),
            "gridPos": { "x": place % 2 * WIDTH, "y": place / 2 * HEIGHT, "w": WIDTH, "h": HEIGHT },
            "fieldConfig": { "defaults": { "unit": panel.scale.as_str(), "min": 0 }, "overrides": [] },
            "options": options(panel),
            "targets": targets,
        })
    }
}

/// What a panel's schema leaves to its kind, in full, as Grafana writes it: a strict reader asks for each of these.
fn options(panel: &Panel) -> Value {
    match panel.look {
        Look::HeatMap => json!({
            "calculate": false,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "fill": "dark-orange",
                "exponent": 0.5,
                "steps": 64,
                "reverse": false,
            },
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
            "legend": { "show": true },
            "showValue": "never",
            "tooltip": { "mode": "single", "yHistogram": false },
            "yAxis": { "unit": panel.scale.as_str() },
        }),
        Look::Number => json!({
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "showPercentChange": false,
            "textMode": "auto",
            "wideLayout": true,
        }),
        Look::Lines => json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn panels_select_by_variables_and_say_what_they_show() {
        let mut names = BTreeSet::new();
        for dashboard in ALL {
            assert!(names.insert(dashboard.name), "{} comes twice", dashboard.name);
            let mut titles = BTreeSet::new();
            for panel in dashboard.panels {
                let place = format!("{}: {}", dashboard.name, panel.title);
                assert!(titles.insert(panel.title), "{place} comes twice");
                assert!(
                    panel.description.ends_with('?') && panel.description.len() > 15,
                    "{place}: {}",
                    panel.description
                );
                assert!(!panel.queries.is_empty(), "{place} has no query");
                for (expression, legend) in panel.queries {
                    assert!(!legend.is_empty(), "{place}: a query without a legend");
                    let query = dashboard.query(expression);
                    for metric in query.split("kvs_").skip(1) {
                        let rest =
                            metric.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
                        assert!(
                            rest.starts_with("{job=~\"$job\""),
                            "{place}: {query} does not select by the variables"
                        );
                    }
                    for range in query.split('[').skip(1) {
                        assert!(range.starts_with(RATE_INTERVAL), "{place}: {query} has a range of its own");
                    }
                    let counts = query.contains("_total") || query.contains("_bucket") || query.contains("_sum");
                    assert!(!counts || query.contains(RATE_INTERVAL), "{place}: {query} shows a counter as it is");
                }
            }
        }
    }

    #[test]
    fn files_have_what_grafana_needs() {
        for dashboard in ALL {
            let file: Value = serde_json::from_str(&dashboard.json()).unwrap();
            let variables: Vec<&str> =
                file["templating"]["list"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
            assert!(variables.starts_with(&["datasource", "job"]), "{variables:?}");
            let ids: BTreeSet<u64> =
                file["panels"].as_array().unwrap().iter().filter_map(|one| one["id"].as_u64()).collect();
            assert_eq!(ids.len(), dashboard.panels.len());
            for panel in file["panels"].as_array().unwrap() {
                assert_eq!(panel["datasource"]["uid"], "${datasource}");
                assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty());
            }
        }
    }
}
