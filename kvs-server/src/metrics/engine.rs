//! What the engine does: as its observer, and as figures copied at a scrape.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvs_engine::{Observer, Stats};
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge};

use super::registry::Builder;
use super::{catalogue, int, raise};
use crate::slowlog::disk_times;
use crate::wakes;

/// What is counted for the engine.
#[derive(Clone)]
pub(crate) struct EngineMetrics {
    runs: IntCounter,
    failures: IntCounter,
    duration: Histogram,
    in_progress: IntGauge,
    read_bytes: IntCounter,
    written_bytes: IntCounter,
    reclaimed_bytes: IntCounter,
    backlog_bytes: IntGauge,
    throttled: Counter,
    succeeded_at: IntGauge,
    keys: IntGauge,
    live_bytes: IntGauge,
    dead_bytes: IntGauge,
    disk_bytes: IntGauge,
    segments: IntGauge,
    index_bytes: IntGauge,
    read_only: IntGauge,
    open_duration: Gauge,
    torn_bytes: IntGauge,
    checkpoints: IntCounter,
    replayed_bytes: IntGauge,
    append_duration: Histogram,
    sync_duration: Histogram,
    syncs: IntCounter,
    group_records: Histogram,
    appended_bytes: IntCounter,
    stalled: Counter,
}

impl EngineMetrics {
    pub(super) fn new(builder: &Builder) -> Self {
        let runs = builder.counters(&catalogue::COMPACTION_RUNS);
        let log_bytes = builder.gauges(&catalogue::ENGINE_LOG_BYTES);
        Self {
            runs: runs.with_label_values(&["ok"]),
            failures: runs.with_label_values(&["error"]),
            duration: builder.histogram(&catalogue::COMPACTION_DURATION),
            in_progress: builder.gauge(&catalogue::COMPACTION_IN_PROGRESS),
            read_bytes: builder.counter(&catalogue::COMPACTION_READ_BYTES),
            written_bytes: builder.counter(&catalogue::COMPACTION_WRITTEN_BYTES),
            reclaimed_bytes: builder.counter(&catalogue::COMPACTION_RECLAIMED_BYTES),
            backlog_bytes: builder.gauge(&catalogue::COMPACTION_BACKLOG_BYTES),
            throttled: builder.float_counter(&catalogue::COMPACTION_THROTTLED),
            succeeded_at: builder.gauge(&catalogue::COMPACTION_SUCCESS_TIME),
            keys: builder.gauge(&catalogue::ENGINE_KEYS),
            live_bytes: log_bytes.with_label_values(&["live"]),
            dead_bytes: log_bytes.with_label_values(&["dead"]),
            disk_bytes: builder.gauge(&catalogue::ENGINE_DISK_BYTES),
            segments: builder.gauge(&catalogue::ENGINE_SEGMENTS),
            index_bytes: builder.gauge(&catalogue::ENGINE_INDEX_BYTES),
            read_only: builder.gauge(&catalogue::ENGINE_READ_ONLY),
            open_duration: builder.float_gauge(&catalogue::ENGINE_OPEN_DURATION),
            torn_bytes: builder.gauge(&catalogue::ENGINE_TORN_BYTES),
            checkpoints: builder.counter(&catalogue::ENGINE_CHECKPOINTS),
            replayed_bytes: builder.gauge(&catalogue::ENGINE_REPLAYED_BYTES),
            append_duration: builder.histogram(&catalogue::WAL_APPEND_DURATION),
            sync_duration: builder.histogram(&catalogue::WAL_FSYNC_DURATION),
            syncs: builder.counter(&catalogue::WAL_FSYNCS),
            group_records: builder.histogram(&catalogue::WAL_GROUP_RECORDS),
            appended_bytes: builder.counter(&catalogue::WAL_WRITTEN_BYTES),
            stalled: builder.float_counter(&catalogue::WAL_STALLS),
        }
    }

    /// The store was opened within this time.
    pub(crate) fn opened(&self, took: Duration) {
        self.open_duration.set(took.as_secs_f64());
    }

    /// How long syncs took.
    pub(super) fn syncs(&self) -> &Histogram {
        &self.sync_duration
    }

    pub(super) fn copy(&self, stats: &Stats) {
        // Taken apart whole, so that a new figure asks for its metric.
        let Stats {
            keys,
            live_bytes,
            dead_bytes,
            disk_bytes,
            segments,
            index_bytes,
            appended_bytes,
            syncs,
            compactions,
            compaction_us: _, // The histogram's sum says the same.
            compaction_reclaimed_bytes,
            compaction_failures,
            compacting,
            compaction_backlog_bytes,
            compaction_throttled_us,
            append_stall_us,
            checkpoints,
            replayed_bytes,
            torn_bytes,
            read_only,
        } = *stats;
        self.keys.set(int(keys));
        self.live_bytes.set(int(live_bytes));
        self.dead_bytes.set(int(dead_bytes));
        self.disk_bytes.set(int(disk_bytes));
        self.segments.set(int(segments));
        self.index_bytes.set(int(index_bytes));
        raise(&self.appended_bytes, appended_bytes);
        raise(&self.syncs, syncs);
        raise(&self.runs, compactions);
        raise(&self.reclaimed_bytes, compaction_reclaimed_bytes);
        raise(&self.failures, compaction_failures);
        self.in_progress.set(i64::from(compacting));
        self.backlog_bytes.set(int(compaction_backlog_bytes));
        raise_seconds(&self.throttled, compaction_throttled_us);
        raise_seconds(&self.stalled, append_stall_us);
        raise(&self.checkpoints, checkpoints);
        self.replayed_bytes.set(int(replayed_bytes));
        self.torn_bytes.set(int(torn_bytes));
        self.read_only.set(i64::from(read_only));
    }
}

/// Raises a counter of seconds to a figure of microseconds that is counted elsewhere.
fn raise_seconds(counter: &Counter, figure_us: u64) {
    let seconds = Duration::from_micros(figure_us).as_secs_f64();
    counter.inc_by((seconds - counter.get()).max(0.0));
}

impl Observer for EngineMetrics {
    fn written(&self, took: Duration, _bytes: u64) {
        self.append_duration.observe(took.as_secs_f64());
        disk_times::wrote();
    }

    fn synced(&self, took: Duration, records: u64, _bytes: u64) {
        self.sync_duration.observe(took.as_secs_f64());
        disk_times::synced(took);
        #[expect(clippy::cast_precision_loss, reason = "a group has far fewer than 2^52 records")]
        self.group_records.observe(records as f64);
    }

    fn answers(&self) {
        disk_times::answers();
        wakes::hold();
    }

    fn answered(&self) {
        wakes::release();
        disk_times::answered();
    }

    fn compacted(&self, took: Duration, read_bytes: u64, written_bytes: u64) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.succeeded_at.set(int(since_1970.as_secs()));
        self.duration.observe(took.as_secs_f64());
        self.read_bytes.inc_by(read_bytes);
        self.written_bytes.inc_by(written_bytes);
    }
}
