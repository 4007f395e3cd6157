//! Overview: are the stores well, how much is asked of them, and who is unhappy?

use super::Scale::{ByteRate, Bytes, Count, Rate, Seconds, Share};
use super::{Dashboard, Panel, lines, number};

/// The first look.
pub(super) const OVERVIEW: Dashboard = Dashboard {
    name: "overview",
    title: "Aryavarth KVS / Overview",
    description: "Are the stores well, how much is asked of them, and what goes wrong?",
    job: "kvs-server",
    labels: &["namespace", "kvsstore", "pod"],
    lists: "kvs_build_info",
    panels: PANELS,
};

const PANELS: &[Panel] = &[
    number("Servers ready", Count, &[("sum(kvs_ready{S})", "ready")], "How many servers take requests?"),
    number(
        "Requests that failed",
        Share,
        &[(
            "(sum(rate(kvs_requests_total{S,outcome=\"failed\"}[R])) or vector(0)) / sum(rate(kvs_requests_total{S}[R]))",
            "failed",
        )],
        "Which share of requests could the servers not do?",
    ),
    lines(
        "Requests",
        Rate,
        &[("sum by (op) (rate(kvs_requests_total{S}[R])) > 0", "{{op}}")],
        "How much is asked of the stores, and what?",
    ),
    lines(
        "Latency of requests",
        Seconds,
        &[
            ("histogram_quantile(0.5, sum by (le) (rate(kvs_request_duration_seconds_bucket{S}[R])))", "p50"),
            ("histogram_quantile(0.99, sum by (le) (rate(kvs_request_duration_seconds_bucket{S}[R])))", "p99"),
            ("histogram_quantile(0.999, sum by (le) (rate(kvs_request_duration_seconds_bucket{S}[R])))", "p99.9"),
        ],
        "How long do clients wait inside the server?",
    ),
    lines(
        "Latency by operation, p99",
        Seconds,
        &[(
            "histogram_quantile(0.99, sum by (op, le) (rate(kvs_request_duration_seconds_bucket{S}[R]))) > 0",
            "{{op}}",
        )],
        "Which operations are slow?",
    ),
    Panel {
        may_be_empty: true,
        ..lines(
            "Errors",
            Rate,
            &[("sum by (code) (rate(kvs_request_errors_total{S}[R])) > 0", "{{code}}")],
            "What goes wrong, by the code that clients get?",
        )
    },
    lines(
        "Slow requests",
        Rate,
        &[("sum by (pod) (rate(kvs_slow_requests_total{S}[R]))", "{{pod}}")],
        "Is it worth looking into the slow log?",
    ),
    lines(
        "Reads",
        Rate,
        &[("sum by (result) (rate(kvs_reads_total{S}[R]))", "{{result}}")],
        "Do clients ask for what is there?",
    ),
    lines(
        "Connections",
        Count,
        &[
            ("sum by (pod) (kvs_connections{S,listener=\"client\"})", "{{pod}}"),
            ("max(kvs_connection_limit{S,listener=\"client\"})", "limit of one server"),
        ],
        "How many clients are there, and how many more may come?",
    ),
    lines(
        "Connections opened and closed",
        Rate,
        &[
            ("sum(rate(kvs_connections_accepted_total{S,listener=\"client\"}[R]))", "opened"),
            (
                "sum by (reason) (rate(kvs_connections_closed_total{S,listener=\"client\"}[R])) > 0",
                "closed: {{reason}}",
            ),
            ("sum(rate(kvs_accept_errors_total{S}[R]))", "could not be accepted"),
        ],
        "Do clients connect again and again, and why do connections end?",
    ),
    lines(
        "Network",
        ByteRate,
        &[
            ("sum(rate(kvs_network_received_bytes_total{S}[R]))", "received"),
            ("sum(rate(kvs_network_sent_bytes_total{S}[R]))", "sent"),
        ],
        "How many bytes do clients send and take?",
    ),
    lines(
        "Frames by protocol",
        Rate,
        &[("sum by (protocol) (rate(kvs_frames_received_total{S}[R]))", "{{protocol}}")],
        "Which protocol do clients speak?",
    ),
    lines(
        "Memory of large requests",
        Bytes,
        &[
            ("sum by (pod) (kvs_in_flight_bytes{S})", "{{pod}}"),
            ("max(kvs_in_flight_limit_bytes{S})", "limit of one server"),
        ],
        "How near are large requests and answers to their bound?",
    ),
    lines(
        "TLS and tokens",
        Rate,
        &[
            ("sum by (result) (rate(kvs_tls_handshakes_total{S}[R]))", "handshakes: {{result}}"),
            ("sum(rate(kvs_auth_failures_total{S}[R]))", "unknown tokens"),
            ("sum(rate(kvs_auth_refused_requests_total{S}[R]))", "requests without a right"),
        ],
        "Do clients get in, and does somebody try to?",
    ),
    lines(
        "CPU",
        Share,
        &[("sum by (pod) (rate(process_cpu_seconds_total{S}[R]))", "{{pod}}")],
        "How many cores does each server use?",
    ),
    lines(
        "Resident memory",
        Bytes,
        &[("sum by (pod) (process_resident_memory_bytes{S})", "{{pod}}")],
        "How much memory does each server take?",
    ),
    lines(
        "Versions",
        Count,
        &[("count by (version) (kvs_build_info{S})", "{{version}}"), ("sum(kvs_draining{S})", "ending")],
        "Which versions are running, and is a server on its way down?",
    ),
];
