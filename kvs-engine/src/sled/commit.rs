//! The committer: one thread that makes groups of writes durable and gives the answers that waited for it.
//!
//! What must hold:
//! * an answer is queued only after its operation was applied to sled, so whatever is queued when a group is taken is
//!   covered by the flush and the sync that follow;
//! * a group's answers are given only after both succeeded, and in the order in which they were queued;
//! * after the first failure nothing is acknowledged, synced or flushed any more: a failed sync may have thrown away
//!   what it could not write, so a second one that succeeds proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::operation::Outcome;
use crate::options::SyncPolicy;
use crate::stats::Observer;

use super::files::Barrier;

/// What the threads that submit and the committer share.
pub(super) struct Queue {
    /// Held for a push or a take, never during I/O and never while an answer is given. Rank: after a shard's lock.
    gathering: Mutex<Group>,
    arrived: Condvar,
    /// The last group whose writes may be shown.
    settled: AtomicU64,
    /// The first failure, once there is one.
    poison: OnceLock<Error>,
    /// Barriers that succeeded since the store was opened.
    syncs: AtomicU64,
}

/// The answers that will be given after one flush and one sync. Its length is bounded by what its callers have in
/// flight: a submit can't wait and is never refused.
#[derive(Default)]
struct Group {
    generation: u64,
    answers: Vec<(Completion, Result<Outcome>)>,
    /// Writes among the answers.
    records: u64,
    /// Bytes of the keys and values of those.
    bytes: u64,
    /// Somebody called `flush`: sync whatever the policy says.
    sync_now: bool,
    closing: bool,
}

/// What a queued answer waits for.
pub(super) enum Held {
    /// It reports a write of so many bytes of keys and values.
    Write(u64),
    /// It shows the effect of a write that is not settled.
    Read,
    /// It reports that everything before it is synced, whatever the policy.
    Flush,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            gathering: Mutex::new(Group { generation: 1, ..Group::default() }),
            arrived: Condvar::new(),
            settled: AtomicU64::new(0),
            poison: OnceLock::new(),
            syncs: AtomicU64::new(0),
        }
    }

    /// Queues an answer; returns the generation of its group.
    pub(super) fn push(&self, completion: Completion, outcome: Result<Outcome>, held: &Held) -> u64 {
        let mut group = self.lock();
        match held {
            Held::Write(bytes) => {
                group.records += 1;
                group.bytes += bytes;
            }
            Held::Read => {}
            Held::Flush => group.sync_now = true,
        }
        group.answers.push((completion, outcome));
        if group.answers.len() == 1 {
            self.arrived.notify_one();
        }
        group.generation
    }

    /// Tells the committer to end after what is queued.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// The last group whose writes may be shown.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Barriers that succeeded.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// The first failure.
    pub(super) fn poison(&self) -> Option<Error> {
        self.poison.get().cloned()
    }

    /// Ends all acknowledgement; returns the error to answer with, that of the first failure.
    pub(super) fn set_poison(&self, reason: String) -> Error {
        let error = self.poison.get_or_init(|| {
            tracing::error!(reason, "the sled store is poisoned");
            Error::Poisoned { reason }
        });
        error.clone()
    }

    /// Waits until there is something to do, at most until `deadline`, and takes the group.
    fn take(&self, deadline: Option<Instant>) -> Group {
        let mut group = self.lock();
        while group.answers.is_empty() && !group.closing {
            let Some(deadline) = deadline else {
                group = self.arrived.wait(group).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            group = self.arrived.wait_timeout(group, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let next = Group { generation: group.generation + 1, closing: group.closing, ..Group::default() };
        std::mem::replace(&mut *group, next)
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The committer's own state.
pub(super) struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) db: ::sled::Db,
    pub(super) barrier: Box<dyn Barrier>,
    pub(super) policy: SyncPolicy,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) unsynced: Unsynced,
}

/// Acknowledged writes that only the operating system has (policies `Interval` and `Os`).
#[derive(Default)]
pub(super) struct Unsynced {
    /// When the first of them was acknowledged.
    since: Option<Instant>,
    records: u64,
    bytes: u64,
}

impl Committer {
    /// Serves until the queue is closed.
    pub(super) fn run(mut self) {
        // A panic inside sled or an observer must leave nobody waiting: it poisons the store, and the loop goes on to
        // answer those who come later.
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| while self.serve_group() {})) {
            self.queue.set_poison(format!("the committer panicked: {}", super::panic_message(&*panic)));
        }
        if self.queue.poison.get().is_some() {
            // Dropping sled's handle would flush and sync again, and panic when that fails again.
            std::mem::forget(self.db);
        }
    }

    /// Serves one group; `false` when it was the last.
    fn serve_group(&mut self) -> bool {
        let group = self.queue.take(self.deadline());
        let result = self.settle(&group);
        if result.is_ok() {
            self.queue.settled.store(group.generation, Ordering::Release);
        }
        self.observer.answers();
        for (completion, outcome) in group.answers {
            completion.complete(result.clone().and(outcome));
        }
        self.observer.answered();
        // Nothing can be queued after closing: this was everything.
        !group.closing
    }

    /// When acknowledged writes must be synced at the latest.
    fn deadline(&self) -> Option<Instant> {
        match self.policy {
            SyncPolicy::Always | SyncPolicy::Os => None,
            SyncPolicy::Interval(interval) => self.unsynced.since.map(|since| since + interval),
        }
    }

    /// Makes a group as durable as the policy asks.
    fn settle(&mut self, group: &Group) -> Result<()> {
        if let Some(error) = self.queue.poison() {
            return Err(error);
        }
        self.unsynced.records += group.records;
        self.unsynced.bytes += group.bytes;
        let due = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
        let always = self.policy == SyncPolicy::Always && group.records > 0;
        if always || due || group.sync_now || group.closing {
            self.sync()
        } else if group.records > 0 {
            // The death of the process must lose nothing, and sled keeps what it has not flushed in its own memory.
            self.flush_sled()?;
            self.unsynced.since.get_or_insert_with(Instant::now);
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Flush, then the barrier that the flush is not.
    fn sync(&mut self) -> Result<()> {
        let begin = Instant::now();
        self.barrier
            .prepare()
            .map_err(|error| self.queue.set_poison(format!("sync of sled's blobs failed: {error}")))?;
        self.flush_sled()?;
        let written_after = begin.elapsed();
        self.observer.written(written_after, self.unsynced.bytes);
        self.barrier
            .sync()
            .map_err(|error| self.queue.set_poison(format!("sync of sled's db file failed: {error}")))?;
        self.queue.syncs.fetch_add(1, Ordering::Relaxed);
        let unsynced = std::mem::take(&mut self.unsynced);
        self.observer.synced(begin.elapsed().saturating_sub(written_after), unsynced.records, unsynced.bytes);
        Ok(())
    }

    fn flush_sled(&self) -> Result<()> {
        match self.db.flush() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.queue.set_poison(format!("sled's flush failed: {error}"))),
        }
    }
}
