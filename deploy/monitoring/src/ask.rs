//! Every query of the dashboards and every expression of the rules, asked of a Prometheus: which of them answer nothing
//! although there is load.
//!
//! What must hold: a query that Prometheus refuses is an error; a series that an alert looks at must be there while all is
//! well, or the alert could never fire.

use crate::dashboards;
use crate::prometheus::{Api, Error};
use crate::rules::{ALERTS, RECORDED, with_times};

/// What came of it.
#[derive(Debug, Default)]
pub struct Asked {
    /// Questions.
    pub questions: usize,
    /// Those that were answered by nothing, with where they stand.
    pub silent: Vec<String>,
}

impl Asked {
    fn note(&mut self, place: &str, question: &str, has_answer: bool) {
        self.questions += 1;
        if !has_answer {
            self.silent.push(format!("{place}: {question}"));
        }
    }
}

/// Asks all of it. `scale` divided the times of the rules; rates of the dashboards are taken over `range`.
///
/// # Errors
/// What [`Api::query`] says of a question that is refused.
pub fn everything(api: &Api, scale: u32, range: &str) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    for dashboard in dashboards::ALL {
        for panel in dashboard.panels {
            for (expression, _) in panel.queries {
                let query = dashboard.filled_in(expression, range);
                let answer = api.query(&query)?;
                let has_number = answer.iter().any(|series| series.points.iter().any(|(_, value)| value.is_finite()));
                let place = format!("dashboard {}, {}", dashboard.name, panel.title);
                asked.note(&place, &query, has_number || panel.may_be_empty);
            }
        }
    }
    for recorded in RECORDED {
        for range in recorded.ranges {
            let name = format!("{}{range}", recorded.name);
            asked.note("recording rule", &name, !api.query(&name)?.is_empty());
        }
    }
    for alert in ALERTS {
        // Most answer nothing while all is well: it is enough that Prometheus understands them.
        let expression = with_times(alert.expression, scale);
        api.query(&expression)?;
        asked.note(alert.name, &expression, true);
        for selector in selectors(alert.expression) {
            asked.note(&format!("alert {}", alert.name), selector, !api.query(selector)?.is_empty());
        }
    }
    Ok(asked)
}

/// The selectors of series in an expression, those that must be absent left out.
#[must_use]
pub fn selectors(expression: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':');
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(begin) =
        expression[from..].find(|letter: char| letter.is_ascii_alphabetic()).map(|place| from + place)
    {
        let rest = &expression[begin..];
        let mut end = begin + rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let name = &expression[begin..end];
        if expression[end..].starts_with('{') {
            end += expression[end..].find('}').map_or(0, |place| place + 1);
        }
        let is_series = ["kvs_", "kvs:", "process_"].iter().any(|prefix| name.starts_with(prefix)) || name == "up";
        if is_series && !expression[..begin].ends_with("absent(") {
            found.push(&expression[begin..end]);
        }
        from = end.max(begin + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_found_with_their_labels() {
        let expression =
            "sum by (pod) (rate(kvs_auth_failures_total{a=\"b c\"}[@5m])) / kvs:x:ratio_rate1h > 1 and up == 1";
        assert_eq!(selectors(expression), ["kvs_auth_failures_total{a=\"b c\"}", "kvs:x:ratio_rate1h", "up"]);
        assert!(selectors("absent(up{job=\"kvs-server\"})").is_empty());
        for alert in ALERTS {
            let found = selectors(alert.expression);
            assert!(!found.is_empty() || alert.expression.starts_with("absent("), "{}", alert.name);
        }
    }
}
