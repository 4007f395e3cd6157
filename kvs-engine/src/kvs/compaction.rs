//! Rewriting segments that hold mostly dead bytes, beside reads and writes.
//!
//! One step takes sealed segments whose live records fit into one, copies those records, line by line and with their
//! sequences, into a new segment, and puts that in the place of the old ones. What a crash leaves:
//!
//! | crash after …                                  | leaves …                                              |
//! |------------------------------------------------|-------------------------------------------------------|
//! | the output is created, written, synced         | a file that the manifest does not list: removed       |
//! | all that was appended meanwhile is durable     | the same                                              |
//! | the manifest lists the output, not the inputs  | the new state; input files that are not listed: removed |
//! | the index points into the output               | the new state                                         |
//! | the inputs' files are removed                  | the new state                                         |
//!
//! What must hold:
//! * a record is dropped only if the record that made it dead is durable: hence the sync before the manifest changes;
//! * a removal is dropped only if no other segment can hold an older value of its key: each of them either begins
//!   with a higher sequence, or was itself written by a compaction that knew of the removal;
//! * the index is moved entry by entry, and only if it still points at the old place: a write meanwhile wins.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::index::KeyHash;
use super::location::Location;
use super::record::{self, Element};
use super::store::Core;
use crate::error::{Error, Result};
use crate::log::frame::{self, Line};
use crate::log::manifest::Sealed;
use crate::log::segment::{self, Segment};
use crate::log::segments::is_full;
use crate::operation::Mutation;
use crate::options::Options;
use crate::stats::Stats;
use crate::storage::{read_all, write_all_at};

/// How many bytes of output are gathered before they are written.
const WRITE_BYTES: usize = 256 * 1024;
/// How long a compaction that failed waits before the next one.
const RETRY: Duration = Duration::from_secs(1);
/// How long to wait for a segment to be sealed after it was asked for.
const SEAL_WAIT: Duration = Duration::from_secs(2);
/// How often to look whether it is.
const SEAL_POLL: Duration = Duration::from_millis(2);
/// A step must give back this share of what it reads, in percent, or it is not worth its writes.
const MIN_GAIN_PERCENT: u64 = 10;

/// What the compaction and its callers tell each other.
#[derive(Default)]
pub(super) struct State {
    /// Never held across I/O.
    wish: Mutex<Wish>,
    wished: Condvar,
    /// Held by whoever compacts: one at a time.
    running: Mutex<()>,
    compacting: AtomicBool,
    runs: AtomicU64,
    failures: AtomicU64,
    took_us: AtomicU64,
    reclaimed_bytes: AtomicU64,
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
    fn wish(&self) {
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
            ..stats
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Lets time pass, unless the store closes; returns whether it closes.
    fn pause(&self, time: Duration) -> bool {
        let wish = self.lock();
        let (wish, _) =
            self.wished.wait_timeout_while(wish, time, |wish| !wish.stopping).unwrap_or_else(PoisonError::into_inner);
        wish.stopping
    }

    /// Waits until somebody wishes for a look; returns whether the store closes.
    fn wait(&self) -> bool {
        let wish = self.lock();
        let mut wish =
            self.wished.wait_while(wish, |wish| !wish.look && !wish.stopping).unwrap_or_else(PoisonError::into_inner);
        wish.look = false;
        wish.stopping
    }
}

/// Whether so much is dead that compaction pays.
fn is_due(dead_bytes: u64, record_bytes: u64, options: &Options) -> bool {
    dead_bytes >= options.compaction_threshold_bytes.max(1)
        && dead_bytes * 100 >= record_bytes * u64::from(options.compaction_dead_percent)
}

/// How many more bytes must be dead at least until a compaction is due.
fn missing_bytes(dead_bytes: u64, record_bytes: u64, options: &Options) -> u64 {
    let share_bytes = record_bytes / 100 * u64::from(options.compaction_dead_percent);
    options.compaction_threshold_bytes.max(share_bytes).saturating_sub(dead_bytes)
}

/// Slows a compaction down to its rate.
struct Pace {
    started: Instant,
    bytes: u64,
    bytes_per_second: u64,
}

impl Pace {
    /// Counts bytes and returns how long to pause now.
    fn count(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        let due_us = self.bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1);
        Duration::from_micros(due_us).saturating_sub(self.started.elapsed())
    }
}

/// A live record's way from an input into the output.
struct Move {
    hash: KeyHash,
    old: Location,
    /// Where its line begins in the output.
    offset: u64,
    /// What it counts for there, in bytes.
    bytes: u64,
}

/// The new segment as far as it is written.
struct Output {
    segment: Segment,
    /// Lines that are not in the file yet.
    buffer: Vec<u8>,
    sealed: Sealed,
    moves: Vec<Move>,
    /// Bytes of removals that could not be dropped.
    kept_bytes: u64,
}

impl Core {
    /// The loop of the compaction's thread.
    pub(super) fn run_compactions(&self) {
        while !self.compaction.wait() {
            if self.log.poisoned().is_some() {
                return;
            }
            if let Err(error) = self.compact_while_due() {
                tracing::warn!(%error, "a compaction failed; the log is as it was, the next try follows");
                if self.compaction.pause(RETRY) {
                    return;
                }
                if matches!(error, Error::NoSpace) {
                    // Nothing is written now that could ask for it, and it is what gives space back.
                    self.compaction.wish();
                }
            }
        }
    }

    /// Compacts until too little is dead, or until nothing more can be gained.
    fn compact_while_due(&self) -> Result<()> {
        let _running = self.compaction.running.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let segments = self.log.segments();
            let sum = |bytes: fn(&Segment) -> u64| segments.iter().map(|segment| bytes(segment)).sum::<u64>();
            let (record_bytes, dead_bytes, kept_bytes) =
                (sum(Segment::record_bytes), sum(Segment::dead_bytes), sum(kept_bytes_of));
            self.record_bytes.store(record_bytes, Ordering::Relaxed);
            let is_due = |bytes| is_due(bytes, record_bytes, &self.options);
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
        segments.retain(|segment| segment.sealed.get().is_some());
        // First those without removals: what they were rewritten for is known when the others come.
        segments.sort_by_key(|segment| (kept_bytes_of(segment), segment.id));
        self.rewrite(segments)?;
        Ok(kept_bytes() * 100 <= before_bytes * (100 - MIN_GAIN_PERCENT))
    }

    /// Rewrites all segments that hold dead bytes or removals.
    pub(super) fn compact_all(&self) -> Result<()> {
        let _running = self.compaction.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.retire_active();
        let mut left: Vec<_> = self.log.segments();
        left.retain(|segment| segment.sealed.get().is_some() && segment.record_bytes() > live_bytes_of(segment));
        left.sort_by_key(|segment| segment.id);
        let done = self.rewrite(left);
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
            if Instant::now() > deadline || self.compaction.pause(SEAL_POLL) {
                return false;
            }
        }
        true
    }

    /// The sealed segments with the largest share of dead bytes whose live records fit into one segment.
    fn choose(&self, mut segments: Vec<Arc<Segment>>) -> Vec<Arc<Segment>> {
        segments.retain(|segment| {
            segment.sealed.get().is_some() && segment.dead_bytes() * 100 >= segment.record_bytes() * MIN_GAIN_PERCENT
        });
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
        self.options.observer.compacted(took, read_bytes, written_bytes);
        tracing::debug!(read_bytes, written_bytes, took_us, "compacted");
        Ok(read_bytes.saturating_sub(written_bytes) * 100 >= read_bytes * MIN_GAIN_PERCENT)
    }

    /// One try; returns the bytes that it read and wrote.
    fn compact_once(&self, inputs: &[Arc<Segment>]) -> Result<(u64, u64)> {
        // Whoever appended up to here has changed the index before its shard's lock is to be had again.
        let known = self.log.appended_sequence();
        let mut inputs = inputs.to_vec();
        inputs.sort_by_key(|segment| segment.sealed.get().map_or(0, |sealed| sealed.first));
        let others = self.log.segments();
        let others: Vec<Sealed> = others
            .iter()
            .filter(|other| inputs.iter().all(|input| input.id != other.id))
            .filter_map(|other| other.sealed.get().copied())
            .collect();
        let droppable = |sequence: u64| {
            others.iter().all(|other| other.first > sequence || other.compacted_at.is_some_and(|at| at >= sequence))
        };

        let segment = self.log.create_output().map_err(|error| self.output_failed("creating", error))?;
        let name = segment::name_of(segment.id);
        let written = self.write_output(&inputs, segment, known, &droppable).and_then(|output| {
            // What made records dead must be durable before they are gone.
            self.log.flush()?;
            let sealed = (output.sealed.records > 0).then_some((&output.segment, output.sealed));
            self.log.replace(&inputs, sealed)?;
            Ok(output)
        });
        let output = match written {
            Ok(output) => output,
            // The manifest that is in force after a crash may list the output: then it has to stay.
            Err(error @ Error::Poisoned { .. }) => return Err(error),
            Err(error) => {
                let _ = self.storage.remove(&name);
                return Err(error);
            }
        };
        let read_bytes = inputs.iter().map(|segment| segment.record_bytes()).sum();
        let written_bytes = output.sealed.bytes - output.segment.header_bytes;
        if output.sealed.records > 0 {
            self.move_index(output);
        } else if let Err(error) = self.storage.remove(&name) {
            tracing::warn!(%error, "an empty output of a compaction could not be removed");
        }
        self.log.forget(&inputs);
        self.record_bytes.fetch_sub(
            self.record_bytes.load(Ordering::Relaxed).min(u64::saturating_sub(read_bytes, written_bytes)),
            Ordering::Relaxed,
        );
        Ok((read_bytes, written_bytes))
    }

    fn output_failed(&self, step: &str, error: std::io::Error) -> Error {
        if is_full(&error) { Error::NoSpace } else { Error::io(format!("{step} the output of a compaction"), error) }
    }

    /// Copies what is live into the output and syncs it.
    fn write_output(
        &self,
        inputs: &[Arc<Segment>],
        segment: Segment,
        known: u64,
        droppable: &dyn Fn(u64) -> bool,
    ) -> Result<Output> {
        let header_bytes = segment.header_bytes;
        let mut output = Output {
            segment,
            buffer: Vec::with_capacity(WRITE_BYTES),
            sealed: Sealed { bytes: header_bytes, records: 0, first: 0, last: 0, compacted_at: Some(known) },
            moves: Vec::new(),
            kept_bytes: 0,
        };
        let bytes_per_second = self.options.compaction_bytes_per_second;
        let mut pace = Pace { started: Instant::now(), bytes: 0, bytes_per_second };
        for input in inputs {
            let path = self.storage.path(&segment::name_of(input.id));
            let end = input.sealed.get().expect("only sealed segments are compacted").bytes;
            let bytes = read_all(input.file.as_ref(), end)
                .map_err(|error| Error::io(format!("reading {}", path.display()), error))?;
            let mut offset = usize::try_from(input.header_bytes).expect("a header is short");
            let mut paced = 0;
            while offset < bytes.len() {
                let corrupt = |sequence: u64, reason: &str| Error::Corruption {
                    file: path.clone(),
                    offset: offset as u64,
                    sequence,
                    reason: reason.to_owned(),
                };
                let line = frame::read_line(&bytes[offset..]).map_err(|defect| corrupt(0, defect.reason()))?;
                self.copy_line(
                    input,
                    offset as u64,
                    line,
                    &bytes[offset..offset + line.bytes()],
                    droppable,
                    &mut output,
                )
                .map_err(|error| match error {
                    CopyError::Record(error) => corrupt(line.sequence, &error.to_string()),
                    CopyError::Write(error) => self.output_failed("writing", error),
                })?;
                offset += line.bytes();
                if offset - paced > WRITE_BYTES {
                    let pause = pace.count((offset - paced) as u64);
                    paced = offset;
                    if self.compaction.pause(pause) {
                        return Err(Error::Closed);
                    }
                }
            }
        }
        output
            .write_buffer()
            .and_then(|()| output.segment.file.sync_data())
            .map_err(|error| self.output_failed("syncing", error))?;
        Ok(output)
    }

    /// Copies one line, or what of it is live.
    fn copy_line(
        &self,
        input: &Segment,
        offset: u64,
        line: Line<'_>,
        raw: &[u8],
        droppable: &dyn Fn(u64) -> bool,
        output: &mut Output,
    ) -> std::result::Result<(), CopyError> {
        if let Some((key, _)) = record::plain_set(line.payload) {
            if let Some((hash, old)) = self.live_entry(input, offset, key) {
                output.moves.push(Move { hash, old, offset: output.sealed.bytes, bytes: raw.len() as u64 });
                output.take(line, raw)?;
            }
            return Ok(());
        }
        let (elements, batch) = record::decode(line.payload)?;
        let (mut sets, mut removals) = (Vec::new(), Vec::new());
        for element in record::last_of_each_key(&elements) {
            match &element.mutation {
                Mutation::Set { key, .. } => {
                    sets.extend(self.live_entry(input, offset, key).map(|entry| (element, entry)));
                }
                Mutation::Remove { .. } if droppable(line.sequence) => {}
                Mutation::Remove { .. } => removals.push(element),
            }
        }
        let sharing = if sets.is_empty() { removals.len() } else { sets.len() };
        let bytes_of = |element: &Element<'_>| match batch {
            true => record::bytes_in_batch(element.json.len(), sharing),
            false => raw.len() as u64,
        };
        for (element, (hash, old)) in &sets {
            let bytes = bytes_of(element);
            output.moves.push(Move { hash: *hash, old: *old, offset: output.sealed.bytes, bytes });
        }
        output.kept_bytes += removals.iter().map(|element| bytes_of(element)).sum::<u64>();
        let kept: Vec<&Element<'_>> = sets.into_iter().map(|(element, _)| element).chain(removals).collect();
        if kept.is_empty() {
            return Ok(());
        }
        if kept.len() == elements.len() {
            return Ok(output.take(line, raw)?);
        }
        let payload = record::join_batch(&kept.iter().map(|element| element.json).collect::<Vec<_>>());
        let mut rewritten = Vec::with_capacity(payload.len() + frame::OVERHEAD_BYTES);
        frame::append_line(&mut rewritten, line.sequence, line.durable_sequence(), &payload);
        Ok(output.take(line, &rewritten)?)
    }

    /// The index entry of a key, if it points at this line.
    fn live_entry(&self, input: &Segment, offset: u64, key: &[u8]) -> Option<(KeyHash, Location)> {
        let hash = self.index.hash(key);
        let shard = self.index.lock(hash);
        let here = |place: &Location| place.slot() == input.slot() && place.offset() == offset;
        let old = shard.candidates(hash).find(here)?;
        Some((hash, old))
    }

    /// Points the index into the output.
    fn move_index(&self, output: Output) {
        let Output { segment, sealed, moves, kept_bytes, .. } = output;
        segment.kept_bytes.store(kept_bytes, Ordering::Relaxed);
        let segment = self.log.adopt(segment, sealed);
        for Move { hash, old, offset, bytes } in moves {
            let new = Location::new(segment.slot(), offset, old.is_batch(), bytes);
            let mut shard = self.index.lock(hash);
            if shard.replace(hash, old, new) {
                segment.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
                self.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
                self.live_bytes.fetch_sub(old.charge_bytes(), Ordering::Relaxed);
            }
        }
    }
}

/// Why a line could not be copied.
enum CopyError {
    Record(record::RecordError),
    Write(std::io::Error),
}

impl From<record::RecordError> for CopyError {
    fn from(error: record::RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<std::io::Error> for CopyError {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

impl Output {
    /// Adds one line.
    fn take(&mut self, line: Line<'_>, raw: &[u8]) -> std::io::Result<()> {
        let sealed = &mut self.sealed;
        sealed.records += 1;
        sealed.first = if sealed.first == 0 { line.sequence } else { sealed.first.min(line.sequence) };
        sealed.last = sealed.last.max(line.sequence);
        sealed.bytes += raw.len() as u64;
        self.buffer.extend_from_slice(raw);
        if self.buffer.len() >= WRITE_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> std::io::Result<()> {
        let offset = self.sealed.bytes - self.buffer.len() as u64;
        write_all_at(self.segment.file.as_ref(), &self.buffer, offset)?;
        self.buffer.clear();
        Ok(())
    }
}

fn kept_bytes_of(segment: &Segment) -> u64 {
    segment.kept_bytes.load(Ordering::Relaxed)
}

fn live_bytes_of(segment: &Segment) -> u64 {
    segment.live_bytes.load(Ordering::Relaxed)
}

/// How many segments from the front have live records that fit into one segment; at least one.
fn fitting(segments: &[Arc<Segment>], segment_bytes: u64) -> usize {
    let mut sum = 0;
    let count = segments.iter().take_while(|segment| {
        sum += live_bytes_of(segment) + kept_bytes_of(segment);
        sum <= segment_bytes
    });
    count.count().max(1).min(segments.len())
}
