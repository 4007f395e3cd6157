//! Rewriting segments that hold mostly dead bytes, beside reads and writes.
//!
//! This file decides when and what: it is woken when enough is dead, chooses sealed segments, and keeps the figures.
//! [`step`] does it.

#[cfg(test)]
mod damaged;
mod pace;
#[cfg(test)]
mod readers;
mod step;
mod window;

use std::time::{Duration, Instant};

pub(in crate::kvs) use pace::Pace;

use super::store::Core;
use crate::error::{Error, Result};
use crate::log::segment::{MAX_FILE_BYTES, MAX_HEADER_BYTES, Segment};
use crate::options::Options;
use crate::repeated::Repeated;
use crate::stats::Stats;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How long a compaction that failed waits before the next one: twice as long after each failure in a row, unless space is
/// wanting, which comes back by itself.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such wait: what fails every time, as a damaged segment does, is told now and then.
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// How long to wait for a segment to be sealed after it was asked for.
const SEAL_WAIT: Duration = Duration::from_secs(2);
/// How often to look whether it is.
const SEAL_POLL: Duration = Duration::from_millis(2);
/// A step must give back this share of what it reads, in percent, or it is not worth its writes.
const MIN_GAIN_PERCENT: u64 = 10;
/// A step reads at most so many times the size of a segment.
const MAX_INPUT_SEGMENTS: u64 = 16;

/// How much more of the log must be dead than should be for work to go twice as fast, in parts of 1,000.
const DOUBLING_PERMILLE: u64 = 5;
/// Ten doublings are faster than any disk.
const MAX_DOUBLINGS: u64 = 10;

/// What the compaction and its callers tell each other.
#[derive(Default)]
pub(super) struct State {
    /// Never held across I/O.
    wish: Mutex<Wish>,
    wished: Condvar,
    /// Held by whoever compacts: one at a time.
    pub(super) running: Mutex<()>,
    compacting: AtomicBool,
    /// Bytes of removals that compactions kept, at the last look: no compaction gets rid of them.
    kept_bytes: AtomicU64,
    /// Somebody asked for all of it at the configured rate: however much is dead, there is no hurry.
    asked: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
    took_us: AtomicU64,
    reclaimed_bytes: AtomicU64,
    throttled_us: AtomicU64,
    /// Dead bytes below which nobody needs to look: raised when a look gained nothing.
    look_from_bytes: AtomicU64,
}

#[derive(Default)]
struct Wish {
    look: bool,
    stopping: bool,
}

impl State {
    /// Wakes the compaction if enough is dead. Called after each mutation, so it must be cheap.
    pub(super) fn hint(&self, dead_bytes: u64, record_bytes: u64, options: &Options) {
        if is_due(dead_bytes, record_bytes, options)
            && dead_bytes >= self.look_from_bytes.load(Ordering::Relaxed)
            && !self.compacting.load(Ordering::Relaxed)
        {
            self.wish();
        }
    }

    /// Asks for a look.
    pub(super) fn wish(&self) {
        let mut wish = self.lock();
        if !wish.look {
            wish.look = true;
            self.wished.notify_all();
        }
    }

    /// Ends the compaction's thread, after the step that it is at gave up or ended.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wished.notify_all();
    }

    /// Adds what the compaction knows.
    pub(super) fn stats(&self, stats: Stats) -> Stats {
        Stats {
            compactions: self.runs.load(Ordering::Relaxed),
            compaction_us: self.took_us.load(Ordering::Relaxed),
            compaction_reclaimed_bytes: self.reclaimed_bytes.load(Ordering::Relaxed),
            compaction_failures: self.failures.load(Ordering::Relaxed),
            compacting: self.compacting.load(Ordering::Relaxed),
            compaction_throttled_us: self.throttled_us.load(Ordering::Relaxed),
            ..stats
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Lets time pass, unless the store closes; returns whether it closes.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let wish = self.lock();
        let (wish, _) =
            self.wished.wait_timeout_while(wish, time, |wish| !wish.stopping).unwrap_or_else(PoisonError::into_inner);
        wish.stopping
    }

    /// As [`pause`](Self::pause), to keep to a rate.
    pub(super) fn keep_pace(&self, time: Duration) -> bool {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.throttled_us.fetch_add(time_us, Ordering::Relaxed);
        self.pause(time)
    }

    /// Waits until somebody wishes for a look, at most so long; returns whether the store closes.
    fn wait(&self, longest: Option<Duration>) -> bool {
        let wish = self.lock();
        let is_idle = |wish: &mut Wish| !wish.look && !wish.stopping;
        let mut wish = match longest {
            Some(longest) => {
                self.wished.wait_timeout_while(wish, longest, is_idle).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wished.wait_while(wish, is_idle).unwrap_or_else(PoisonError::into_inner),
        };
        wish.look = false;
        wish.stopping
    }
}

/// Whether so much is dead that compaction pays.
fn is_due(dead_bytes: u64, record_bytes: u64, options: &Options) -> bool {
    dead_bytes >= options.compaction_threshold_bytes.max(1)
        && dead_bytes * 100 >= record_bytes * u64::from(options.compaction_dead_percent)
}

/// How many dead bytes there are beyond what makes a compaction due.
pub(super) fn backlog_bytes(dead_bytes: u64, record_bytes: u64, options: &Options) -> u64 {
    let share_bytes = record_bytes / 100 * u64::from(options.compaction_dead_percent);
    dead_bytes.saturating_sub(options.compaction_threshold_bytes.max(share_bytes))
}

/// How many more bytes must be dead at least until a compaction is due.
fn missing_bytes(dead_bytes: u64, record_bytes: u64, options: &Options) -> u64 {
    let share_bytes = record_bytes / 100 * u64::from(options.compaction_dead_percent);
    options.compaction_threshold_bytes.max(share_bytes).saturating_sub(dead_bytes)
}

/// How many times twice as fast to go as configured, so that a log that is overwritten faster than the configured rate
/// clears still has a bound.
fn doublings(dead_bytes: u64, record_bytes: u64, options: &Options) -> u64 {
    let dead_permille = dead_bytes.saturating_mul(1000) / record_bytes.max(1);
    let behind_permille = dead_permille.saturating_sub(u64::from(options.compaction_dead_percent) * 10);
    (behind_permille / DOUBLING_PERMILLE).min(MAX_DOUBLINGS)
}

impl Core {
    /// How fast work in the background may go now: asked again at every step, because what is behind goes faster.
    pub(super) fn background_bytes_per_second(&self) -> u64 {
        let rate = self.options.compaction_bytes_per_second;
        if self.compaction.asked.load(Ordering::Relaxed) {
            return rate;
        }
        let record_bytes = self.record_bytes.load(Ordering::Relaxed);
        let stays_bytes = self.live_bytes.load(Ordering::Relaxed) + self.compaction.kept_bytes.load(Ordering::Relaxed);
        rate.saturating_mul(1 << doublings(record_bytes.saturating_sub(stays_bytes), record_bytes, &self.options))
    }

    /// The loop of the compaction's thread.
    pub(super) fn run_compactions(&self) {
        let mut retry = RETRY;
        let failures = Repeated::default();
        while !self.compaction.wait(self.next_look()) {
            if self.log.poisoned().is_some() {
                return;
            }
            let Err(error) = self.compact_while_due() else {
                retry = RETRY;
                continue;
            };
            if let Some(failed) = failures.count() {
                let retry_s = retry.as_secs();
                tracing::warn!(%error, failed, retry_s, "a compaction failed; the log is as it was, the next try follows");
            }
            if self.compaction.pause(retry) {
                return;
            }
            // Perhaps nothing is written any more that would ask for it.
            self.compaction.wish();
            retry = if matches!(error, Error::NoSpace) { RETRY } else { (retry * 2).min(LONGEST_RETRY) };
        }
    }

    /// When to look again though nobody wishes for it: a damaged segment is told now and then, also where nobody writes.
    fn next_look(&self) -> Option<Duration> {
        self.log.segments().iter().any(is_damaged).then_some(LONGEST_RETRY)
    }

    /// Compacts until too little is dead, or until nothing more can be gained.
    fn compact_while_due(&self) -> Result<()> {
        let _running = self.compaction.running.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.compact_step_by_step();
        self.log.drop_kept();
        done
    }

    fn compact_step_by_step(&self) -> Result<()> {
        loop {
            self.checkpoint_when_due();
            let segments = self.log.segments();
            let sum = |bytes: fn(&Segment) -> u64| segments.iter().map(|segment| bytes(segment)).sum::<u64>();
            let (record_bytes, dead_bytes, kept_bytes) =
                (sum(Segment::record_bytes), sum(dead_bytes_of), sum(kept_bytes_of));
            self.record_bytes.store(record_bytes, Ordering::Relaxed);
            let is_due = |bytes| is_due(bytes, record_bytes, &self.options);
            self.compaction.kept_bytes.store(kept_bytes, Ordering::Relaxed);
            let gained = !self.compaction.is_stopping()
                && (is_due(dead_bytes) && self.compact_dead(segments)?
                    || is_due(kept_bytes) && self.drop_removals()?);
            if !gained {
                // Counted as the hints count, to whom removals that are kept are dead as well.
                let seen_bytes = record_bytes.saturating_sub(self.live_bytes.load(Ordering::Relaxed));
                let more_bytes = match is_due(dead_bytes) {
                    true => self.options.compaction_threshold_bytes,
                    false => missing_bytes(dead_bytes, record_bytes, &self.options),
                };
                let next = seen_bytes.saturating_add(more_bytes.max(1));
                self.compaction.look_from_bytes.store(next, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    /// Compacts the segments in which the largest share is dead; returns whether that was worth its writes.
    fn compact_dead(&self, segments: Vec<Arc<Segment>>) -> Result<bool> {
        let mut inputs = self.choose(segments);
        if inputs.is_empty() && self.retire_active() {
            inputs = self.choose(self.log.segments());
        }
        match inputs.is_empty() {
            false => self.compact(&inputs),
            // What is dead is in segments that can't be sealed yet: a later look finds them.
            true if self.log.is_read_only() => Err(Error::NoSpace),
            true => Ok(false),
        }
    }

    /// Rewrites all that is sealed, to get rid of removals that are kept because a segment in which nothing is dead,
    /// and which is never compacted therefore, may hold an older value of their keys. Returns whether it helped.
    fn drop_removals(&self) -> Result<bool> {
        let kept_bytes = || self.log.segments().iter().map(|segment| kept_bytes_of(segment)).sum::<u64>();
        let before_bytes = kept_bytes();
        let mut segments = self.log.segments();
        segments.retain(|segment| segment.sealed.get().is_some() && !is_damaged(segment));
        // First those without removals: what they were rewritten for is known when the others come.
        segments.sort_by_key(|segment| (kept_bytes_of(segment), segment.id));
        self.rewrite(segments)?;
        Ok(kept_bytes() * 100 <= before_bytes * (100 - MIN_GAIN_PERCENT))
    }

    /// Rewrites all segments that hold dead bytes or removals.
    pub(super) fn compact_all(&self) -> Result<()> {
        let _running = self.compaction.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.compaction.asked.store(true, Ordering::Relaxed);
        self.retire_active();
        let mut left: Vec<_> = self.log.segments();
        left.retain(|segment| segment.sealed.get().is_some() && segment.record_bytes() > live_bytes_of(segment));
        left.sort_by_key(|segment| segment.id);
        // Those that can't be rewritten come last: who asked hears of them, when all the others are.
        let (damaged, sound) = left.into_iter().partition(is_damaged);
        let done = self.rewrite(sound).and_then(|()| self.rewrite(damaged));
        self.log.drop_kept();
        self.compaction.asked.store(false, Ordering::Relaxed);
        self.compaction.look_from_bytes.store(0, Ordering::Relaxed);
        done
    }

    /// Rewrites segments in this order, as many at a time as fit into one.
    fn rewrite(&self, mut left: Vec<Arc<Segment>>) -> Result<()> {
        while !left.is_empty() {
            let count = fitting(&left, self.options.segment_bytes);
            let inputs: Vec<_> = left.drain(..count).collect();
            self.compact(&inputs)?;
        }
        Ok(())
    }

    /// Has the segment that takes appends sealed; returns whether that happened in time.
    fn retire_active(&self) -> bool {
        let Some(segment) = self.log.retire_active() else { return false };
        let deadline = Instant::now() + SEAL_WAIT;
        while segment.sealed.get().is_none() {
            if Instant::now() > deadline || self.log.poisoned().is_some() || self.compaction.pause(SEAL_POLL) {
                return false;
            }
        }
        true
    }

    /// The sealed segments with the largest share of dead bytes whose live records fit into one segment. A damaged one
    /// would keep all others from being compacted: it is tried alone and now and then, so that it is told.
    fn choose(&self, mut segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        segments.retain(|segment| {
            segment.sealed.get().is_some() && segment.dead_bytes() * 100 >= segment.record_bytes() * MIN_GAIN_PERCENT
        });
        if let Some(damaged) = segments.iter().find(|segment| is_damaged(segment) && !is_left_alone(segment)) {
            return vec![Arc::clone(damaged)];
        }
        segments.retain(|segment| !is_damaged(segment));
        let share = |segment: &Segment| segment.dead_bytes() * 1000 / segment.record_bytes().max(1);
        segments.sort_by_key(|segment| std::cmp::Reverse(share(segment)));
        segments.truncate(fitting(&segments, self.options.segment_bytes));
        segments
    }

    /// Replaces segments by one that holds what is live of them; returns whether that was worth its writes.
    fn compact(&self, inputs: &[Arc<Segment>]) -> Result<bool> {
        let started = Instant::now();
        self.compaction.compacting.store(true, Ordering::Relaxed);
        let done = self.compact_once(inputs).or_else(|error| {
            let retry = matches!(error, Error::NoSpace) && self.log.release_reserve();
            if retry { self.compact_once(inputs) } else { Err(error) }
        });
        self.log.end_reserve_use();
        self.compaction.compacting.store(false, Ordering::Relaxed);
        let (read_bytes, written_bytes) = done.inspect_err(|_| {
            self.compaction.failures.fetch_add(1, Ordering::Relaxed);
        })?;
        let took = started.elapsed();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.compaction.runs.fetch_add(1, Ordering::Relaxed);
        self.compaction.took_us.fetch_add(took_us, Ordering::Relaxed);
        self.compaction.reclaimed_bytes.fetch_add(read_bytes.saturating_sub(written_bytes), Ordering::Relaxed);
        self.cadence.count(written_bytes);
        self.log.tell(|observer| observer.compacted(took, read_bytes, written_bytes));
        tracing::debug!(read_bytes, written_bytes, took_us, "compacted");
        Ok(read_bytes.saturating_sub(written_bytes) * 100 >= read_bytes * MIN_GAIN_PERCENT)
    }
}

fn is_damaged(segment: &Arc<Segment>) -> bool {
    segment.damaged_since().is_some()
}

/// Whether it was damaged when a compaction last tried it, not long ago.
fn is_left_alone(segment: &Segment) -> bool {
    segment.damaged_since().is_some_and(|time| time < LONGEST_RETRY)
}

/// What a compaction of it would give back, if one is tried.
fn dead_bytes_of(segment: &Segment) -> u64 {
    if is_left_alone(segment) { 0 } else { segment.dead_bytes() }
}

fn kept_bytes_of(segment: &Segment) -> u64 {
    segment.kept_bytes.load(Ordering::Relaxed)
}

fn live_bytes_of(segment: &Segment) -> u64 {
    segment.live_bytes.load(Ordering::Relaxed)
}

/// How many segments from the front have live records that fit into one segment; at least one. Which of their removals
/// have to stay is known only when they are read, and all that stays goes into one file: so there is a bound to what is
/// read as well.
fn fitting(segments: &[Arc<Segment>], segment_bytes: u64) -> usize {
    let most_bytes = segment_bytes.saturating_mul(MAX_INPUT_SEGMENTS).min(MAX_FILE_BYTES - MAX_HEADER_BYTES as u64);
    let (mut stay_bytes, mut read_bytes) = (0, 0);
    let count = segments.iter().take_while(|segment| {
        stay_bytes += live_bytes_of(segment) + kept_bytes_of(segment);
        read_bytes += segment.record_bytes();
        stay_bytes <= segment_bytes && read_bytes <= most_bytes
    });
    count.count().max(1).min(segments.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_goes_twice_as_fast_for_every_half_percent() {
        let options = Options { compaction_dead_percent: 20, ..Options::default() };
        for (dead_bytes, expected) in
            [(0, 0), (2_000, 0), (2_049, 0), (2_050, 1), (2_100, 2), (2_500, 10), (10_000, 10)]
        {
            assert_eq!(doublings(dead_bytes, 10_000, &options), expected, "{dead_bytes} of 10,000 bytes are dead");
        }
        assert_eq!(doublings(0, 0, &options), 0, "an empty log");
    }
}
