//! `Builder`: makes and registers what the catalogue describes.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

use super::catalogue::{Kind, Metric};

/// Why nothing here can fail: the catalogue is constant, and a test exports all of it.
const CATALOGUE_IS_VALID: &str = "the catalogue's names are valid, and each is registered once";

/// A registry that is being filled.
#[derive(Default)]
pub(super) struct Builder {
    registry: Registry,
}

impl Builder {
    pub(super) fn counters(&self, metric: &Metric) -> IntCounterVec {
        assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
        self.register(IntCounterVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn counter(&self, metric: &Metric) -> IntCounter {
        self.counters(metric).with_label_values::<&str>(&[])
    }

    /// A counter of seconds.
    pub(super) fn float_counters(&self, metric: &Metric) -> CounterVec {
        assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
        self.register(CounterVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn gauges(&self, metric: &Metric) -> IntGaugeVec {
        assert!(metric.kind == Kind::Gauge, "{} is no gauge", metric.name);
        self.register(IntGaugeVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn gauge(&self, metric: &Metric) -> IntGauge {
        self.gauges(metric).with_label_values::<&str>(&[])
    }

    pub(super) fn histograms(&self, metric: &Metric) -> HistogramVec {
        let Kind::Histogram { first, factor, count } = metric.kind else { panic!("{} is no histogram", metric.name) };
        let buckets = exponential_buckets(first, factor, count).expect(CATALOGUE_IS_VALID);
        let options = HistogramOpts::from(options(metric)).buckets(buckets);
        self.register(HistogramVec::new(options, metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn histogram(&self, metric: &Metric) -> Histogram {
        self.histograms(metric).with_label_values::<&str>(&[])
    }

    /// The registry, with what the operating system knows of the process.
    pub(super) fn finish(self) -> Registry {
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process)).expect(CATALOGUE_IS_VALID);
        self.registry
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry.register(Box::new(collector.clone())).expect(CATALOGUE_IS_VALID);
        collector
    }
}

fn options(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}
