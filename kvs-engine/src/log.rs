//! The framed log: payloads in, sequences out, word when they are durable. It knows nothing of keys; a Raft log can
//! be kept in it as well as ours.
//!
//! The way of a record: `append` takes a sequence under the tail's lock and queues the line; one thread at a time
//! *leads*: it writes all that is queued, syncs once, and tells every waiter. What arrives meanwhile is the next
//! group, so a sync is shared by all who wait and nobody waits for a timer.
//!
//! What must hold:
//! * lines reach the file in the order of their sequences, without gaps;
//! * a waiter hears `Ok` only after its line, and every line before it, is durable under the sync policy;
//! * after a failed write or sync nobody hears `Ok` any more, and no sync is tried again;
//! * the tail's lock is never held across I/O.

mod begin;
mod commit;
pub(crate) mod coverage;
mod cut;
#[cfg(test)]
mod every_bit;
pub(crate) mod frame;
mod framed;
pub(crate) mod group;
mod lines;
pub(crate) mod manifest;
mod notices;
mod open;
mod places;
pub(crate) mod recovery;
mod recycle;
pub(crate) mod segment;
pub(crate) mod segments;
pub(crate) mod snapshot;
pub(crate) mod table;
mod tail;

pub use framed::options::{LogOptions, LogStats, ReadLimits};
pub use framed::{Entry, FramedLog};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::repeated::Repeated;
use crate::stats::Observer;
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use manifest::Manifest;
use segment::Segment;
use table::SegmentTable;
use tail::Tail;

/// The most bytes that are queued and not yet written. Appending beyond waits for the disk: memory has a limit.
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// How long after a full disk the log looks for space again.
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// The least that the thread that leads waits between two looks, so that it never spins while another one leads.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// How often an idle thread looks whether it was told to stop, should a wake-up get lost.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// Somebody who waits for a line to be durable.
pub(crate) trait Waiter: Send + 'static {
    /// The line is durable, or never will be.
    fn settled(self, result: Result<()>);
}

/// What a record is for, which decides whether it may use the room that is kept for a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It makes the data larger: refused when the disk is full.
    Grow,
    /// It makes the data smaller: may use what room is left.
    Shrink,
}

/// Where a record was appended.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Its segment.
    pub(crate) segment: Arc<Segment>,
    /// Where its line begins in the segment's file.
    pub(crate) offset: u64,
    /// Bytes of its line.
    pub(crate) bytes: u64,
    /// Its number.
    pub(crate) sequence: u64,
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Bytes of a torn tail that were cut.
    pub(crate) torn_bytes: u64,
}

/// An open log. Shared by its threads; [`Log::stop`] and then [`Log::seal_all`] end it.
pub(crate) struct Log<W> {
    storage: Arc<dyn Storage>,
    options: Options,
    /// 32 hexadecimal digits that manifest and segments carry.
    id: String,
    /// Rank 2, below the locks of the index. Never held across I/O.
    tail: Mutex<Tail<W>>,
    /// Wakes the thread that leads when nobody else does.
    work: Condvar,
    /// A group is done, or the log is poisoned.
    round_ended: Condvar,
    /// Wakes the thread that prepares and seals segments.
    segment_work: Condvar,
    /// A segment is ready, or there is no space for one.
    segment_ready: Condvar,
    /// Every sequence up to this one may be shown.
    settled_sequence: AtomicU64,
    /// Rank 1: held while the manifest is written, and so across I/O; the tail's lock may be taken under it.
    manifest: Mutex<Manifest>,
    /// Rank 3. Every segment by its slot.
    table: Mutex<SegmentTable>,
    /// What the table holds, for those who read: without its lock.
    view: arc_swap::ArcSwap<table::Slots>,
    /// The number of the next segment's file.
    next_segment: AtomicU64,
    appended_bytes: AtomicU64,
    /// Bytes of a group, averaged over the last few.
    group_bytes: AtomicU64,
    syncs: AtomicU64,
    /// Time that appends waited for room or for a segment, in microseconds.
    stall_us: AtomicU64,
    no_space: AtomicBool,
    /// Taken with no other lock, and never held across I/O. A file for the output of the next compaction.
    kept: Mutex<Option<Arc<Segment>>>,
    /// A compaction uses the space of its reserve.
    reserve_in_use: AtomicBool,
    /// That one does is told now and then: on a full disk they try again and again.
    reserve_told: Repeated,
}

/// Steps that must be taken together or not at all; see [`Log::or_poison`].
pub(crate) struct OrPoison<'a, W: Waiter> {
    log: &'a Log<W>,
    doing: &'static str,
    /// A panic was there before: this is called by what cleans up behind it.
    was_panicking: bool,
}

impl<W: Waiter> Drop for OrPoison<'_, W> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.log.poison_by_panic(self.doing);
        }
    }
}

impl<W: Waiter> Log<W> {
    fn lock(&self) -> MutexGuard<'_, Tail<W>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 32 hexadecimal digits that tell this log from every other.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Appends a record and registers who waits for it. The caller must then [`kick`](Self::kick) or
    /// [`lead`](Self::lead), after it has let go of its own locks.
    ///
    /// `waiter` is made under the tail's lock, once it is certain that the record is appended, and told where.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::NoSpace`]; nothing was appended then.
    pub(crate) fn append(&self, payload: &[u8], purpose: Purpose, waiter: impl FnOnce(&Placed) -> W) -> Result<Placed> {
        let bytes = frame::line_bytes(payload);
        self.append_with(bytes, purpose, waiter, |tail| tail.push(payload, bytes))
    }

    /// Appends records that take effect together, as [`append`](Self::append) does one.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(crate) fn append_group(
        &self,
        payloads: &[Vec<u8>],
        purpose: Purpose,
        waiter: impl FnOnce() -> W,
    ) -> Result<Vec<Placed>> {
        let announcement = group::announcement(payloads.len());
        let bytes = payloads.iter().chain([&announcement]).map(|payload| frame::line_bytes(payload)).sum();
        let waiter = |_: &Vec<Placed>| waiter();
        self.append_with(bytes, purpose, waiter, |tail| {
            tail.push(&announcement, frame::line_bytes(&announcement));
            payloads.iter().map(|payload| tail.push(payload, frame::line_bytes(payload))).collect()
        })
    }

    /// Makes room for `bytes` bytes in one segment and has `push` queue them.
    fn append_with<T>(
        &self,
        bytes: u64,
        purpose: Purpose,
        waiter: impl FnOnce(&T) -> W,
        push: impl FnOnce(&mut Tail<W>) -> T,
    ) -> Result<T> {
        let mut tail = self.lock();
        loop {
            tail.check_open()?;
            if purpose == Purpose::Grow && tail.no_space {
                return Err(Error::NoSpace);
            }
            if tail.appends_held {
                tail = self.segment_ready.wait(tail).unwrap_or_else(PoisonError::into_inner);
            } else if tail.queued_bytes > MAX_QUEUED_BYTES {
                self.work.notify_one();
                let began = Instant::now();
                tail = self.round_ended.wait(tail).unwrap_or_else(PoisonError::into_inner);
                self.note_stall(began);
            } else if tail.end + bytes > tail.active.capacity {
                tail = self.rotate(tail, bytes, purpose)?;
            } else {
                break;
            }
        }
        let placed = push(&mut tail);
        let waiter = waiter(&placed);
        tail.waiters.push(waiter);
        drop(tail);
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(placed)
    }

    /// Goes one step towards a segment that has room for a line of `bytes` bytes: takes the one that is ready, or waits
    /// for one.
    fn rotate<'a>(
        &'a self,
        mut tail: MutexGuard<'a, Tail<W>>,
        bytes: u64,
        purpose: Purpose,
    ) -> Result<MutexGuard<'a, Tail<W>>> {
        if let Some(spare) = tail.spare.take() {
            tail.activate(spare);
            self.segment_work.notify_one();
            return Ok(tail);
        }
        let was_full = tail.no_space;
        if was_full {
            if purpose == Purpose::Grow {
                return Err(Error::NoSpace);
            }
            tail.removal_waits = true;
        }
        tail.wanted_bytes = tail.wanted_bytes.max(bytes);
        self.segment_work.notify_one();
        let began = Instant::now();
        tail = self.segment_ready.wait(tail).unwrap_or_else(PoisonError::into_inner);
        self.note_stall(began);
        let refused = was_full && tail.spare.is_none() && !tail.removal_waits;
        if refused { Err(Error::NoSpace) } else { Ok(tail) }
    }

    /// Counts a wait that has just ended.
    fn note_stall(&self, began: Instant) {
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stall_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Time that appends waited for room or for a segment since the log was opened, in microseconds.
    pub(crate) fn stall_us(&self) -> u64 {
        self.stall_us.load(Ordering::Relaxed)
    }

    /// Has the segment that takes appends sealed soon, so that a compaction can rewrite it, and returns it; `None` when
    /// it is empty, or when there is no space for another one.
    pub(crate) fn retire_active(&self) -> Option<Arc<Segment>> {
        let mut tail = self.lock();
        let active = Arc::clone(&tail.active);
        while tail.records > 0 && tail.active.id == active.id && tail.check_open().is_ok() {
            tail = self.rotate(tail, 0, Purpose::Grow).ok()?;
        }
        (tail.active.id != active.id).then_some(active)
    }

    /// Registers who waits until a record may be shown; gives the waiter back when it may be shown now.
    pub(crate) fn wait_for_record(&self, segment: &Segment, offset: u64, waiter: W) -> Option<W> {
        if offset < segment.settled.load(Ordering::Acquire) {
            return Some(waiter);
        }
        self.wait(
            waiter,
            |tail| tail.is_in_flight(segment.id, offset),
            || offset < segment.settled.load(Ordering::Acquire),
        )
    }

    /// Registers who waits until everything up to a sequence may be shown; gives the waiter back when it may be now.
    pub(crate) fn wait_for_sequence(&self, sequence: u64, waiter: W) -> Option<W> {
        if sequence <= self.settled_sequence() {
            return Some(waiter);
        }
        self.wait(waiter, |tail| sequence <= tail.flight_target, || sequence <= self.settled_sequence())
    }

    fn wait(&self, waiter: W, in_flight: impl FnOnce(&Tail<W>) -> bool, settled: impl FnOnce() -> bool) -> Option<W> {
        let mut tail = self.lock();
        if let Some(error) = tail.poisoned.clone() {
            drop(tail);
            waiter.settled(Err(error));
            return None;
        }
        if settled() {
            return Some(waiter);
        }
        if tail.leading && in_flight(&tail) {
            tail.flight_waiters.push(waiter);
        } else {
            tail.waiters.push(waiter);
        }
        None
    }

    /// The line at a place that is not written yet, from memory; `None` when it is in the file by now.
    pub(crate) fn queued_line(&self, segment: &Segment, offset: u64) -> Option<Vec<u8>> {
        if offset < segment.written.load(Ordering::Acquire) {
            return None;
        }
        self.lock().line_at(segment.id, offset)
    }

    /// Every sequence up to this one may be shown.
    pub(crate) fn settled_sequence(&self) -> u64 {
        self.settled_sequence.load(Ordering::Acquire)
    }

    /// As [`settled_sequence`](Self::settled_sequence), but in order with the groups: what this does not count is told
    /// later.
    pub(crate) fn settled_sequence_now(&self) -> u64 {
        let _tail = self.lock();
        self.settled_sequence()
    }

    /// The highest sequence that was appended.
    pub(crate) fn appended_sequence(&self) -> u64 {
        self.lock().next_sequence - 1
    }

    fn path_of(&self, segment: &Segment) -> String {
        self.storage.path(&segment::name_of(segment.id)).display().to_string()
    }

    /// Ends all writing for good, tells it those who wait for the next group, which will never be, and returns the
    /// error that everybody gets from now on. Those who wait for a group at the disk hear from who leads it.
    pub(crate) fn poison(&self, reason: String) -> Error {
        let mut tail = self.lock();
        let error = tail.poisoned.get_or_insert(Error::Poisoned { reason }).clone();
        let waiters = std::mem::take(&mut tail.waiters);
        drop(tail);
        self.round_ended.notify_all();
        self.segment_ready.notify_all();
        self.segment_work.notify_all();
        self.work.notify_all();
        for waiter in waiters {
            waiter.settled(Err(error.clone()));
        }
        error
    }

    /// Poisons the log if a panic comes by while the guard lives: for steps that must be taken together or not at all.
    pub(crate) fn or_poison(&self, doing: &'static str) -> OrPoison<'_, W> {
        OrPoison { log: self, doing, was_panicking: std::thread::panicking() }
    }

    /// Tells the observer. A fault of its own is no fault of the log, and must keep nobody waiting.
    pub(crate) fn tell(&self, word: impl FnOnce(&dyn Observer)) {
        if catch_unwind(AssertUnwindSafe(|| word(self.options.observer.as_ref()))).is_err() {
            tracing::error!("the observer panicked");
        }
    }

    /// What everybody gets from now on, after a panic in the middle of this.
    pub(crate) fn poison_by_panic(&self, doing: &str) -> Error {
        self.poison(format!("a fault of the program in {doing}; its log says more"))
    }

    /// Why nothing is acknowledged any more, if so.
    pub(crate) fn poisoned(&self) -> Option<Error> {
        self.lock().poisoned.clone()
    }

    /// Refuses further appends and ends the log's threads, which the caller joins.
    pub(crate) fn stop(&self) {
        let mut tail = self.lock();
        tail.closed = true;
        tail.stopping = true;
        drop(tail);
        self.work.notify_all();
        self.segment_work.notify_all();
        self.segment_ready.notify_all();
        self.round_ended.notify_all();
    }

    /// Makes everything durable and seals the log, so that damage to any byte of it is noticed as damage. Only after
    /// [`stop`](Self::stop), and after the log's threads have ended: nobody else may change the manifest.
    ///
    /// # Errors
    /// [`Error::Poisoned`], or what failed while sealing; the log opens as after a crash then.
    pub(crate) fn seal_all(&self) -> Result<()> {
        self.flush()?;
        self.seal_segments()
    }

    /// Bytes appended and syncs made since the log was opened.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.appended_bytes.load(Ordering::Relaxed), self.syncs.load(Ordering::Relaxed))
    }

    /// Whether writes are refused for want of space.
    pub(crate) fn is_read_only(&self) -> bool {
        self.no_space.load(Ordering::Relaxed)
    }
}
