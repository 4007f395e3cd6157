//! Reading the lines of a segment in order, from memory where they are not written yet, each one verified.
//!
//! What must hold: a line is returned only when its checksum fits and its sequence is the one that comes next; what is
//! read at once is bounded, whatever a damaged length says.

use super::frame::{self, Defect, PREFIX_BYTES};
use super::places::Mark;
use super::segment::{self, Segment};
use super::{Log, Waiter};
use crate::error::{Error, Result};
use crate::storage::read_exact_at;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// How much is read first, in bytes: two marks' distance, so that one entry costs one small read as a rule.
const FIRST_READ_BYTES: usize = 8 * 1024;
/// How much is read at once from then on, in bytes.
const READ_BYTES: usize = 128 * 1024;

/// A way through the lines of one segment.
pub(super) struct Lines<'a, W> {
    log: &'a Log<W>,
    segment: Arc<Segment>,
    /// Bytes of the file from `base` on.
    buffer: Vec<u8>,
    base: u64,
    /// Where the next line begins in the buffer.
    position: usize,
    /// The sequence of the next line.
    next: u64,
    /// How much is read next.
    read_bytes: usize,
}

/// One verified line.
pub(super) struct Found<'a> {
    pub(super) mark: Mark,
    /// The whole line, newline included.
    pub(super) raw: &'a [u8],
}

impl Found<'_> {
    pub(super) fn payload(&self) -> &[u8] {
        &self.raw[PREFIX_BYTES..self.raw.len() - 1]
    }
}

impl<'a, W: Waiter> Lines<'a, W> {
    /// The lines from a mark on.
    pub(super) const fn new(log: &'a Log<W>, segment: Arc<Segment>, start: Mark) -> Self {
        Self {
            log,
            segment,
            buffer: Vec::new(),
            base: start.offset,
            position: 0,
            next: start.sequence,
            read_bytes: FIRST_READ_BYTES,
        }
    }

    /// Where the next line begins.
    pub(super) const fn position(&self) -> Mark {
        Mark { sequence: self.next, offset: self.base + self.position as u64 }
    }

    /// The next line, which the caller knows to be there.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::Poisoned`] when the line never reached the file, and I/O errors.
    pub(super) fn next(&mut self) -> Result<Found<'_>> {
        let bytes = loop {
            let defect = match frame::read_line(&self.buffer[self.position..]) {
                Ok(line) if line.sequence == self.next => break line.bytes(),
                Ok(line) => {
                    let reason = format!("sequence {} stands where {} should", line.sequence, self.next);
                    return Err(self.corruption(&reason));
                }
                Err(defect) => defect,
            };
            if defect != Defect::Incomplete || !self.fill()? {
                return Err(self.corruption(defect.reason()));
            }
        };
        let mark = self.position();
        let start = self.position;
        self.position += bytes;
        self.next += 1;
        Ok(Found { mark, raw: &self.buffer[start..start + bytes] })
    }

    /// Gets more of a line that is incomplete; `false` when what is there can't be the beginning of one, or nothing
    /// follows.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.drain(..self.position);
        self.base += self.position as u64;
        self.position = 0;
        let have = self.buffer.len();
        let needed = if have < PREFIX_BYTES { PREFIX_BYTES } else { frame::announced_bytes(&self.buffer).unwrap_or(0) };
        if have >= needed {
            return Ok(false);
        }
        let wanted = self.read_bytes.max(needed - have);
        self.read_bytes = READ_BYTES;
        let offset = self.base + have as u64;
        loop {
            let written = self.segment.written.load(Ordering::Acquire);
            if offset < written {
                // The length is not verified yet: it is believed only as far as there are bytes.
                let count = usize::try_from(written - offset).unwrap_or(usize::MAX).min(wanted);
                self.buffer.resize(have + count, 0);
                return read_exact_at(self.segment.file.as_ref(), &mut self.buffer[have..], offset)
                    .map(|()| true)
                    .map_err(|error| {
                        self.buffer.truncate(have);
                        Error::io(format!("reading {} at byte {offset}", self.path()), error)
                    });
            }
            if let Some(bytes) = self.log.queued_bytes(&self.segment, offset, wanted) {
                self.buffer.extend_from_slice(&bytes);
                return Ok(true);
            }
            // Nowhere: it was written meanwhile, or never will be.
            if offset >= self.segment.written.load(Ordering::Acquire) {
                return self.log.poisoned().map_or(Ok(false), Err);
            }
        }
    }

    fn path(&self) -> String {
        self.log.storage.path(&segment::name_of(self.segment.id)).display().to_string()
    }

    fn corruption(&self, reason: &str) -> Error {
        Error::Corruption {
            file: self.log.storage.path(&segment::name_of(self.segment.id)),
            offset: self.position().offset,
            sequence: self.next,
            reason: reason.to_owned(),
        }
    }
}

impl<W: Waiter> Log<W> {
    /// At most `most` bytes from a place on that are not written yet; `None` when they are in the file by now.
    fn queued_bytes(&self, segment: &Segment, offset: u64, most: usize) -> Option<Vec<u8>> {
        let tail = self.lock();
        let bytes = tail.bytes_from(segment.id, offset)?;
        Some(bytes[..bytes.len().min(most)].to_vec())
    }
}
