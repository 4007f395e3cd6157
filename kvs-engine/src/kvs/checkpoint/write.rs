//! When a checkpoint is written, and how that goes on beside writes. What a crash leaves:
//!
//! | crash after …                              | leaves …                                                      |
//! |--------------------------------------------|---------------------------------------------------------------|
//! | `CHECKPOINT.new` is written, synced or not | a file that nobody reads; the next checkpoint replaces it     |
//! | it is renamed                              | the old checkpoint or the new one: both fit the log           |
//!
//! What must hold: no compaction runs meanwhile, so that no segment goes that the copy names and none comes that it
//! does not; the log is synced between the last copy and the rename, so that everything that it says is durable.

use std::time::{Duration, Instant};

use super::{CHECKPOINT_NAME, Covered, NEW_CHECKPOINT_NAME, Writer};
use crate::error::{Error, Result};
use crate::kvs::compaction::Pace;
use crate::kvs::index::SHARDS;
use crate::kvs::store::Core;
use crate::log::segments::is_full;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::zoo;

/// A checkpoint pays when the log has grown by this many times its size: it costs then at most half of the writes of
/// the log itself, and opening after a crash reads some hundreds of thousands of records.
const GROWTH_FACTOR: u64 = 2;
/// At a clean end, a log that has grown by less is not worth one: it is read in a few milliseconds.
const MIN_BYTES_AT_CLOSE: u64 = 1024 * 1024;

/// When the next checkpoint is due.
#[derive(Debug)]
pub(in crate::kvs) struct Cadence {
    /// Bytes that were appended or written by compactions since the last one.
    since_bytes: AtomicU64,
    /// So many of them make the next one due.
    due_bytes: AtomicU64,
    /// Somebody said that it is due.
    said: AtomicBool,
    written: AtomicU64,
}

impl Cadence {
    /// After a store was opened whose checkpoint has `checkpoint_bytes` and whose log has `unknown_bytes` beyond it.
    pub(in crate::kvs) fn new(least_bytes: u64, checkpoint_bytes: u64, unknown_bytes: u64) -> Self {
        let due_bytes = AtomicU64::new(due_after(least_bytes, checkpoint_bytes));
        Self {
            since_bytes: AtomicU64::new(unknown_bytes),
            due_bytes,
            said: AtomicBool::new(false),
            written: AtomicU64::new(0),
        }
    }

    /// Counts bytes of the log; says once that a checkpoint is due. Called after each mutation, so it must be cheap.
    pub(in crate::kvs) fn count(&self, bytes: u64) -> bool {
        self.since_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.is_due() && !self.said.load(Ordering::Relaxed) && !self.said.swap(true, Ordering::Relaxed)
    }

    /// How many were written.
    pub(in crate::kvs) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn is_due(&self) -> bool {
        self.since_bytes.load(Ordering::Relaxed) >= self.due_bytes.load(Ordering::Relaxed)
    }
}

/// Growth of the log that makes a checkpoint due after one of so many bytes.
fn due_after(least_bytes: u64, checkpoint_bytes: u64) -> u64 {
    least_bytes.max(1).max(checkpoint_bytes.saturating_mul(GROWTH_FACTOR))
}

impl Core {
    /// Writes a checkpoint if one is due. Only for who holds the lock of compactions. A failure, such as a full disk,
    /// puts it off: the log is there.
    pub(in crate::kvs) fn checkpoint_when_due(&self) {
        if self.cadence.is_due() && !self.compaction.is_stopping() {
            // Compactions wait for it: where they are behind, it goes as fast as they would.
            self.checkpoint(Some(Pace::new(self.compaction.bytes_per_second(&self.options))));
        }
    }

    /// Writes a checkpoint of a log that is sealed and not changed any more, if it pays. Only for who holds the lock of
    /// compactions.
    pub(in crate::kvs) fn checkpoint_at_close(&self) {
        let least_bytes = self.options.checkpoint_bytes.min(MIN_BYTES_AT_CLOSE);
        if self.cadence.since_bytes.load(Ordering::Relaxed) >= least_bytes {
            self.checkpoint(None);
        }
    }

    fn checkpoint(&self, pace: Option<Pace>) {
        let counted = self.cadence.since_bytes.load(Ordering::Relaxed);
        let started = Instant::now();
        match self.write_checkpoint(pace) {
            Ok(bytes) => {
                self.cadence.written.fetch_add(1, Ordering::Relaxed);
                self.cadence.since_bytes.fetch_sub(counted, Ordering::Relaxed);
                let due_bytes = due_after(self.options.checkpoint_bytes, bytes);
                self.cadence.due_bytes.store(due_bytes, Ordering::Relaxed);
                let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                tracing::debug!(bytes, took_us, "checkpointed the index");
            }
            Err(error) => {
                tracing::warn!(%error, "the index was not checkpointed; to open the store more of the log is read");
                // Not at once again: whatever it was, the log is there.
                let later = counted.saturating_add(self.options.checkpoint_bytes.max(1));
                self.cadence.due_bytes.store(later, Ordering::Relaxed);
                if !matches!(error, Error::Poisoned { .. }) {
                    let _ = self.storage.remove(NEW_CHECKPOINT_NAME);
                }
            }
        }
        self.cadence.said.store(false, Ordering::Relaxed);
    }

    /// Returns the bytes of the checkpoint.
    fn write_checkpoint(&self, mut pace: Option<Pace>) -> Result<u64> {
        // First the segments, then the sequence: what of them is sealed now holds nothing above it.
        let segments: Vec<Covered> = self
            .log
            .segments()
            .iter()
            .map(|segment| Covered {
                slot: segment.slot(),
                id: segment.id,
                sealed_bytes: segment.sealed.get().map(|sealed| sealed.bytes),
                kept_bytes: segment.kept_bytes.load(Ordering::Relaxed),
            })
            .collect();
        // Whoever appended up to here has changed the index before its shard's lock is to be had again.
        let sequence = self.log.appended_sequence();
        let failed = |error| match error {
            error if is_full(&error) => Error::NoSpace,
            error => Error::io("writing a checkpoint", error),
        };
        match self.storage.remove(NEW_CHECKPOINT_NAME) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = self.storage.create(NEW_CHECKPOINT_NAME).map_err(failed)?;
        let mut writer =
            Writer::begin(file.as_ref(), sequence, self.log.id(), self.index.hash_key()).map_err(failed)?;
        for shard in 0..SHARDS {
            let entries: Vec<_> = self.index.lock_shard(shard).entries_from(0).collect();
            let bytes = writer.block(&entries).map_err(failed)?;
            let pause = pace.as_mut().map_or(Duration::ZERO, |pace| pace.count(bytes));
            if !pause.is_zero() && self.compaction.pause(pause) {
                return Err(Error::Closed);
            }
        }
        let bytes = writer.finish(segments).map_err(failed)?;
        if !zoo::bug("checkpoint-before-sync") {
            self.log.flush()?;
        }
        // From here on it is unknown which names a crash would leave, as with a manifest.
        self.storage
            .rename(NEW_CHECKPOINT_NAME, CHECKPOINT_NAME)
            .and_then(|()| self.storage.sync_folder())
            .map_err(|error| self.log.poison(format!("replacing the checkpoint failed: {error}")))?;
        Ok(bytes)
    }
}
