//! Every metric that the operator exports: name, kind, unit, labels, buckets, what it says and the question that it
//! answers. Registration, docs/metrics.md, the dashboards and the alert rules are made from this list or held against it.
//!
//! What must hold: [`Metric::check`] for each; no label has a value per store.

use kvs_protocol::metric::Unit::{Count, Flag, Info, Seconds};
use kvs_protocol::metric::{Kind, Metric, Unit};

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    question: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help, question }
}

/// Reconciles: 1 ms, four-fold, up to the limit of one call and a little more.
const DURATION: Kind = Kind::Histogram { first: 0.001, factor: 4.0, count: 8 };

/// Declares the metrics and the list of all.
macro_rules! catalogue {
    ($($name:ident = $metric:expr;)+) => {
        $(pub(crate) const $name: Metric = $metric;)+

        /// Every metric of our own, in the order of the documentation. `process_*` comes from the operating system.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

catalogue! {
    RECONCILE_DURATION = metric("kvs_operator_reconcile_duration_seconds", DURATION, Seconds, &["result"],
        "How long reconciles took, by result: ok or error.", "How quickly does the operator follow what changes?");
    RECONCILE_ERRORS = metric("kvs_operator_reconcile_errors_total", Kind::Counter, Count, &["reason"],
        "Reconciles that failed, by reason.", "What keeps the operator from doing its work?");
    API_WRITES = metric("kvs_operator_api_writes_total", Kind::Counter, Count, &["kind", "verb", "outcome"],
        "Writes to the API server, by kind, verb and outcome.", "Does the operator write when nothing changes?");
    WATCH_ERRORS = metric("kvs_operator_watch_errors_total", Kind::Counter, Count, &["kind"],
        "Errors of watches, by kind, each followed by a new try.", "Does the operator see what happens?");
    OBJECTS_IN_BACKOFF = metric("kvs_operator_objects_in_backoff", Kind::Gauge, Count, &[],
        "Stores that wait for another try after an error.", "How many stores does the operator fail at?");
    STORES = metric("kvs_operator_stores", Kind::Gauge, Count, &["state"],
        "Stores by state: ready, not_ready, paused (a person holds back what would change) or hibernated.",
        "Is there a store that does not serve?");
    LEADER = metric("kvs_operator_leader", Kind::Gauge, Flag, &[],
        "1 while this operator is the one that writes.", "Is there exactly one operator at work?");
    BUILD_INFO = metric("kvs_operator_build_info", Kind::Gauge, Info, &["version"],
        "1, with the version of the operator.", "Which versions are running?");
}
