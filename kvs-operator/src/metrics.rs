//! What the operator counts, in the text format that Prometheus reads.
//!
//! What must hold: no label has a value per store, so that a thousand stores cost no more series than one; every write
//! to the API server is counted, because a quiet cluster must show none; what is registered is the [`catalogue`].

pub mod catalogue;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use kube::runtime::reflector::Store;
use kvs_protocol::metric::{Kind, Metric};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use crate::census::{self, StoreState};
use crate::error::Error;
use crate::resource::KvsStore;

/// Every word of [`Error::reason`].
const REASONS: [&str; 9] =
    ["timeout", "unreachable", "forbidden", "notFound", "conflict", "invalid", "throttled", "server", "other"];

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    reconcile_seconds: HistogramVec,
    errors: IntCounterVec,
    writes: IntCounterVec,
    /// Stores whose last reconcile failed and that wait for their next try.
    pub objects_in_backoff: IntGauge,
    /// Stores by state, counted anew for each scrape.
    stores: IntGaugeVec,
    /// Where stores are known from, once this operator works.
    known: OnceLock<Store<KvsStore>>,
    /// Errors of the watches, each followed by a new try.
    pub watch_errors: IntCounterVec,
    /// 1 while this process holds the Lease, else 0. The sum over all replicas is 1.
    pub leader: IntGauge,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two metrics have one name: an error of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reconcile_seconds = histograms(&registry, &catalogue::RECONCILE_DURATION)?;
        let errors = counters(&registry, &catalogue::RECONCILE_ERRORS)?;
        let writes = counters(&registry, &catalogue::API_WRITES)?;
        let watch_errors = counters(&registry, &catalogue::WATCH_ERRORS)?;
        let objects_in_backoff = gauges(&registry, &catalogue::OBJECTS_IN_BACKOFF)?.with_label_values::<&str>(&[]);
        let stores = gauges(&registry, &catalogue::STORES)?;
        let leader = gauges(&registry, &catalogue::LEADER)?.with_label_values::<&str>(&[]);
        gauges(&registry, &catalogue::BUILD_INFO)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // From the first scrape on, so that a rate sees the first of them too.
        for result in ["ok", "error"] {
            drop(reconcile_seconds.with_label_values(&[result]));
        }
        for state in StoreState::ALL {
            drop(stores.with_label_values(&[state.as_str()]));
        }
        for reason in REASONS {
            drop(errors.with_label_values(&[reason]));
        }
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            registry,
            reconcile_seconds,
            errors,
            writes,
            objects_in_backoff,
            stores,
            known: OnceLock::new(),
            watch_errors,
            leader,
        })
    }

    /// Counts one reconcile.
    pub fn count_reconcile(&self, took: Duration, error: Option<&Error>) {
        let result = if error.is_some() { "error" } else { "ok" };
        self.reconcile_seconds.with_label_values(&[result]).observe(took.as_secs_f64());
        if let Some(error) = error {
            debug_assert!(
                REASONS.contains(&error.reason()),
                "{} is counted only from its first time on",
                error.reason()
            );
            self.errors.with_label_values(&[error.reason()]).inc();
        }
    }

    /// Counts one write to the API server.
    pub fn count_write(&self, kind: &str, verb: &str, outcome: Result<(), &Error>) {
        let outcome = outcome.map_or_else(|error| error.reason(), |()| "ok");
        self.writes.with_label_values(&[kind, verb, outcome]).inc();
    }

    /// From now on the stores of this cache are counted.
    pub fn count_stores_of(&self, stores: Store<KvsStore>) {
        // A process works once: what leads no more ends.
        let _ = self.known.set(stores);
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// When a metric can't be written as text: an error of ours.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(known) = self.known.get() {
            for (state, count) in census::count(known) {
                self.stores.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// The names of all that an operator exports, for whoever holds them against the catalogue.
///
/// # Panics
/// When two metrics have one name: an error of ours.
#[must_use]
pub fn registered() -> BTreeSet<String> {
    let metrics = Metrics::new().expect("each metric of the catalogue is registered once");
    // A family without a series is not gathered.
    metrics.count_write("any", "any", Ok(()));
    drop(metrics.watch_errors.with_label_values(&["any"]));
    let families = metrics.registry.gather();
    families.iter().map(|family| family.name().to_owned()).filter(|name| !name.starts_with("process_")).collect()
}

fn counters(registry: &Registry, metric: &Metric) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(Opts::new(metric.name, metric.help), metric.labels)?)
}

fn gauges(registry: &Registry, metric: &Metric) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(Opts::new(metric.name, metric.help), metric.labels)?)
}

fn histograms(registry: &Registry, metric: &Metric) -> Result<HistogramVec, prometheus::Error> {
    let buckets = match metric.kind {
        Kind::Histogram { first, factor, count } => exponential_buckets(first, factor, count)?,
        Kind::Counter | Kind::Gauge => Vec::new(),
    };
    register(registry, HistogramVec::new(HistogramOpts::new(metric.name, metric.help).buckets(buckets), metric.labels)?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_the_catalogue() {
        let metrics = Metrics::new().unwrap();
        let timed_out = Error::TimedOut { action: "writing".into() };
        metrics.count_reconcile(Duration::from_millis(1), Some(&timed_out));
        metrics.count_write("StatefulSet", "apply", Ok(()));
        metrics.watch_errors.with_label_values(&["Pod"]).inc();
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for metric in catalogue::ALL {
            metric.check().unwrap();
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram { .. } => "histogram",
            };
            assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} is missing: {text}", metric.name);
        }
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            let is_ours = catalogue::ALL.iter().any(|metric| metric.name == name);
            assert!(is_ours || name.starts_with("process_"), "{name} is not in the catalogue");
        }
        assert!(text.contains("kvs_operator_reconcile_errors_total{reason=\"timeout\"} 1\n"), "{text}");
        assert!(text.contains("kvs_operator_reconcile_errors_total{reason=\"unreachable\"} 0\n"), "{text}");
    }
}
