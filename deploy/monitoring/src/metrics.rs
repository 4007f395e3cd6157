//! Both catalogues together, and the metrics that an expression names.

use std::collections::BTreeSet;

use kvs_protocol::metric::Metric;

/// What the operating system knows of a process; server and operator export it.
pub const PROCESS: [&str; 7] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];
/// What Prometheus adds to every target.
const ADDED: [&str; 1] = ["up"];
/// What the metrics of ours and of the operating system begin with; recording rules have a colon behind it.
const PREFIXES: [&str; 2] = ["kvs_", "process_"];

/// The server's metrics, then the operator's.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    kvs_server::catalogue::ALL.iter().chain(kvs_operator::metrics::catalogue::ALL)
}

/// The words of an expression that are names of metrics, recording rules left out.
#[must_use]
pub fn named_in(expression: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    expression
        .split(|character| !is_part(character))
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)) || ADDED.contains(word))
        .collect()
}

/// The names in an expression that no catalogue has.
#[must_use]
pub fn unknown_in(expression: &str) -> Vec<&str> {
    let is_known =
        |name: &str| PROCESS.contains(&name) || ADDED.contains(&name) || all().any(|metric| metric.has_series(name));
    named_in(expression).into_iter().filter(|name| !is_known(name)).collect()
}

/// Whether an expression uses a metric.
#[must_use]
pub fn uses(expression: &str, metric: &Metric) -> bool {
    named_in(expression).iter().any(|name| metric.has_series(name))
}

/// The upper bound of a bucket of a histogram, spelled as in its label `le`.
///
/// # Panics
/// When there is no such histogram or bucket: an error of ours that any test shows.
#[must_use]
pub fn bucket(name: &str, number: u16) -> String {
    let metric = all().find(|metric| metric.name == name).expect("the histogram is in the catalogue");
    let kvs_protocol::metric::Kind::Histogram { first, factor, count } = metric.kind else {
        panic!("{name} is no histogram")
    };
    assert!(usize::from(number) < count, "{name} has {count} buckets");
    (first * factor.powi(number.into())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_unknown_ones_told() {
        let expression =
            "sum by (pod) (rate(kvs_wal_fsync_duration_seconds_bucket{job=\"kvs-server\"}[5m])) / kvs:ratio > up";
        assert_eq!(
            named_in(expression),
            ["kvs_wal_fsync_duration_seconds_bucket", "up"].into_iter().collect::<BTreeSet<_>>()
        );
        assert!(unknown_in(expression).is_empty());
        assert_eq!(unknown_in("kvs_wal_fsync_seconds + process_rss"), ["kvs_wal_fsync_seconds", "process_rss"]);
    }

    #[test]
    fn buckets_are_spelled_as_they_are_exported() {
        assert_eq!(bucket("kvs_request_duration_seconds", 0), "0.00001");
        assert_eq!(bucket("kvs_request_duration_seconds", 13), "0.08192");
    }
}
