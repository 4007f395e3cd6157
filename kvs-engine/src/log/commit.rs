//! Making appended records durable: who leads writes what is queued, syncs once and tells everybody.
//!
//! What must hold: one thread at a time leads; a group is everything that was queued when it took off, so what arrives
//! meanwhile shares the next sync; the tail's lock is let go of while the group is at the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::segment::Segment;
use super::tail::{Chunk, Tail};
use super::{IDLE_TICK, Log, SHORTEST_PAUSE, Waiter};
use crate::error::Result;
use crate::options::SyncPolicy;
use crate::storage::write_all_at;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, PoisonError, thread};
use crate::zoo;

/// With so many records in a group, appends come faster than syncs: whoever shares a processor with the log's thread goes
/// first once more, which makes the group larger and syncs rarer. With fewer it would only add to their latency. Where
/// each thread has a processor, this costs a system call.
const YIELDING_RECORDS: u64 = 64;

impl<W: Waiter> Log<W> {
    /// Has the log's own thread make durable what was appended. For callers who do not wait.
    pub(crate) fn kick(&self) {
        let mut tail = self.lock();
        if !tail.leading && !tail.called && !tail.queue.is_empty() {
            // Each word costs a system call, whether or not anybody sleeps.
            tail.called = true;
            self.work.notify_one();
        }
    }

    /// Makes durable what was appended, on this thread, unless another one is at it. For callers who wait anyway.
    pub(crate) fn lead(&self) {
        let tail = self.lock();
        if tail.leading || tail.queue.is_empty() || tail.poisoned.is_some() {
            return;
        }
        drop(self.round(tail, false));
    }

    /// Writes and syncs one group. Called with the tail's lock, which it lets go of while it does I/O.
    fn round<'a>(&'a self, mut tail: MutexGuard<'a, Tail<W>>, sync: bool) -> MutexGuard<'a, Tail<W>> {
        let sync = sync
            || self.options.sync == SyncPolicy::Always
            || self.sync_due_in(&tail).is_some_and(|time| time.is_zero());
        let flight = tail.take_off(sync);
        let records = flight.target - self.settled_sequence();
        drop(tail);

        let bytes: u64 = flight.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        let started = Instant::now();
        let mut written_after = Duration::ZERO;
        let written = || {
            self.write_group(&flight.chunks)?;
            written_after = started.elapsed();
            self.sync_group(&flight.dirty)
        };
        // Whoever leads is waited for by everybody: a fault here must be told, and not end the leading without a word.
        let result =
            catch_unwind(AssertUnwindSafe(written)).unwrap_or_else(|_| Err(self.poison_by_panic("writing the log")));
        let average = self.group_bytes.load(Ordering::Relaxed);
        self.group_bytes.store((average * 7 + bytes) / 8, Ordering::Relaxed);
        if result.is_ok() {
            for chunk in flight.chunks.iter() {
                chunk.segment.settle(chunk.end());
            }
            self.settled_sequence.store(flight.target, Ordering::Release);
            if bytes > 0 {
                self.tell(|observer| observer.written(written_after, bytes));
            }
            if sync {
                let took = started.elapsed().saturating_sub(written_after);
                self.tell(|observer| observer.synced(took, records, bytes));
            }
        }

        let mut tail = self.lock();
        let waiters = tail.land(&flight, sync, &result);
        tail.reuse(flight);
        self.round_ended.notify_all();
        if result.is_err() {
            self.segment_ready.notify_all();
        }
        if !tail.queue.is_empty() {
            self.work.notify_one();
        }
        drop(tail);
        self.tell(|observer| observer.answers());
        for waiter in waiters {
            // Whoever waits next must be led as well, whatever this one does.
            let told = catch_unwind(AssertUnwindSafe(|| waiter.settled(result.clone())));
            if told.is_err() {
                tracing::error!("an answer's receiver panicked");
            }
        }
        self.tell(|observer| observer.answered());
        self.lock()
    }

    fn write_group(&self, chunks: &[Chunk]) -> Result<()> {
        for chunk in chunks {
            write_all_at(chunk.segment.file.as_ref(), &chunk.bytes, chunk.offset).map_err(|error| {
                // What a failed write left in the file is unknown, and so is what later lines would stand behind.
                self.poison(format!("writing {} failed: {error}", self.path_of(&chunk.segment)))
            })?;
        }
        Ok(())
    }

    fn sync_group(&self, dirty: &[Arc<Segment>]) -> Result<()> {
        if zoo::bug("acknowledge-before-sync") {
            return Ok(());
        }
        for segment in dirty {
            segment
                .file
                .sync_data()
                .or_else(|error| if zoo::bug("retried-sync") { segment.file.sync_data() } else { Err(error) })
                .map_err(|error| self.poison(format!("syncing {} failed: {error}", self.path_of(segment))))?;
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes every record that was appended before this call durable, whatever the sync policy.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub(crate) fn flush(&self) -> Result<()> {
        let mut tail = self.lock();
        let target = tail.next_sequence - 1;
        loop {
            if let Some(error) = &tail.poisoned {
                return Err(error.clone());
            }
            // What was truncated meanwhile is waited for no more.
            if tail.synced_sequence >= target.min(tail.next_sequence - 1) {
                return Ok(());
            }
            tail = if tail.leading {
                self.round_ended.wait(tail).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.round(tail, true)
            };
        }
    }

    /// The time between syncs, where the policy has one.
    fn interval(&self) -> Option<Duration> {
        match self.options.sync {
            SyncPolicy::Interval(interval) => Some(interval),
            SyncPolicy::Always | SyncPolicy::Os => None,
        }
    }

    /// When the next sync is due by the policy's interval; `None` when nothing waits for one.
    fn sync_due_in(&self, tail: &Tail<W>) -> Option<Duration> {
        let interval = self.interval().filter(|_| tail.is_dirty())?;
        Some(interval.saturating_sub(tail.synced_at.elapsed()))
    }

    /// The loop of the thread that leads when nobody else does. Ends when the log is closed or poisoned.
    pub(crate) fn run_commits(&self) {
        let mut tail = self.lock();
        let mut yielded = false;
        loop {
            if tail.stopping || tail.poisoned.is_some() {
                return;
            }
            let sync_due_in = self.sync_due_in(&tail);
            let sync_due = sync_due_in.is_some_and(|time| time.is_zero());
            if !tail.leading && (!tail.queue.is_empty() || sync_due) {
                if !yielded && tail.queued_records() >= YIELDING_RECORDS {
                    drop(tail);
                    thread::yield_now();
                    tail = self.lock();
                    yielded = true;
                    continue;
                }
                yielded = false;
                tail = self.round(tail, sync_due);
                continue;
            }
            let pause = sync_due_in.or(self.interval()).unwrap_or(IDLE_TICK).clamp(SHORTEST_PAUSE, IDLE_TICK);
            tail = self.work.wait_timeout(tail, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
