//! Operator: does it follow what changes, and what keeps it from that?

use super::Scale::{Bytes, Count, Rate, Seconds, Share};
use super::{Dashboard, Panel, lines, number};

/// The operator.
pub(super) const OPERATOR: Dashboard = Dashboard {
    name: "operator",
    title: "Aryavarth KVS / Operator",
    description: "Does the operator follow what changes, and what keeps it from that?",
    job: "kvs-operator",
    labels: &["namespace", "pod"],
    lists: "kvs_operator_build_info",
    panels: PANELS,
};

const PANELS: &[Panel] = &[
    number("Leaders", Count, &[("sum(kvs_operator_leader{S})", "leaders")], "Is there exactly one operator at work?"),
    number(
        "Stores that wait for another try",
        Count,
        &[("max(kvs_operator_objects_in_backoff{S})", "stores")],
        "How many stores does the operator fail at?",
    ),
    lines(
        "Stores",
        Count,
        &[("sum by (state) (kvs_operator_stores{S})", "{{state}}")],
        "Is there a store that does not serve?",
    ),
    lines(
        "Reconciles",
        Rate,
        &[("sum by (result) (rate(kvs_operator_reconcile_duration_seconds_count{S}[R]))", "{{result}}")],
        "How much does the operator do?",
    ),
    lines(
        "Duration of reconciles",
        Seconds,
        &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(kvs_operator_reconcile_duration_seconds_bucket{S}[R])))",
                "p50",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(kvs_operator_reconcile_duration_seconds_bucket{S}[R])))",
                "p99",
            ),
        ],
        "How quickly does the operator follow what changes?",
    ),
    lines(
        "Errors of reconciles",
        Rate,
        &[("sum by (reason) (rate(kvs_operator_reconcile_errors_total{S}[R]))", "{{reason}}")],
        "What keeps the operator from doing its work?",
    ),
    Panel {
        may_be_empty: true,
        ..lines(
            "Writes to the API server",
            Rate,
            &[(
                "sum by (kind, verb, outcome) (rate(kvs_operator_api_writes_total{S}[R]))",
                "{{verb}} {{kind}}: {{outcome}}",
            )],
            "Does the operator write when nothing changes?",
        )
    },
    Panel {
        may_be_empty: true,
        ..lines(
            "Errors of watches",
            Rate,
            &[("sum by (kind) (rate(kvs_operator_watch_errors_total{S}[R]))", "{{kind}}")],
            "Does the operator see what happens?",
        )
    },
    lines(
        "CPU",
        Share,
        &[("sum by (pod) (rate(process_cpu_seconds_total{S}[R]))", "{{pod}}")],
        "How many cores does the operator use?",
    ),
    lines(
        "Memory",
        Bytes,
        &[("sum by (pod) (process_resident_memory_bytes{S})", "{{pod}}")],
        "How much memory does the operator take?",
    ),
    lines(
        "Versions",
        Count,
        &[("count by (version) (kvs_operator_build_info{S})", "{{version}}")],
        "Which versions are running?",
    ),
];
