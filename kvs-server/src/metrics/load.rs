//! The section `load` of `info`: counters from which a client that asks again and again sees rates, percentiles and the
//! load of the pool, without a Prometheus.
//!
//! What must hold: nothing is in it that the metrics don't have.

use prometheus::Histogram;
use prometheus::core::Metric as _;
use serde_json::{Value, json};

use super::Metrics;

impl Metrics {
    /// The section.
    pub(crate) fn load(&self) -> Value {
        let [done, refused, failed] = self.requests.totals();
        let (busy_seconds, jobs, waits) = self.pool.totals();
        json!({
            "done": done,
            "refused": refused,
            "failed": failed,
            "secondsBuckets": added(self.requests.durations()),
            "poolBusySeconds": busy_seconds,
            "poolJobs": jobs,
            "poolWaitSecondsBuckets": added([waits]),
            "syncSecondsBuckets": added([self.engine.syncs()]),
            "receivedBytes": self.received_bytes.get(),
            "sentBytes": self.sent_bytes.get(),
        })
    }
}

/// Histograms with the same buckets as one: upper bounds, each with how many are below it; the last one has no bound.
fn added<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Value {
    let mut buckets: Vec<(f64, u64)> = Vec::new();
    let mut total = 0;
    for histogram in histograms {
        let metric = histogram.metric();
        let histogram = metric.get_histogram();
        total += histogram.get_sample_count();
        for (place, bucket) in histogram.get_bucket().iter().enumerate() {
            match buckets.get_mut(place) {
                Some((_, count)) => *count += bucket.cumulative_count(),
                None => buckets.push((bucket.upper_bound(), bucket.cumulative_count())),
            }
        }
    }
    let bounded = buckets.into_iter().map(|(bound, count)| json!([bound, count]));
    bounded.chain([json!([null, total])]).collect()
}
