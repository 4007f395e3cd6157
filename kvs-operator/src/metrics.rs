//! What the operator counts, in the text format that Prometheus reads.
//!
//! What must hold: no label has a value per store, so that a thousand stores cost no more series than one; every write
//! to the API server is counted, because a quiet cluster must show none.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::error::Error;

/// Upper bounds of reconcile durations in seconds: 1 ms, four-fold, up to the limit of one call and a little more.
const DURATION_BUCKETS_SECONDS: [f64; 8] = [0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0];

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    reconcile_seconds: HistogramVec,
    errors: IntCounterVec,
    writes: IntCounterVec,
    /// Stores whose last reconcile failed and that wait for their next try.
    pub objects_in_backoff: IntGauge,
    /// Errors of the watches, each followed by a new try.
    pub watch_errors: IntCounterVec,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics have one name: an error of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("kvs_operator_reconcile_duration_seconds", "How long reconciles took, by result.")
                .buckets(DURATION_BUCKETS_SECONDS.to_vec()),
            &["result"],
        )?;
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let errors = counter("kvs_operator_reconcile_errors_total", "Reconciles that failed, by reason.", &["reason"])?;
        let writes = counter(
            "kvs_operator_api_writes_total",
            "Writes to the API server, by kind, verb and outcome.",
            &["kind", "verb", "outcome"],
        )?;
        let watch_errors = counter("kvs_operator_watch_errors_total", "Errors of watches, by kind.", &["kind"])?;
        let objects_in_backoff =
            IntGauge::new("kvs_operator_objects_in_backoff", "Stores that wait for another try after an error.")?;
        let build =
            IntGaugeVec::new(Opts::new("kvs_operator_build_info", "The operator's version; always 1."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(watch_errors.clone()))?;
        registry.register(Box::new(objects_in_backoff.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Self { registry, reconcile_seconds, errors, writes, objects_in_backoff, watch_errors })
    }

    /// Counts one reconcile.
    pub fn count_reconcile(&self, took: Duration, error: Option<&Error>) {
        let result = if error.is_some() { "error" } else { "ok" };
        self.reconcile_seconds.with_label_values(&[result]).observe(took.as_secs_f64());
        if let Some(error) = error {
            self.errors.with_label_values(&[error.reason()]).inc();
        }
    }

    /// Counts one write to the API server.
    pub fn count_write(&self, kind: &str, verb: &str, outcome: Result<(), &Error>) {
        let outcome = outcome.map_or_else(|error| error.reason(), |()| "ok");
        self.writes.with_label_values(&[kind, verb, outcome]).inc();
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// When a metric can't be written as text: an error of ours.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
