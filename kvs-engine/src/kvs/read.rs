//! Reading a record: from memory while it is queued, else from its file, its checksum verified every time.

use std::cell::RefCell;

use super::index::KeyHash;
use super::location::Location;
use super::record;
use super::store::{Core, Waiting};
use crate::error::{Error, Result};
use crate::log::frame::{self, Line};
use crate::log::segment::{self, Segment};
use crate::storage::{StorageFile, read_exact_at};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, thread_local};

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

/// What a look-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The value is answered.
    Value,
    /// The key is changed.
    Place,
}

/// What the index knew of a key at one moment.
pub(super) struct Found {
    /// Every candidate of the hash at that moment, to tell whether it changed since.
    pub(super) candidates: Vec<Location>,
    /// The record of the key, and its value if it was asked for.
    pub(super) record: Option<(Candidate, Option<Vec<u8>>)>,
    /// The last removal in the shard at that moment.
    pub(super) removed_at: u64,
}

impl Core {
    /// Looks a key up: candidates under the shard's lock, their records without it. Who is to change the key has no
    /// need of its value, and spares the copy.
    ///
    /// # Errors
    /// [`Error::Corruption`] when a candidate's record is damaged, and I/O errors.
    pub(super) fn find(&self, hash: KeyHash, key: &[u8], want: Want) -> Result<Found> {
        let (candidates, removed_at) = {
            let shard = self.index.lock(hash);
            let candidates: Vec<Candidate> = shard
                .candidates(hash)
                .map(|location| Candidate { location, segment: self.log.segment(location.slot()) })
                .collect();
            (candidates, shard.removed_at)
        };
        let locations = candidates.iter().map(|candidate| candidate.location).collect();
        for candidate in candidates {
            let word = self.with_line(&candidate.segment, candidate.location, |line| {
                match want {
                    Want::Value => record::last_word(line.payload, key),
                    Want::Place => record::is_about(line.payload, key).map(|is_about| is_about.then_some(None)),
                }
                .map_err(|error| self.damaged(&candidate, line.sequence, &error))
            })??;
            if let Some(value) = word {
                return Ok(Found { candidates: locations, record: Some((candidate, value)), removed_at });
            }
        }
        Ok(Found { candidates: locations, record: None, removed_at })
    }

    /// Answers a get when everything that the answer shows is durable.
    pub(super) fn get(&self, key: &[u8], waiting: impl FnOnce(Result<Option<Vec<u8>>>) -> Waiting) {
        let hash = self.index.hash(key);
        let found = match self.find(hash, key, Want::Value) {
            Ok(found) => found,
            Err(error) => return waiting(Err(error)).answer(),
        };
        let ready = match found.record {
            Some((candidate, value)) => {
                self.log.wait_for_record(&candidate.segment, candidate.location.offset(), waiting(Ok(value)))
            }
            // That there is nothing may be the work of a removal that is not durable yet.
            None => self.log.wait_for_sequence(found.removed_at, waiting(Ok(None))),
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
        let end = segment.written.load(Ordering::Acquire);
        let failed = |error| {
            let path = self.storage.path(&segment::name_of(segment.id));
            Error::io(format!("reading {} at byte {offset}", path.display()), error)
        };
        read_line_at(segment.file.as_ref(), location, end, buffer).map_err(failed)
    }

    /// An intact line that holds no record: somebody else wrote it.
    pub(super) fn damaged(&self, candidate: &Candidate, sequence: u64, error: &record::RecordError) -> Error {
        Error::Corruption {
            file: self.storage.path(&segment::name_of(candidate.segment.id)),
            offset: candidate.location.offset(),
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
