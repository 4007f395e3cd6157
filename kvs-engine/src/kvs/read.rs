//! Reading a record: from memory while it is queued, else from its file, its checksum verified every time.

use std::cell::RefCell;

use super::index::{KeyHash, Shard};
use super::location::Location;
use super::record;
use super::store::{Core, Waiting};
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::log::frame::{self, Line};
use crate::log::segment::{self, Segment};
use crate::log::table::View;
use crate::operation::Outcome;
use crate::storage::{StorageFile, read_exact_at};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, thread_local};
use crate::zoo;

/// How much of a scratch buffer a thread keeps, in bytes: more than nearly every record.
const MAX_SCRATCH_BYTES: usize = 64 * 1024;

/// What is read of a batch's line, whose length the index does not know, in bytes: nearly always the whole.
const BATCH_READ_BYTES: usize = 1536;

thread_local! {
    /// What the last read of this thread left: saves an allocation for each read.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A record that may be the one of a key, with its segment: a compaction can take the file's name away, not this.
pub(super) struct Candidate {
    pub(super) location: Location,
    pub(super) segment: Arc<Segment>,
}

/// The places of the records that may be the one of a key, at one moment: nearly always none or one, which needs no
/// allocation.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    first: Option<Location>,
    more: Vec<Location>,
}

impl Candidates {
    fn of(shard: &Shard, hash: KeyHash) -> Self {
        let mut places = shard.candidates(hash);
        Self { first: places.next(), more: places.collect() }
    }

    fn iter(&self) -> impl Iterator<Item = Location> + '_ {
        self.first.into_iter().chain(self.more.iter().copied())
    }

    /// Whether the index still says so.
    pub(super) fn are_those_of(&self, shard: &Shard, hash: KeyHash) -> bool {
        shard.candidates(hash).eq(self.iter())
    }
}

/// What the index knew of a key at one moment.
pub(super) struct Found {
    /// Every candidate of the hash at that moment, to tell whether it changed since.
    pub(super) candidates: Candidates,
    /// The record of the key.
    pub(super) place: Option<Location>,
    /// The last removal in the shard at that moment.
    pub(super) removed_at: u64,
}

/// What a get found, and what must be durable before it is answered.
enum Look {
    /// Nothing: it may be answered now.
    Settled(Option<Vec<u8>>),
    /// A record.
    Record { value: Option<Vec<u8>>, segment: Arc<Segment>, offset: u64 },
    /// A removal with this sequence, which may be why there is nothing.
    Removal { sequence: u64 },
}

impl Core {
    /// The candidates of a key and the last removal in its shard, with a view in which their segments are.
    fn candidates(&self, hash: KeyHash) -> (Candidates, u64, View) {
        let shard = self.index.lock(hash);
        // Hashes and places are two arrays: asked for together, one wait for memory instead of two.
        shard.prefetch(hash);
        // Under the lock: a segment goes only after the index names it no more.
        (Candidates::of(&shard, hash), shard.removed_at, self.log.view())
    }

    /// Looks a key up that is to be changed: candidates under the shard's lock, their records without it.
    ///
    /// # Errors
    /// [`Error::Corruption`] when a candidate's record is damaged, and I/O errors.
    pub(super) fn find(&self, hash: KeyHash, key: &[u8]) -> Result<Found> {
        let (candidates, removed_at, view) = self.candidates(hash);
        let mut found = None;
        for place in candidates.iter() {
            let segment = view.segment(place.slot());
            let is_about = self.with_line(segment, place, |line| {
                record::is_about(line.payload, key).map_err(|error| self.damaged(segment, place, line.sequence, &error))
            })??;
            if is_about {
                found = Some(place);
                break;
            }
        }
        Ok(Found { candidates, place: found, removed_at })
    }

    /// As [`find`](Self::find), with the key's value.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(super) fn find_value(&self, hash: KeyHash, key: &[u8]) -> Result<(Found, Option<Vec<u8>>)> {
        let (candidates, removed_at, view) = self.candidates(hash);
        let mut found = (None, None);
        for place in candidates.iter() {
            let segment = view.segment(place.slot());
            let word = self.with_line(segment, place, |line| {
                record::last_word(line.payload, key)
                    .map_err(|error| self.damaged(segment, place, line.sequence, &error))
            })??;
            if let Some(value) = word {
                found = (Some(place), value);
                break;
            }
        }
        Ok((Found { candidates, place: found.0, removed_at }, found.1))
    }

    /// Looks a key's value up.
    fn look(&self, key: &[u8]) -> Result<Look> {
        let (candidates, removed_at, view) = self.candidates(self.index.hash(key));
        for place in candidates.iter() {
            let segment = view.segment(place.slot());
            let word = self.with_line(segment, place, |line| {
                record::last_word(line.payload, key)
                    .map_err(|error| self.damaged(segment, place, line.sequence, &error))
            })??;
            if let Some(value) = word {
                let offset = place.offset();
                return Ok(match segment.is_settled(offset) || zoo::bug("shown-before-durable") {
                    true => Look::Settled(value),
                    false => Look::Record { value, segment: Arc::clone(segment), offset },
                });
            }
        }
        match removed_at <= self.log.settled_sequence() || zoo::bug("absence-shown-before-durable") {
            true => Ok(Look::Settled(None)),
            false => Ok(Look::Removal { sequence: removed_at }),
        }
    }

    /// Answers a get when everything that the answer shows is durable.
    pub(super) fn get(&self, key: &[u8], completion: Completion) {
        match self.look(key) {
            Ok(look) => self.answer(look, completion),
            Err(error) => completion.complete(Err(error)),
        }
    }

    /// A get that blocks until everything that its answer shows is durable: nearly always it is.
    pub(super) fn get_and_wait(&self, key: &[u8]) -> Result<Outcome> {
        match self.look(key)? {
            Look::Settled(value) => Ok(Outcome::Value(value)),
            look => self.wait(|completion| self.answer(look, completion)),
        }
    }

    fn answer(&self, look: Look, completion: Completion) {
        let waiting = |value| Waiting { completion, result: Ok(Outcome::Value(value)) };
        let ready = match look {
            Look::Settled(value) => Some(waiting(value)),
            Look::Record { value, segment, offset } => self.log.wait_for_record(&segment, offset, waiting(value)),
            Look::Removal { sequence } => self.log.wait_for_sequence(sequence, waiting(None)),
        };
        if let Some(waiting) = ready {
            waiting.answer();
        }
    }

    /// Reads the line at a place and shows it.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the line is damaged, [`Error::Poisoned`] when it never reached the file, and I/O errors.
    pub(super) fn with_line<T>(
        &self,
        segment: &Segment,
        location: Location,
        show: impl FnOnce(Line<'_>) -> T,
    ) -> Result<T> {
        let offset = location.offset();
        let shown = |bytes: &[u8]| match frame::read_line(bytes) {
            Ok(line) => Ok(show(line)),
            Err(defect) => Err(Error::Corruption {
                file: self.storage.path(&segment::name_of(segment.id)),
                offset,
                sequence: 0,
                reason: defect.reason().to_owned(),
            }),
        };
        if let Some(bytes) = self.log.queued_line(segment, offset) {
            return shown(&bytes);
        }
        if offset >= segment.written.load(Ordering::Acquire)
            && let Some(error) = self.log.poisoned()
        {
            return Err(error);
        }
        SCRATCH.with(|scratch| {
            let scratch = &mut *scratch.borrow_mut();
            self.read_line_into(segment, location, scratch)?;
            let result = shown(scratch);
            if scratch.capacity() > MAX_SCRATCH_BYTES {
                *scratch = Vec::new();
            }
            result
        })
    }

    /// Fills `buffer` with the bytes of the line at a place, and perhaps some behind it.
    fn read_line_into(&self, segment: &Segment, location: Location, buffer: &mut Vec<u8>) -> Result<()> {
        let offset = location.offset();
        if let Some(bytes) = segment.mapped() {
            copy_line(bytes, location, buffer);
            return Ok(());
        }
        let end = segment.written.load(Ordering::Acquire);
        let failed = |error| {
            let path = self.storage.path(&segment::name_of(segment.id));
            Error::io(format!("reading {} at byte {offset}", path.display()), error)
        };
        read_line_at(segment.file.as_ref(), location, end, buffer).map_err(failed)
    }

    /// An intact line that holds no record: somebody else wrote it.
    pub(super) fn damaged(
        &self,
        segment: &Segment,
        place: Location,
        sequence: u64,
        error: &record::RecordError,
    ) -> Error {
        Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset: place.offset(),
            sequence,
            reason: error.to_string(),
        }
    }
}

/// Fills `buffer` with the bytes of the line at a place of a file that is written up to `end`, and perhaps some behind
/// it. Nothing is verified yet.
///
/// # Errors
/// What the file system says.
pub(super) fn read_line_at(
    file: &dyn StorageFile,
    location: Location,
    end: u64,
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let available = usize::try_from(end.saturating_sub(location.offset())).unwrap_or(usize::MAX);
    let known = location.line_bytes_at_most();
    buffer.resize(known.unwrap_or(BATCH_READ_BYTES).min(available), 0);
    read_exact_at(file, buffer, location.offset())?;
    // A length that is not verified yet is believed only as far as there are bytes.
    let announced = frame::announced_bytes(buffer).unwrap_or(0).min(available);
    if known.is_some() || announced <= buffer.len() {
        return Ok(());
    }
    buffer.resize(announced, 0);
    read_exact_at(file, buffer, location.offset())
}

/// Fills `buffer` with the bytes of the line at a place of a file, and perhaps some behind it. Nothing is verified yet.
fn copy_line(file: &[u8], location: Location, buffer: &mut Vec<u8>) {
    let offset = usize::try_from(location.offset()).expect("an offset into memory");
    let rest = file.get(offset..).unwrap_or_default();
    let known = location.line_bytes_at_most().or_else(|| frame::announced_bytes(rest));
    buffer.clear();
    buffer.extend_from_slice(&rest[..known.unwrap_or(0).min(rest.len())]);
}
