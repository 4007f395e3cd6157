//! The recording rules: shares of requests that failed or were slow, by store, for the ranges of the burn-rate alerts.

use super::Recorded;

/// The ranges of the burn rates: a long and a short one for each, so that an alert ends soon after its cause.
const RANGES: &[&str] = &["5m", "30m", "1h", "6h", "3d"];

/// Every recording rule.
pub const RECORDED: &[Recorded] = &[
    Recorded {
        name: "kvs:requests_failed:ratio_rate",
        // What the client must mend is no failure of the service.
        expression: "sum by (namespace, kvsstore) (rate(kvs_requests_total{outcome=\"failed\"}[@RANGE])) / sum by \
                     (namespace, kvsstore) (rate(kvs_requests_total[@RANGE]))",
        ranges: RANGES,
    },
    Recorded {
        name: "kvs:requests_slow:ratio_rate",
        // Operations of one key, in whole: what walks through the store takes as long as the store is large.
        expression: "1 - sum by (namespace, kvsstore) (rate(kvs_request_duration_seconds_bucket{op!~\"scan|other\", \
                     le=\"0.08192\"}[@RANGE])) / sum by (namespace, kvsstore) \
                     (rate(kvs_request_duration_seconds_count{op!~\"scan|other\"}[@RANGE]))",
        ranges: RANGES,
    },
];
