//! `Builder`: makes and registers what the catalogue describes.

use std::cell::RefCell;
use std::collections::BTreeSet;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, exponential_buckets,
};

use super::catalogue::{Kind, Metric};

/// Why nothing here can fail: the catalogue is constant, and a test exports all of it.
const CATALOGUE_IS_VALID: &str = "the catalogue's names are valid, and each is registered once";

/// A registry that is being filled, by one thread.
#[derive(Default)]
pub(super) struct Builder {
    registry: Registry,
    /// The names so far.
    names: RefCell<BTreeSet<&'static str>>,
}

impl Builder {
    pub(super) fn counters(&self, metric: &Metric) -> IntCounterVec {
        assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
        self.register(metric, IntCounterVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn counter(&self, metric: &Metric) -> IntCounter {
        self.counters(metric).with_label_values::<&str>(&[])
    }

    /// A counter of seconds.
    pub(super) fn float_counters(&self, metric: &Metric) -> CounterVec {
        assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
        self.register(metric, CounterVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    /// A counter of seconds without labels.
    pub(super) fn float_counter(&self, metric: &Metric) -> Counter {
        self.float_counters(metric).with_label_values::<&str>(&[])
    }

    /// A gauge of seconds.
    pub(super) fn float_gauge(&self, metric: &Metric) -> Gauge {
        assert!(metric.kind == Kind::Gauge, "{} is no gauge", metric.name);
        let gauges = self.register(metric, GaugeVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID));
        gauges.with_label_values::<&str>(&[])
    }

    pub(super) fn gauges(&self, metric: &Metric) -> IntGaugeVec {
        assert!(metric.kind == Kind::Gauge, "{} is no gauge", metric.name);
        self.register(metric, IntGaugeVec::new(options(metric), metric.labels).expect(CATALOGUE_IS_VALID))
    }

    pub(super) fn gauge(&self, metric: &Metric) -> IntGauge {
        self.gauges(metric).with_label_values::<&str>(&[])
    }

    pub(super) fn histograms(&self, metric: &Metric) -> HistogramVec {
        let Kind::Histogram { first, factor, count } = metric.kind else { panic!("{} is no histogram", metric.name) };
        let buckets = exponential_buckets(first, factor, count).expect(CATALOGUE_IS_VALID);
        let options = HistogramOpts::from(options(metric)).buckets(buckets);
        self.register(metric, HistogramVec::new(options, metric.labels).expect(CATALOGUE_IS_VALID))
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

    /// What was registered so far.
    pub(super) fn names(&self) -> BTreeSet<&'static str> {
        self.names.borrow().clone()
    }

    fn register<C: Collector + Clone + 'static>(&self, metric: &Metric, collector: C) -> C {
        self.names.borrow_mut().insert(metric.name);
        self.registry.register(Box::new(collector.clone())).expect(CATALOGUE_IS_VALID);
        collector
    }
}

fn options(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}
