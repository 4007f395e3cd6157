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

/// A checkpoint pays when the log has grown by this many times its size: it costs then at most a third of the writes of
/// the log itself, and opening after a crash reads at most some four times the checkpoint's size of it.
const GROWTH_FACTOR: u64 = 3;
/// At a clean end, a log that has grown by less is not worth one: it is read in a few milliseconds.
const MIN_BYTES_AT_CLOSE: u64 = 1024 * 1024;
/// How long a checkpoint pauses at most before it looks again how far the log has grown.
const PACE_STEP: Duration = Duration::from_millis(5);

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
            // A file that waits for the next output, and two checkpoints: together they would be the most that is on disk.
            self.log.drop_kept();
            self.checkpoint(Some(Pace::new()));
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
        match self.write_checkpoint(counted, pace) {
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

    /// Pauses after a block of a checkpoint of which `written_bytes` are there, and which began when `counted` bytes of
    /// growth were counted; returns whether the store closes.
    fn pace_checkpoint(&self, pace: &mut Pace, bytes: u64, written_bytes: u64, counted: u64) -> bool {
        // Compactions wait for it: where they are behind, it goes as fast as they would.
        let mut pause = pace.count(bytes, self.background_bytes_per_second());
        while !pause.is_zero() {
            // What comes in meanwhile is read after a crash: it shall not be more than the checkpoint itself.
            let grown_bytes = self.cadence.since_bytes.load(Ordering::Relaxed).saturating_sub(counted);
            if grown_bytes > written_bytes {
                pace.forgive();
                return false;
            }
            let step = pause.min(PACE_STEP);
            if self.compaction.pause(step) {
                return true;
            }
            pause -= step;
        }
        false
    }

    /// Returns the bytes of the checkpoint; `counted` is the growth that it makes good.
    fn write_checkpoint(&self, counted: u64, mut pace: Option<Pace>) -> Result<u64> {
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
        let mut written_bytes = 0;
        for shard in 0..SHARDS {
            let entries: Vec<_> = self.index.lock_shard(shard).entries_from(0).collect();
            let bytes = writer.block(&entries).map_err(failed)?;
            written_bytes += bytes;
            let closes = pace.as_mut().is_some_and(|pace| self.pace_checkpoint(pace, bytes, written_bytes, counted));
            if closes {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use crate::storage::MemoryStorage;
    use crate::{KvStore, KvsEngine as _, Options};

    #[test]
    fn a_checkpoint_is_as_fast_as_the_log_grows() {
        // At a byte a second this checkpoint would take a day.
        let options = Options {
            checkpoint_bytes: 1024 * 1024,
            compaction_threshold_bytes: u64::MAX,
            compaction_bytes_per_second: 1,
            ..Options::default()
        };
        let store = KvStore::open_storage(Arc::new(MemoryStorage::new()), options).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut keys = 0_u64;
        while store.stats().checkpoints == 0 {
            for _ in 0..100 {
                store.set(format!("key {keys}"), "x".repeat(100)).unwrap();
                keys += 1;
            }
            assert!(Instant::now() < deadline, "after {} bytes there is no checkpoint", store.stats().appended_bytes);
        }
        // It began at 1 MiB, and is itself far smaller.
        assert!(store.stats().appended_bytes < 16 * 1024 * 1024, "{} bytes", store.stats().appended_bytes);
    }
}
