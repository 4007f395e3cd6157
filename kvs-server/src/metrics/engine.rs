//! What the engine does: as its observer, and as figures copied at a scrape.

use std::time::Duration;

use kvs_engine::{Observer, Stats};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::registry::Builder;
use super::{catalogue, int, raise};

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
    keys: IntGauge,
    live_bytes: IntGauge,
    dead_bytes: IntGauge,
    disk_bytes: IntGauge,
    segments: IntGauge,
    index_bytes: IntGauge,
    read_only: IntGauge,
    torn_bytes: IntGauge,
    checkpoints: IntCounter,
    replayed_bytes: IntGauge,
    sync_duration: Histogram,
    syncs: IntCounter,
    group_records: Histogram,
    appended_bytes: IntCounter,
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
            keys: builder.gauge(&catalogue::ENGINE_KEYS),
            live_bytes: log_bytes.with_label_values(&["live"]),
            dead_bytes: log_bytes.with_label_values(&["dead"]),
            disk_bytes: builder.gauge(&catalogue::ENGINE_DISK_BYTES),
            segments: builder.gauge(&catalogue::ENGINE_SEGMENTS),
            index_bytes: builder.gauge(&catalogue::ENGINE_INDEX_BYTES),
            read_only: builder.gauge(&catalogue::ENGINE_READ_ONLY),
            torn_bytes: builder.gauge(&catalogue::ENGINE_TORN_BYTES),
            checkpoints: builder.counter(&catalogue::ENGINE_CHECKPOINTS),
            replayed_bytes: builder.gauge(&catalogue::ENGINE_REPLAYED_BYTES),
            sync_duration: builder.histogram(&catalogue::WAL_FSYNC_DURATION),
            syncs: builder.counter(&catalogue::WAL_FSYNCS),
            group_records: builder.histogram(&catalogue::WAL_GROUP_RECORDS),
            appended_bytes: builder.counter(&catalogue::WAL_WRITTEN_BYTES),
        }
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
        raise(&self.checkpoints, checkpoints);
        self.replayed_bytes.set(int(replayed_bytes));
        self.torn_bytes.set(int(torn_bytes));
        self.read_only.set(i64::from(read_only));
    }
}

impl Observer for EngineMetrics {
    fn synced(&self, took: Duration, records: u64, _bytes: u64) {
        self.sync_duration.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a group has far fewer than 2^52 records")]
        self.group_records.observe(records as f64);
    }

    fn compacted(&self, took: Duration, read_bytes: u64, written_bytes: u64) {
        self.duration.observe(took.as_secs_f64());
        self.read_bytes.inc_by(read_bytes);
        self.written_bytes.inc_by(written_bytes);
    }
}
