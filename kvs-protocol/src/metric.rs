//! `Metric`: what one exported metric is. Server and operator have a catalogue of these each; what they register, the
//! documentation, the dashboards and the alert rules are made from it or held against it.
//!
//! What must hold: base units in the name, `_total` for counters, a unit that the name ends with, labels with closed sets
//! of values, one meaning each, and a question that somebody has.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets that begin at `first` and grow by `factor`.
    Histogram {
        /// The upper bound of the first bucket.
        first: f64,
        /// How much wider each next bucket is.
        factor: f64,
        /// How many buckets there are, beside the last without bound.
        count: usize,
    },
}

/// What a metric's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things; the name says which.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Seconds since 1970.
    Timestamp,
    /// 1 or 0.
    Flag,
    /// Always 1; the labels say it.
    Info,
}

impl Unit {
    /// The unit in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Timestamp => "seconds since 1970",
            Self::Flag => "0 or 1",
            Self::Info => "1",
        }
    }

    /// What a name of this unit ends with, before `_total`.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Count | Self::Flag => "",
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
            Self::Timestamp => "_timestamp_seconds",
            Self::Info => "_info",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What its number counts.
    pub unit: Unit,
    /// Its labels, each with a closed set of values.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
    /// The question of an operator that it answers.
    pub question: &'static str,
}

impl Metric {
    /// What is wrong with it, if anything.
    ///
    /// # Errors
    /// One sentence that names the metric and the rule.
    pub fn check(&self) -> Result<(), String> {
        let Self { name, kind, unit, labels, help, question } = self;
        let rules = [
            (name.starts_with("kvs_"), "begins with kvs_"),
            (name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "has lower-case letters and _ only"),
            (name.ends_with("_total") == (*kind == Kind::Counter), "ends with _total if and only if it only grows"),
            (name.trim_end_matches("_total").ends_with(unit.suffix()), "ends with its unit"),
            (!name.contains("_ms") && !name.contains("_us"), "is in base units"),
            (
                labels.iter().all(|label| *label != "le" && *label != "job" && *label != "instance"),
                "has labels of its own",
            ),
            (help.ends_with('.') && help.len() > 10, "has a sentence of help"),
            (question.ends_with('?') && question.len() > 10, "answers a question"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(format!("{name} breaks a rule: it {rule}")),
            None => Ok(()),
        }
    }

    /// Whether a series has this metric's name: its own, or that of a part of a histogram.
    #[must_use]
    pub fn has_series(&self, series: &str) -> bool {
        match (self.kind, series.strip_prefix(self.name)) {
            (_, Some("")) => true,
            (Kind::Histogram { .. }, Some(part)) => matches!(part, "_bucket" | "_sum" | "_count"),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Metric = Metric {
        name: "kvs_things_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["kind"],
        help: "Things that were done.",
        question: "How much is done?",
    };

    #[test]
    fn what_breaks_a_rule_is_named() {
        assert_eq!(GOOD.check(), Ok(()));
        for (wrong, rule) in [
            (Metric { name: "things_total", ..GOOD }, "begins with kvs_"),
            (Metric { name: "kvs_things", ..GOOD }, "_total"),
            (Metric { kind: Kind::Gauge, ..GOOD }, "_total"),
            (Metric { unit: Unit::Bytes, ..GOOD }, "unit"),
            (Metric { name: "kvs_wait_ms_total", ..GOOD }, "base units"),
            (Metric { labels: &["job"], ..GOOD }, "labels"),
            (Metric { question: "Nothing.", ..GOOD }, "question"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(error.contains(rule), "{error}");
        }
    }

    #[test]
    fn a_histogram_has_three_series() {
        let kind = Kind::Histogram { first: 1.0, factor: 2.0, count: 2 };
        let histogram = Metric { name: "kvs_wait_seconds", kind, unit: Unit::Seconds, ..GOOD };
        assert!(histogram.has_series("kvs_wait_seconds_bucket") && histogram.has_series("kvs_wait_seconds_sum"));
        assert!(!histogram.has_series("kvs_wait_seconds_total") && !GOOD.has_series("kvs_things_total_bucket"));
    }
}
