//! Opening a log: what the manifest lists is read and checked, the end is judged, what a crash left over is removed.
//!
//! What must hold when [`Log::open`] returns: every record that was ever acknowledged was visited, or an error says
//! which one is damaged; every record that was visited is on stable storage; nothing that was cut can come back.

use std::hash::{BuildHasher, RandomState};

use super::coverage::{Coverage, Folder};
use super::frame::{self, Line};
use super::group;
use super::manifest::{FORMAT_VERSION, Holds, MANIFEST_NAME, Manifest, NEW_MANIFEST_NAME, Sealed};
use super::recovery::{self, Scan, Verdict};
use super::segment::{self, Segment};
use super::table::SegmentTable;
use super::{Log, Recovered, Waiter};
use crate::backup::BACKUP_NAME;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::repeated::Repeated;
use crate::storage::{Storage, read_exact_at, write_all_at};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Condvar, Mutex};
use crate::zoo;

/// Is shown every record but announcements of groups, in the order of the segments' numbers.
pub(crate) type Visit<'a> = dyn FnMut(&Arc<Segment>, u64, Line<'_>) -> Result<()> + 'a;

/// A segment that is not sealed, with its bytes and what they say.
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    bytes: Vec<u8>,
    pub(super) scan: Scan,
    /// Where the last byte ends that was not zero.
    used_end: usize,
}

/// Where a log is cut: the segment by its place in the list of open ones, and the offset in it.
#[derive(Debug, Clone, Copy)]
struct Cut {
    place: usize,
    offset: usize,
    /// The sequence that is to come there.
    expected: u64,
}

impl<W: Waiter> Log<W> {
    /// Opens the log of a folder. `visit` is shown every record that `coverage` does not know.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::WrongFolder`], what `visit` says, and I/O errors.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        folder: Folder,
        coverage: &Coverage,
        visit: &mut Visit<'_>,
    ) -> Result<(Self, Recovered)> {
        let Folder { mut manifest } = folder;
        let (table, next_segment) = (SegmentTable::default(), 0);
        let mut opening = Opening { storage: storage.as_ref(), coverage, table, next_segment };
        let mut open = opening.read_segments(&manifest, visit)?;
        let recovered = opening.settle_end(&manifest, &mut open, visit)?;
        // Only now: of a folder that is refused, nothing may go that a person could still need.
        opening.next_segment = remove_garbage(storage.as_ref(), &manifest)?.max(coverage.highest_segment + 1);
        let tail = opening.start_tail(&mut manifest, open, &options)?;
        let next_segment = AtomicU64::new(opening.next_segment);
        let view = arc_swap::ArcSwap::new(opening.table.view());
        let table = Mutex::new(opening.table);
        let log = Self {
            id: manifest.log.clone(),
            settled_sequence: AtomicU64::new(tail.next_sequence - 1),
            tail: Mutex::new(tail),
            work: Condvar::new(),
            round_ended: Condvar::new(),
            segment_work: Condvar::new(),
            segment_ready: Condvar::new(),
            manifest: Mutex::new(manifest),
            table,
            view,
            next_segment,
            appended_bytes: AtomicU64::new(0),
            group_bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            stall_us: AtomicU64::new(0),
            no_space: AtomicBool::new(false),
            kept: Mutex::new(None),
            reserve_in_use: AtomicBool::new(false),
            reserve_told: Repeated::default(),
            storage,
            options,
        };
        Ok((log, recovered))
    }
}

impl Folder {
    /// What the folder of a store holds; a new log, without segments, for an empty one.
    ///
    /// # Errors
    /// [`Error::Corruption`], [`Error::WrongFolder`], and I/O errors.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self> {
        Self::read_as(storage, Holds::Records)
    }

    /// As [`read`](Self::read), for the folder of a log that holds something else than records.
    pub(crate) fn read_as(storage: &dyn Storage, holds: Holds) -> Result<Self> {
        read_or_create(storage, holds).map(|manifest| Self { manifest })
    }
}

fn read_or_create(storage: &dyn Storage, holds: Holds) -> Result<Manifest> {
    if let Some(manifest) = Manifest::read(storage)? {
        manifest.check_holds(holds, storage)?;
        return Ok(manifest);
    }
    let names = storage.list().map_err(|error| Error::io("listing the folder", error))?;
    if let Some(name) = names.iter().find(|name| segment::id_of(name).is_some() || *name == BACKUP_NAME) {
        return Err(Error::Corruption {
            file: storage.path(MANIFEST_NAME),
            offset: 0,
            sequence: 0,
            reason: format!("the manifest is missing, and the file {name} is there"),
        });
    }
    if ["conf", "db"].iter().all(|name| names.iter().any(|found| found == name)) {
        return Err(Error::WrongFolder {
            folder: storage.path(""),
            reason: "holds data of the sled engine; open it with --engine sled, or choose another --data-dir"
                .to_owned(),
        });
    }
    // The hasher's keys come from the operating system's random source.
    let id = format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2));
    let manifest = Manifest {
        version: FORMAT_VERSION,
        log: id,
        holds,
        generation: 1,
        durable: 0,
        sealed_through: 0,
        segments: Vec::new(),
    };
    manifest.write(storage)?;
    Ok(manifest)
}

/// Removes files that the manifest does not list; returns a number above those of all segments that are there.
fn remove_garbage(storage: &dyn Storage, manifest: &Manifest) -> Result<u64> {
    let failed = |error| Error::io("removing what a crash left over", error);
    let mut highest = manifest.segments.iter().map(|entry| entry.id).max().unwrap_or(0);
    for name in storage.list().map_err(failed)? {
        let garbage = match segment::id_of(&name) {
            Some(id) => {
                highest = highest.max(id);
                !manifest.lists(id)
            }
            // A backup that is opened as a store is one from here on.
            None => name == NEW_MANIFEST_NAME || name == BACKUP_NAME,
        };
        if garbage {
            storage.remove(&name).map_err(failed)?;
        }
    }
    Ok(highest + 1)
}

/// A log that is being opened.
pub(super) struct Opening<'a> {
    pub(super) storage: &'a dyn Storage,
    coverage: &'a Coverage,
    pub(super) table: SegmentTable,
    pub(super) next_segment: u64,
}

impl Opening<'_> {
    /// Opens all segments and gives each its slot.
    fn open_segments(&mut self, manifest: &Manifest) -> Result<Vec<Arc<Segment>>> {
        let open = |id| Segment::open(self.storage, &manifest.log, id).map(Arc::new);
        let segments: Vec<Arc<Segment>> =
            manifest.segments.iter().map(|entry| open(entry.id)).collect::<Result<_>>()?;
        // Those first that the checkpoint calls by a slot. The others may have a lower number: a segment can be listed
        // long after its number was taken.
        for segment in &segments {
            if let Some(known) = self.coverage.segments.get(&segment.id) {
                self.table.insert_at(known.slot, Arc::clone(segment));
            }
        }
        for segment in segments.iter().filter(|segment| !self.coverage.segments.contains_key(&segment.id)) {
            self.table.insert(Arc::clone(segment));
        }
        Ok(segments)
    }

    /// Reads all segments and visits the records of the sealed ones; returns the others.
    fn read_segments(&mut self, manifest: &Manifest, visit: &mut Visit<'_>) -> Result<Vec<Open>> {
        let mut open = Vec::new();
        // Memory of a file that was read, for the next one: new memory costs as much as the reading.
        let mut buffer = Vec::new();
        let mut expected = manifest.sealed_through + 1;
        for (entry, segment) in manifest.segments.iter().zip(self.open_segments(manifest)?) {
            if let Some(sealed) = entry.sealed
                && self.coverage.is_complete(entry.id, sealed)
            {
                self.check_length(&segment, sealed, segment.capacity)?;
                settle_sealed(&segment, sealed);
                continue;
            }
            let mut bytes = std::mem::take(&mut buffer);
            bytes.resize(usize_of(segment.capacity), 0);
            read_exact_at(segment.file.as_ref(), &mut bytes, 0)
                .map_err(|error| Error::io(format!("reading {}", self.path(&segment).display()), error))?;
            match entry.sealed {
                Some(sealed) => {
                    self.visit_sealed(&segment, sealed, &bytes, visit)?;
                    buffer = bytes;
                }
                None => {
                    let start = usize::try_from(segment.header_bytes).expect("a header is short");
                    let scan = recovery::scan(&bytes, start, Some(expected));
                    expected = scan.expected;
                    let used_end = bytes.iter().rposition(|byte| *byte != 0).map_or(start, |last| last + 1);
                    open.push(Open { segment, bytes, scan, used_end });
                }
            }
        }
        Ok(open)
    }

    fn path(&self, segment: &Segment) -> std::path::PathBuf {
        self.storage.path(&segment::name_of(segment.id))
    }

    fn corruption(&self, segment: &Segment, offset: usize, sequence: u64, reason: impl Into<String>) -> Error {
        Error::Corruption { file: self.path(segment), offset: offset as u64, sequence, reason: reason.into() }
    }

    /// Visits the records of a sealed segment, in which nothing may be damaged or missing.
    fn visit_sealed(&self, segment: &Arc<Segment>, sealed: Sealed, bytes: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.check_length(segment, sealed, bytes.len() as u64)?;
        let contiguous = sealed.compacted_at.is_none();
        let mut offset = usize_of(segment.header_bytes);
        let mut expected = sealed.first;
        let mut found =
            Sealed { bytes: sealed.bytes, records: 0, first: 0, last: 0, compacted_at: sealed.compacted_at };
        while offset < bytes.len() {
            let line = frame::read_line(&bytes[offset..])
                .map_err(|defect| self.corruption(segment, offset, expected, defect.reason()))?;
            if contiguous && line.sequence != expected {
                let reason = format!("sequence {} stands where {expected} should", line.sequence);
                return Err(self.corruption(segment, offset, expected, reason));
            }
            self.show(segment, offset, line, visit)?;
            found.records += 1;
            found.first = if found.first == 0 { line.sequence } else { found.first.min(line.sequence) };
            found.last = found.last.max(line.sequence);
            expected = line.sequence.saturating_add(1);
            offset += line.bytes();
        }
        if found != sealed {
            return Err(self.corruption(segment, offset, sealed.last, "records are missing"));
        }
        settle_sealed(segment, sealed);
        Ok(())
    }

    /// Shows a record, unless it is known or only announces others.
    fn show(&self, segment: &Arc<Segment>, offset: usize, line: Line<'_>, visit: &mut Visit<'_>) -> Result<()> {
        if self.coverage.knows(segment.id, line.sequence) || group::announced(line.payload).is_some() {
            return Ok(());
        }
        visit(segment, offset as u64, line)
    }

    fn check_length(&self, segment: &Segment, sealed: Sealed, bytes: u64) -> Result<()> {
        if bytes == sealed.bytes {
            return Ok(());
        }
        let reason = format!("the file has {bytes} bytes, the manifest says {}", sealed.bytes);
        Err(self.corruption(segment, usize_of(bytes.min(sealed.bytes)), sealed.last, reason))
    }

    /// Judges how the log ends, cuts a torn tail, makes the rest durable once more and visits it.
    fn settle_end(&self, manifest: &Manifest, open: &mut [Open], visit: &mut Visit<'_>) -> Result<Recovered> {
        let durable = manifest.durable.max(self.coverage.sequence);
        let durable = open.iter().map(|open| open.scan.durable).fold(durable, u64::max);
        let cut = self.judge(open, durable)?;
        if cut.is_none() && open.last().map_or(manifest.sealed_through, |last| last.scan.expected - 1) < durable {
            let (segment, sequence) = match open.last() {
                Some(last) => (Arc::clone(&last.segment), last.scan.expected),
                None => return Err(self.missing_tail(manifest.sealed_through + 1)),
            };
            return Err(self.corruption(&segment, 0, sequence, "records that were durable are missing at the end"));
        }
        let mut recovered = Recovered::default();
        for (place, open) in open.iter_mut().enumerate() {
            if let Some(cut) = cut
                && place >= cut.place
            {
                let from = if place == cut.place { cut.offset } else { usize_of(open.segment.header_bytes) };
                recovered.torn_bytes += cut_off(open, from, cut.expected);
            }
            self.write_again(open, durable)?;
            open.segment.settle(open.scan.end_offset as u64);
            for found in &open.scan.records {
                let line = frame::read_line(&open.bytes[found.offset..]).expect("it was read before");
                self.show(&open.segment, found.offset, line, visit)?;
            }
        }
        if recovered.torn_bytes > 0 {
            tracing::warn!(
                bytes = recovered.torn_bytes,
                "a torn tail was cut: it was written when the last process died, and never acknowledged"
            );
        }
        Ok(recovered)
    }

    fn missing_tail(&self, sequence: u64) -> Error {
        Error::Corruption {
            file: self.storage.path(MANIFEST_NAME),
            offset: 0,
            sequence,
            reason: "records that were durable are in no segment".to_owned(),
        }
    }

    /// Where the log has to be cut, by the rule of [`recovery`]; `None` when it ends cleanly.
    fn judge(&self, open: &[Open], durable: u64) -> Result<Option<Cut>> {
        for (place, Open { segment, bytes, scan, used_end: _ }) in open.iter().enumerate() {
            match scan.verdict(bytes, usize_of(segment.header_bytes), durable) {
                Verdict::Clean => {}
                Verdict::Torn { offset, expected } => return Ok(Some(Cut { place, offset, expected })),
                Verdict::Corrupt(reason) => {
                    return Err(self.corruption(segment, scan.end_offset, scan.expected, reason));
                }
            }
        }
        Ok(None)
    }

    /// Writes what is not known to be durable once more and syncs it: after a failed sync the operating system may
    /// show bytes that never reached the disk, and calls them clean.
    fn write_again(&self, open: &Open, durable: u64) -> Result<()> {
        let first = open.scan.records.iter().find(|found| found.sequence > durable).map(|found| found.offset);
        let from = first.unwrap_or(open.scan.end_offset);
        let file = open.segment.file.as_ref();
        if zoo::bug("cache-trusted-after-a-kill") {
            return Ok(());
        }
        write_all_at(file, &open.bytes[from..open.used_end.max(from)], from as u64)
            .and_then(|()| file.sync_data())
            .map_err(|error| Error::io(format!("making {} durable", self.path(&open.segment).display()), error))
    }
}

/// Drops the records from an offset on; returns how many bytes are cut.
fn cut_off(open: &mut Open, from: usize, expected: u64) -> u64 {
    let end = open.used_end.max(from);
    open.bytes[from..end].fill(0);
    open.scan.records.retain(|found| found.offset < from);
    open.scan.end_offset = from;
    open.scan.expected = expected;
    (end - from) as u64
}

/// Makes a segment known as one to which nothing is appended any more.
fn settle_sealed(segment: &Segment, sealed: Sealed) {
    segment.settle(sealed.bytes);
    let _ = segment.sealed.set(sealed);
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a segment fits into memory")
}
