//! Figures that an engine keeps about itself, and the observer that hears of them as they happen.
//!
//! The engine knows no metrics library: the server turns these into Prometheus series.

use std::time::Duration;

use serde::Serialize;

/// Figures of one moment. An engine that has no such figure leaves it at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Keys that have a value.
    pub keys: u64,
    /// Bytes of the log that the index points at.
    pub live_bytes: u64,
    /// Bytes of the log that compaction can take away.
    pub dead_bytes: u64,
    /// Bytes of the files on disk, zero-filled space included.
    pub disk_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Heap bytes of the index.
    pub index_bytes: u64,
    /// Bytes appended to the log since it was opened.
    pub appended_bytes: u64,
    /// Syncs of the log since it was opened.
    pub syncs: u64,
    /// Compactions that have ended well since the store was opened.
    pub compactions: u64,
    /// Time that those compactions took, in microseconds.
    pub compaction_us: u64,
    /// Bytes that compactions gave back.
    pub compaction_reclaimed_bytes: u64,
    /// Compactions that failed; the log is as it was before each.
    pub compaction_failures: u64,
    /// Whether a compaction is running.
    pub compacting: bool,
    /// Dead bytes beyond what starts a compaction.
    pub compaction_backlog_bytes: u64,
    /// Time that compactions waited so as to keep to their rate, in microseconds.
    pub compaction_throttled_us: u64,
    /// Time that writers waited for room in the log's queue or for a segment, in microseconds.
    pub append_stall_us: u64,
    /// Checkpoints of the index that were written since the store was opened.
    pub checkpoints: u64,
    /// Bytes of the log's records that were read to build the index when the store was opened.
    pub replayed_bytes: u64,
    /// Torn tails that were cut when the store was opened, in bytes.
    pub torn_bytes: u64,
    /// Whether writes are refused for want of space.
    pub read_only: bool,
}

/// Hears of what an engine does. Every method has an empty body, so that an observer takes what it needs. Called on
/// the engine's own threads, and on those of who waits for a write: it must be quick and must not call the engine.
pub trait Observer: Send + Sync + 'static {
    /// A group of `bytes` bytes was written to its file. What is said of its sync, if it
    /// has one, follows at once on the same thread.
    fn written(&self, _took: Duration, _bytes: u64) {}

    /// A sync ended that made `records` records of `bytes` bytes durable; it alone took so long.
    fn synced(&self, _took: Duration, _records: u64, _bytes: u64) {}

    /// The operations of a group are about to be answered, one after another on this thread.
    fn answers(&self) {}

    /// All of them are: what can be done once for many may be done now.
    fn answered(&self) {}

    /// A compaction ended that read and wrote so many bytes.
    fn compacted(&self, _took: Duration, _read_bytes: u64, _written_bytes: u64) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
