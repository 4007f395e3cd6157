//! How fast work in the background may read and write.

use std::time::{Duration, Instant};

/// Slows work down to a rate.
pub(in crate::kvs) struct Pace {
    started: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Pace {
    /// Work that begins now.
    pub(in crate::kvs) fn new(bytes_per_second: u64) -> Self {
        Self { started: Instant::now(), bytes: 0, bytes_per_second }
    }

    /// Counts bytes and returns how long to pause now.
    pub(in crate::kvs) fn count(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        let due_us = self.bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1);
        Duration::from_micros(due_us).saturating_sub(self.started.elapsed())
    }
}
