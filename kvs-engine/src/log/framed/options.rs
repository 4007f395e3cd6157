//! How a [`FramedLog`](super::FramedLog) is opened and read, and the figures that it keeps.

use crate::error::{Error, Result};
use crate::limits::{DEFAULT_MAX_PAYLOAD_BYTES, HIGHEST_MAX_PAYLOAD_BYTES};
use crate::options::{Options, SyncPolicy};
use crate::stats::{NoObserver, Observer};
use crate::sync::Arc;

/// The smallest and the largest segment, in bytes: a few entries and a header, and what opening holds in memory.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 * 1024..=1024 * 1024 * 1024;

/// How a [`FramedLog`](super::FramedLog) is opened.
#[derive(Clone)]
pub struct LogOptions {
    /// When an entry counts as durable; default [`SyncPolicy::Always`].
    pub sync: SyncPolicy,
    /// The size of one file of the log, in bytes; default 8 MiB, at least 4 KiB, at most 1 GiB. A longer entry gets a
    /// file of its own size. Purging gives back whole files, and a truncation copies one at most.
    pub segment_bytes: u64,
    /// The longest payload, in bytes; default 32 MiB, at most 512 MiB.
    pub payload_bytes: usize,
    /// Hears of syncs.
    pub observer: Arc<dyn Observer>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            segment_bytes: Options::default().segment_bytes,
            payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
            observer: Arc::new(NoObserver),
        }
    }
}

impl std::fmt::Debug for LogOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LogOptions")
            .field("sync", &self.sync)
            .field("segment_bytes", &self.segment_bytes)
            .field("payload_bytes", &self.payload_bytes)
            .finish_non_exhaustive()
    }
}

impl LogOptions {
    /// The options of the log underneath.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a limit beyond what the format takes.
    pub(super) fn checked(&self) -> Result<Options> {
        if self.payload_bytes > HIGHEST_MAX_PAYLOAD_BYTES {
            return Err(Error::TooLarge {
                what: "payload limit",
                bytes: self.payload_bytes,
                limit_bytes: HIGHEST_MAX_PAYLOAD_BYTES,
            });
        }
        Ok(Options {
            sync: self.sync,
            segment_bytes: self.segment_bytes.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end()),
            observer: Arc::clone(&self.observer),
            ..Options::default()
        })
    }
}

/// How much one read returns at most. The first entry is returned whatever its size, so that a reader always gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Entries; default 1,000.
    pub records: usize,
    /// Bytes of their payloads; default 1 MiB.
    pub bytes: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { records: 1_000, bytes: 1024 * 1024 }
    }
}

/// Figures of one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of the files on disk, zero-filled space included.
    pub disk_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Bytes appended since the log was opened.
    pub appended_bytes: u64,
    /// Syncs since the log was opened.
    pub syncs: u64,
    /// A torn tail that was cut when the log was opened, in bytes.
    pub torn_bytes: u64,
    /// Whether appends are refused for want of space.
    pub read_only: bool,
}
