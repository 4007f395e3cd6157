//! One step of a compaction: what is live of some segments is copied into a new one, which takes their place.
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
//! | one of them is renamed and written again       | the new state; a file that is not listed: removed     |
//!
//! What must hold:
//! * a record is dropped only if the record that made it dead is durable: hence the sync before the manifest changes;
//! * a removal is dropped only if no other segment can hold an older value of its key: each of them either begins
//!   with a higher sequence, or was itself written by a compaction that knew of the removal;
//! * the index is moved entry by entry, and only if it still points at the old place: a write meanwhile wins.

use super::Pace;
use super::window::Window;
use crate::error::{Error, Result};
use crate::kvs::index::KeyHash;
use crate::kvs::location::Location;
use crate::kvs::prefetch;
use crate::kvs::record::{self, Part, Parts};
use crate::kvs::store::Core;
use crate::log::frame::{self, Line};
use crate::log::group;
use crate::log::manifest::Sealed;
use crate::log::segment::{self, Segment};
use crate::log::segments::is_full;
use crate::storage::write_all_at;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::zoo;

/// How many bytes of output are gathered before they are written.
const WRITE_BYTES: usize = 256 * 1024;
/// How many bytes of input are read between two looks at the rate.
const PACED_BYTES: u64 = 256 * 1024;

/// A live record's way from an input into the output.
#[derive(Clone, Copy)]
struct Move {
    hash: KeyHash,
    old: Location,
    /// Where its line begins in the output.
    offset: u64,
    /// What it counts for there, in bytes.
    bytes: u64,
    /// Whether that line is a batch.
    batch: bool,
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
    /// One try; returns the bytes that it read and wrote.
    pub(super) fn compact_once(&self, inputs: &[Arc<Segment>]) -> Result<(u64, u64)> {
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
            zoo::bug("removal-dropped-too-early")
                || others
                    .iter()
                    .all(|other| other.first > sequence || other.compacted_at.is_some_and(|at| at >= sequence))
        };

        let segment = self.log.create_output().map_err(|error| self.output_failed("creating", error))?;
        let name = segment::name_of(segment.id);
        let written = self.write_output(&inputs, segment, known, &droppable).and_then(|output| {
            // What made records dead must be durable before they are gone.
            if !zoo::bug("compaction-before-sync") {
                self.log.flush()?;
            }
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
        self.log.forget_inputs(&inputs);
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
        let mut pace = Pace::new();
        for input in inputs {
            let path = self.storage.path(&segment::name_of(input.id));
            let end = input.sealed.get().expect("only sealed segments are compacted").bytes;
            let mut window = Window::new(input.file.as_ref(), end);
            let mut offset = input.header_bytes;
            let mut paced = 0;
            let mut announced = 0;
            while offset < end {
                let corrupt = |sequence: u64, reason: &str| {
                    input.note_damage();
                    Error::Corruption { file: path.clone(), offset, sequence, reason: reason.to_owned() }
                };
                let bytes = window.from(offset).map_err(|error| {
                    input.note_damage();
                    Error::io(format!("reading {}", path.display()), error)
                })?;
                if offset >= announced {
                    announced = offset + self.prefetch_lines(bytes);
                }
                let line = frame::read_line(bytes).map_err(|defect| corrupt(0, defect.reason()))?;
                let raw = &bytes[..line.bytes()];
                self.copy_line(input, offset, line, raw, droppable, &mut output).map_err(|error| match error {
                    CopyError::Record(error) => corrupt(line.sequence, &error.to_string()),
                    CopyError::Write(error) => self.output_failed("writing", error),
                })?;
                offset += raw.len() as u64;
                if offset - paced > PACED_BYTES {
                    let pause = pace.count(offset - paced, self.background_bytes_per_second());
                    paced = offset;
                    if self.compaction.keep_pace(pause) {
                        return Err(Error::Closed);
                    }
                }
            }
        }
        output
            .write_buffer()
            .and_then(|()| output.cut())
            .and_then(|()| if zoo::bug("compacted-not-synced") { Ok(()) } else { output.segment.file.sync_data() })
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
        if group::announced(line.payload).is_some() {
            return Ok(());
        }
        let Parts { parts, batch, whole } = record::parts(line.payload)?;
        let count = parts.len();
        let (mut sets, mut removals) = (Vec::new(), Vec::new());
        for part in parts {
            if !part.sets {
                removals.extend((!droppable(line.sequence)).then_some(part));
            } else if let Some(entry) = self.live_entry(input, offset, &part.key) {
                sets.push((part, entry));
            }
        }
        // What is left of a batch and alone is a record like any other, which is shorter.
        let batch = batch && sets.len() + removals.len() > 1;
        let sharing = if sets.is_empty() { removals.len() } else { sets.len() };
        let bytes_of = |part: &Part<'_>| match batch {
            true => record::bytes_in_batch(part.json.len(), sharing),
            false => frame::line_bytes(part.json),
        };
        for (part, (hash, old)) in &sets {
            let (offset, bytes) = (output.sealed.bytes, bytes_of(part));
            output.moves.push(Move { hash: *hash, old: *old, offset, bytes, batch });
        }
        output.kept_bytes += removals.iter().map(bytes_of).sum::<u64>();
        let kept: Vec<Part<'_>> = sets.into_iter().map(|(part, _)| part).chain(removals).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let is_alone = kept.len() == 1 && kept[0].json.len() < line.payload.len();
        if whole && kept.len() == count && !is_alone {
            return Ok(output.take(line, raw)?);
        }
        let payload = match &kept[..] {
            [alone] => alone.json.to_vec(),
            several => record::join_batch(&several.iter().map(|part| part.json).collect::<Vec<_>>()),
        };
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
        for (count, Move { hash, old, offset, bytes, batch }) in moves.iter().copied().enumerate() {
            if count % prefetch::KEYS == 0 {
                self.prefetch_slots(moves[count..].iter().take(prefetch::KEYS).map(|next| next.hash));
            }
            let new = Location::new(segment.slot(), offset, batch, bytes);
            if zoo::bug("stale-index-after-swap") {
                continue;
            }
            let mut shard = self.index.lock(hash);
            let raced = shard.candidates(hash).next().filter(|_| zoo::bug("compaction-over-a-racing-write"));
            if shard.replace(hash, raced.unwrap_or(old), new) {
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

    /// Takes away what is behind the lines in a file that was a longer segment.
    fn cut(&self) -> std::io::Result<()> {
        let Self { segment, sealed, .. } = self;
        if segment.file.length()? > sealed.bytes { segment.file.set_length(sealed.bytes) } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> std::io::Result<()> {
        let offset = self.sealed.bytes - self.buffer.len() as u64;
        write_all_at(self.segment.file.as_ref(), &self.buffer, offset)?;
        self.segment.file.begin_writeback(offset, self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }
}
