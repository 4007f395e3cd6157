//! What the pool does: as its observer, and as figures copied at a scrape.

use std::time::Duration;

use kvs_protocol::names::PoolStrategy;
use prometheus::{Counter, Histogram, IntCounter, IntGauge};

use super::registry::Builder;
use super::{catalogue, int};
use crate::pool::{PoolFigures, PoolObserver};

/// What is counted for the pool.
#[derive(Clone)]
pub(crate) struct PoolMetrics {
    workers: IntGauge,
    busy_workers: IntGauge,
    busy_seconds: Counter,
    queued: IntGauge,
    capacity: IntGauge,
    done: IntCounter,
    panicked: IntCounter,
    rejected: IntCounter,
    waited: Histogram,
    ran: Histogram,
}

impl PoolMetrics {
    pub(super) fn new(builder: &Builder, strategy: PoolStrategy) -> Self {
        let pool = strategy.as_str();
        let jobs = builder.counters(&catalogue::POOL_JOBS);
        Self {
            workers: builder.gauges(&catalogue::POOL_WORKERS).with_label_values(&[pool]),
            busy_workers: builder.gauges(&catalogue::POOL_BUSY_WORKERS).with_label_values(&[pool]),
            busy_seconds: builder.float_counters(&catalogue::POOL_BUSY_SECONDS).with_label_values(&[pool]),
            queued: builder.gauges(&catalogue::POOL_QUEUED_JOBS).with_label_values(&[pool]),
            capacity: builder.gauges(&catalogue::POOL_QUEUE_CAPACITY).with_label_values(&[pool]),
            done: jobs.with_label_values(&[pool, "ok"]),
            panicked: jobs.with_label_values(&[pool, "panicked"]),
            rejected: builder.counters(&catalogue::POOL_REJECTED_JOBS).with_label_values(&[pool]),
            waited: builder.histograms(&catalogue::POOL_WAIT).with_label_values(&[pool]),
            ran: builder.histograms(&catalogue::POOL_RUN).with_label_values(&[pool]),
        }
    }

    /// Seconds that jobs ran, jobs that ended, and how long they had waited.
    pub(super) fn totals(&self) -> (f64, u64, &Histogram) {
        (self.busy_seconds.get(), self.done.get() + self.panicked.get(), &self.waited)
    }

    pub(super) fn copy(&self, figures: &PoolFigures) {
        self.workers.set(int(figures.workers));
        self.busy_workers.set(int(figures.busy_workers));
        self.queued.set(int(figures.queued_jobs));
        self.capacity.set(int(figures.queue_capacity_jobs));
    }
}

impl PoolObserver for PoolMetrics {
    fn began(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    fn ended(&self, ran: Duration, panicked: bool) {
        let seconds = ran.as_secs_f64();
        self.ran.observe(seconds);
        self.busy_seconds.inc_by(seconds);
        let ended = if panicked { &self.panicked } else { &self.done };
        ended.inc();
    }

    fn rejected(&self) {
        self.rejected.inc();
    }
}
