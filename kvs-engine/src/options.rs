//! How a store is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::stats::{NoObserver, Observer};

/// When an acknowledged write is on stable storage, and so what can take it away.
///
/// | policy | the process dies | the machine dies, or its power fails |
/// |---|---|---|
/// | `Always` | nothing is lost | nothing is lost |
/// | `Interval(t)` | nothing is lost | what was acknowledged in the last `t`, and while a sync took |
/// | `Os` | nothing is lost | what the operating system had not written yet, however much that is |
///
/// What is found afterwards is always a beginning of what was acknowledged: the last writes may be missing, none from
/// among them. `flush`, a clean close and the sealing of a full file make durable what was written before them under
/// every policy, and what is found after the death of a process is durable before anything of it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Before it is acknowledged.
    #[default]
    Always,
    /// At most this long after it was acknowledged, and the time of the sync itself. Acknowledged once the operating
    /// system has it.
    Interval(Duration),
    /// When the operating system likes, often within half a minute. Acknowledged once the operating system has it.
    Os,
}

/// How a store is opened. `Options::default()` is what the server uses unless told otherwise.
#[derive(Clone)]
pub struct Options {
    /// The sizes that are accepted.
    pub limits: Limits,
    /// When acknowledged writes are durable.
    pub sync: SyncPolicy,
    /// Dead bytes that start a compaction; default 1 MiB.
    pub compaction_threshold_bytes: u64,
    /// The share of the log that must be dead as well, in percent of all its bytes, before a compaction starts;
    /// default 12, so that a large log is not rewritten for a few dead bytes.
    pub compaction_dead_percent: u8,
    /// The size of one file of the log, in bytes; default 8 MiB, at least 4 KiB. An empty
    /// store takes three of them and 1 MiB on disk: one that is written, one that is ready, and the reserves.
    pub segment_bytes: u64,
    /// How fast a compaction reads, in bytes per second; default 64 MiB, so that it leaves the disk to requests. Where
    /// that is too slow for what is overwritten, it goes faster.
    pub compaction_bytes_per_second: u64,
    /// Growth of the log that makes a checkpoint of the index due, in bytes; default 48 MiB, and three times the size
    /// of the last checkpoint if that is more. Opening after the death of the process reads about so much of the log, and
    /// a third more while a checkpoint is being written.
    pub checkpoint_bytes: u64,
    /// Memory in which sled keeps pages, in bytes; default 64 MiB, because sled's own 1 GiB fits no small pod. The
    /// other engines have no use for it.
    pub sled_cache_bytes: u64,
    /// Hears of syncs and compactions.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            sync: SyncPolicy::Always,
            compaction_threshold_bytes: 1024 * 1024,
            compaction_dead_percent: 12,
            segment_bytes: 8 * 1024 * 1024,
            compaction_bytes_per_second: 64 * 1024 * 1024,
            checkpoint_bytes: 48 * 1024 * 1024,
            sled_cache_bytes: 64 * 1024 * 1024,
            observer: Arc::new(NoObserver),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Options")
            .field("limits", &self.limits)
            .field("sync", &self.sync)
            .field("compaction_threshold_bytes", &self.compaction_threshold_bytes)
            .field("compaction_dead_percent", &self.compaction_dead_percent)
            .field("segment_bytes", &self.segment_bytes)
            .field("compaction_bytes_per_second", &self.compaction_bytes_per_second)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("sled_cache_bytes", &self.sled_cache_bytes)
            .finish_non_exhaustive()
    }
}
