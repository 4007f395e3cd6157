//! The end of the log in memory: what is queued, what is being written, and who waits.
//!
//! What must hold: chunks are contiguous and in order; every waiter is in exactly one of the two lists; the waiters of
//! a group are those who were registered before it took off, or who asked for one of its records while it flew.

use std::time::Instant;

use super::frame;
use super::manifest::Sealed;
use super::segment::Segment;
use super::{Log, Placed};
use crate::error::{Error, Result};
use crate::sync::Arc;

/// The most memory of a group that is kept for the next one, in bytes: nearly every group is smaller.
const MAX_SPARE_BYTES: usize = 512 * 1024;

/// Lines of one segment that are written together.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) segment: Arc<Segment>,
    /// Where the first line goes in the file.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

impl Chunk {
    /// Where the last line ends in the file.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// A group that is being written and synced.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) chunks: Arc<Vec<Chunk>>,
    /// The segments that are synced.
    pub(super) dirty: Vec<Arc<Segment>>,
    /// The highest sequence in it.
    pub(super) target: u64,
}

/// A segment that takes no more appends and is not sealed yet.
#[derive(Debug, Clone)]
pub(super) struct Retired {
    pub(super) segment: Arc<Segment>,
    pub(super) sealed: Sealed,
}

/// Something that changes the list of segments, done by the one thread that does so while the log runs.
pub(super) type Job<W> = Box<dyn FnOnce(&Log<W>) + Send>;

/// The end of the log in memory.
pub(super) struct Tail<W> {
    pub(super) next_sequence: u64,
    /// The highest sequence that is on stable storage.
    pub(super) synced_sequence: u64,
    /// When the last sync took off.
    pub(super) synced_at: Instant,
    /// Takes appends.
    pub(super) active: Arc<Segment>,
    /// Where the next line goes in the active segment.
    pub(super) end: u64,
    /// Records in the active segment, and the first one's sequence.
    pub(super) records: u64,
    pub(super) first_sequence: u64,
    /// Not being written yet.
    pub(super) queue: Vec<Chunk>,
    pub(super) queued_bytes: usize,
    /// The memory of a group that has landed, empty: the next one needs about as much.
    spare_bytes: Vec<u8>,
    /// Wait for the next group.
    pub(super) waiters: Vec<W>,
    /// Whether a thread is writing a group now.
    pub(super) leading: bool,
    /// The log's own thread was told that something is queued. It looks before it sleeps, so telling it once is enough.
    pub(super) called: bool,
    /// The group that is being written, for those who read it meanwhile.
    flight: Option<Arc<Vec<Chunk>>>,
    pub(super) flight_target: u64,
    /// Wait for the group that is being written.
    pub(super) flight_waiters: Vec<W>,
    /// Segments with bytes that are written and not synced.
    dirty: Vec<Arc<Segment>>,
    /// The next active segment.
    pub(super) spare: Option<Arc<Segment>>,
    /// The line for which a segment is wanted, in bytes.
    pub(super) wanted_bytes: u64,
    /// To be sealed, in order.
    pub(super) retired: Vec<Retired>,
    /// No segment could be created for want of space.
    pub(super) no_space: bool,
    /// A removal waits for a segment although there is no space: the reserve is for it.
    pub(super) removal_waits: bool,
    /// The log's end is being moved: appends wait until that is done.
    pub(super) appends_held: bool,
    /// What the thread that prepares and seals segments is to do for others; each of them waits for it.
    pub(super) jobs: Vec<Job<W>>,
    pub(super) closed: bool,
    pub(super) stopping: bool,
    pub(super) poisoned: Option<Error>,
}

impl<W> Tail<W> {
    /// A tail that appends to `active` at `end`, after `records` records of which the first is `first_sequence`.
    pub(super) fn new(active: Arc<Segment>, end: u64, records: u64, first_sequence: u64, next_sequence: u64) -> Self {
        Self {
            next_sequence,
            synced_sequence: next_sequence - 1,
            synced_at: Instant::now(),
            active,
            end,
            records,
            first_sequence,
            queue: Vec::new(),
            queued_bytes: 0,
            spare_bytes: Vec::new(),
            waiters: Vec::new(),
            leading: false,
            called: false,
            flight: None,
            flight_target: 0,
            flight_waiters: Vec::new(),
            dirty: Vec::new(),
            spare: None,
            wanted_bytes: 0,
            retired: Vec::new(),
            no_space: false,
            removal_waits: false,
            appends_held: false,
            jobs: Vec::new(),
            closed: false,
            stopping: false,
            poisoned: None,
        }
    }

    /// Refuses when nothing can be appended any more.
    pub(super) fn check_open(&self) -> Result<()> {
        match &self.poisoned {
            Some(error) => Err(error.clone()),
            None if self.closed => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Queues one line for which there is room.
    pub(super) fn push(&mut self, payload: &[u8], bytes: u64) -> Placed {
        let sequence = self.next_sequence;
        let offset = self.end;
        if self.queue.last().is_none_or(|chunk| chunk.segment.id != self.active.id) {
            let bytes = std::mem::take(&mut self.spare_bytes);
            self.queue.push(Chunk { segment: Arc::clone(&self.active), offset, bytes });
        }
        let chunk = self.queue.last_mut().expect("one was pushed if there was none");
        frame::append_line(&mut chunk.bytes, sequence, self.synced_sequence, payload);
        debug_assert_eq!(chunk.end(), offset + bytes);
        if self.records == 0 {
            self.first_sequence = sequence;
        }
        self.records += 1;
        self.queued_bytes += payload.len() + frame::OVERHEAD_BYTES;
        self.end += bytes;
        self.next_sequence += 1;
        Placed { segment: Arc::clone(&self.active), offset, bytes, sequence }
    }

    /// Retires the active segment and appends to `next` from now on.
    pub(super) fn activate(&mut self, next: Arc<Segment>) {
        let sealed = self.seal_of_active();
        let segment = std::mem::replace(&mut self.active, next);
        self.retired.push(Retired { segment, sealed });
        self.end = self.active.header_bytes;
        self.records = 0;
        self.first_sequence = 0;
    }

    /// What the active segment holds.
    pub(super) fn seal_of_active(&self) -> Sealed {
        let empty = self.records == 0;
        Sealed {
            bytes: self.end,
            records: self.records,
            first: self.first_sequence,
            last: if empty { 0 } else { self.next_sequence - 1 },
            compacted_at: None,
        }
    }

    /// Takes all that is queued as one group.
    pub(super) fn take_off(&mut self, sync: bool) -> Flight {
        let chunks = Arc::new(std::mem::take(&mut self.queue));
        self.queued_bytes = 0;
        for chunk in chunks.iter() {
            if !self.dirty.iter().any(|segment| segment.id == chunk.segment.id) {
                self.dirty.push(Arc::clone(&chunk.segment));
            }
        }
        self.leading = true;
        self.called = false;
        self.flight = Some(Arc::clone(&chunks));
        self.flight_target = self.next_sequence - 1;
        self.flight_waiters = std::mem::take(&mut self.waiters);
        let dirty = if sync { std::mem::take(&mut self.dirty) } else { Vec::new() };
        if sync {
            self.synced_at = Instant::now();
        }
        Flight { chunks, dirty, target: self.flight_target }
    }

    /// Ends a group and returns who is to be told of its result.
    pub(super) fn land(&mut self, flight: &Flight, synced: bool, result: &Result<()>) -> Vec<W> {
        self.leading = false;
        self.flight = None;
        let mut waiters = std::mem::take(&mut self.flight_waiters);
        match result {
            Ok(()) if synced => self.synced_sequence = self.synced_sequence.max(flight.target),
            Ok(()) => {}
            Err(error) => {
                self.poisoned.get_or_insert_with(|| error.clone());
                waiters.append(&mut self.waiters);
            }
        }
        waiters
    }

    /// Keeps the memory of a group that has landed for the next one: growing a buffer anew for each group costs as much as
    /// filling it.
    pub(super) fn reuse(&mut self, flight: Flight) {
        // Nobody else reads it any more, unless the log was poisoned meanwhile.
        let Some(chunks) = Arc::into_inner(flight.chunks) else { return };
        let largest = chunks.into_iter().map(|chunk| chunk.bytes).max_by_key(Vec::capacity);
        if let Some(mut bytes) = largest.filter(|bytes| bytes.capacity() <= MAX_SPARE_BYTES) {
            bytes.clear();
            self.spare_bytes = bytes;
        }
    }

    /// Records that no group has taken yet.
    pub(super) fn queued_records(&self) -> u64 {
        if self.queue.is_empty() { 0 } else { self.next_sequence - 1 - self.flight_target }
    }

    /// Whether something was written and not synced.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.queue.is_empty()
    }

    /// Whether a place of a segment is part of the group that is being written.
    pub(super) fn is_in_flight(&self, segment: u64, offset: u64) -> bool {
        self.flight.as_ref().is_some_and(|chunks| find(chunks, segment, offset).is_some())
    }

    /// The line at a place that is queued or being written.
    pub(super) fn line_at(&self, segment: u64, offset: u64) -> Option<Vec<u8>> {
        let bytes = self.bytes_from(segment, offset)?;
        let count = frame::announced_bytes(bytes).expect("a queued line has a prefix");
        Some(bytes[..count].to_vec())
    }

    /// The lines from a place on that are queued or being written, as far as they lie together in memory.
    pub(super) fn bytes_from(&self, segment: u64, offset: u64) -> Option<&[u8]> {
        let flying = self.flight.as_ref().and_then(|chunks| find(chunks, segment, offset));
        flying.or_else(|| find(&self.queue, segment, offset))
    }
}

/// The bytes of `chunks` from a place on.
fn find(chunks: &[Chunk], segment: u64, offset: u64) -> Option<&[u8]> {
    let chunk =
        chunks.iter().find(|chunk| chunk.segment.id == segment && (chunk.offset..chunk.end()).contains(&offset))?;
    let start = usize::try_from(offset - chunk.offset).expect("an offset into memory");
    Some(&chunk.bytes[start..])
}
