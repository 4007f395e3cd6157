//! `Story`: series of a test, and when to look.

/// The labels of a server in a story.
pub const SERVER: &str = r#"job="kvs-server",namespace="shop",kvsstore="orders",pod="orders-0""#;
/// The labels of an operator in a story.
pub const OPERATOR: &str = r#"job="kvs-operator",namespace="kvs-system",pod="kvs-operator-0""#;

/// Series with which an alert fires or stays quiet.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    /// Each series, with `S` for the labels of a server and `O` for those of an operator in its braces, and its values in
    /// the notation of promtool, one a minute.
    pub series: &'static [(&'static str, &'static str)],
    /// When to look.
    pub at: &'static str,
    /// Labels of the alert that its series do not give by `S` or `O`, such as `pool`.
    pub labels: &'static [(&'static str, &'static str)],
}

impl Story {
    /// A story whose alert has the labels of its target alone.
    #[must_use]
    pub const fn new(at: &'static str, series: &'static [(&'static str, &'static str)]) -> Self {
        Self { series, at, labels: &[] }
    }

    /// The series in full, those that every healthy installation has included.
    #[must_use]
    pub fn full_series(&self) -> Vec<(String, &'static str)> {
        let mut series: Vec<(String, &'static str)> = self
            .series
            .iter()
            .map(|(name, values)| {
                (name.replace("{S", &format!("{{{SERVER}")).replace("{O", &format!("{{{OPERATOR}")), *values)
            })
            .collect();
        for usual in
            [format!("up{{{SERVER}}}"), format!("up{{{OPERATOR}}}"), format!("kvs_operator_leader{{{OPERATOR}}}")]
        {
            if !series.iter().any(|(name, _)| *name == usual) {
                series.push((usual, "1x5000"));
            }
        }
        // A value of nothing takes a usual series away.
        series.retain(|(_, values)| !values.is_empty());
        series
    }
}
