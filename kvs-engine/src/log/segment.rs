//! One file of the log: a header line, then records, then zeros up to its capacity until it is sealed.
//!
//! What must hold: bytes below `durable` never change; the file of a sealed segment is never written again, but by an
//! opening that goes on in the last one, because backups share it as a hard link, or as another segment when nobody
//! shares it (`recycle.rs`); a file is zero-filled and synced before its first record, so
//! that an append changes no metadata of the file system and what a crash left unwritten reads as zero.

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::frame;
use super::manifest::{FORMAT_VERSION, MAX_NUMBER, OLDEST_VERSION, Sealed};
use super::segments::is_full;
use crate::error::{Error, Result};
use crate::storage::{Mapped, Storage, StorageFile, read_exact_at, write_all_at};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the names of segments end with.
const NAME_SUFFIX: &str = ".log";
/// How much is zero-filled with one write, in bytes.
const FILL_BYTES: usize = 1024 * 1024;
/// From so many bytes a group is large: its transfer takes as long as marking its blocks.
const LARGE_GROUP_BYTES: u64 = 64 * 1024;
/// The longest file of a segment, in bytes: a record's place has 30 bits for its offset.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 30;
/// The longest header line, in bytes: what is read to check it.
pub(crate) const MAX_HEADER_BYTES: usize = 256;

/// One file of the log.
pub(crate) struct Segment {
    /// The number in its name; never used twice in one folder.
    pub(crate) id: u64,
    /// The file.
    pub(crate) file: Arc<dyn StorageFile>,
    /// Where the first record begins.
    pub(crate) header_bytes: u64,
    /// How far the file is zero-filled. Records never go beyond.
    pub(crate) capacity: u64,
    /// Bytes handed to the operating system. Only grows.
    pub(crate) written: AtomicU64,
    /// Bytes that may be shown: durable under the store's sync policy. Only grows.
    pub(crate) settled: AtomicU64,
    /// Bytes of records that the index points at; the owner of the index counts them.
    pub(crate) live_bytes: AtomicU64,
    /// Bytes of tombstones that a compaction kept, because an older segment may still hold their key.
    pub(crate) kept_bytes: AtomicU64,
    /// When a compaction last met damage in it, or could not read it: it stays as it is then, for a verification and a
    /// repair. Never held across I/O, and with no other lock.
    pub(crate) damaged_at: Mutex<Option<Instant>>,
    /// Its place in the table of segments.
    slot: AtomicU32,
    /// Set once nothing is appended any more.
    pub(crate) sealed: OnceLock<Sealed>,
    /// Its bytes in memory, for a sealed segment that was read; `None` inside where that can't be had.
    mapped: OnceLock<Option<Mapped>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Segment")
            .field("id", &self.id)
            .field("sealed", &self.sealed.get())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderPayload {
    segment: Header,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    log: String,
    id: u64,
}

/// The file's name of a segment.
pub(crate) fn name_of(id: u64) -> String {
    format!("{id:08}{NAME_SUFFIX}")
}

/// The segment whose file has this name; `None` when it is no segment's name.
pub(crate) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(NAME_SUFFIX)?;
    let id = digits.parse().ok()?;
    (name_of(id) == name && id <= MAX_NUMBER).then_some(id)
}

/// The header line of a segment.
pub(crate) fn header_line(log: &str, id: u64) -> Vec<u8> {
    header_line_of(FORMAT_VERSION, log, id)
}

fn header_line_of(version: u32, log: &str, id: u64) -> Vec<u8> {
    let header = HeaderPayload { segment: Header { version, log: log.to_owned(), id } };
    let payload = serde_json::to_vec(&header).expect("numbers and text have a JSON form");
    let mut line = Vec::new();
    frame::append_line(&mut line, 0, 0, &payload);
    line
}

/// The number and the log that a header's payload names; `None` when it is no header of this format.
pub(crate) fn read_header(payload: &[u8]) -> Option<(u64, String)> {
    let HeaderPayload { segment: Header { version, log, id } } = serde_json::from_slice(payload).ok()?;
    (OLDEST_VERSION..=FORMAT_VERSION).contains(&version).then_some((id, log))
}

/// The length of the header line at the beginning of a file; `None` when it is not the one of this segment.
pub(crate) fn header_bytes_of(bytes: &[u8], log: &str, id: u64) -> Option<usize> {
    let line = frame::read_line(bytes).ok()?;
    let header = &bytes[..line.bytes()];
    (OLDEST_VERSION..=FORMAT_VERSION).any(|version| header == header_line_of(version, log, id)).then_some(header.len())
}

impl Segment {
    /// Creates, fills and syncs the file of a new segment that takes `capacity` bytes, header included. The name is
    /// durable only after the caller's next sync of the folder, which writing the manifest begins with.
    ///
    /// # Errors
    /// What the file system says; what was created is removed again as far as possible.
    pub(crate) fn create(
        storage: &dyn Storage,
        log: &str,
        id: u64,
        capacity: u64,
        filling: Filling,
    ) -> io::Result<Self> {
        let name = name_of(id);
        let file = storage.create(&name)?;
        let header = header_line(log, id);
        let filled = filling.fill(file.as_ref(), &header, capacity).and_then(|()| file.sync_data());
        if let Err(error) = filled {
            let _ = storage.remove(&name);
            return Err(error);
        }
        let header_bytes = header.len() as u64;
        Ok(Self::new(id, file, header_bytes, capacity, header_bytes))
    }

    /// A new segment in a file that was another one: its header is written over what was there. Nothing is synced yet.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn over(file: Arc<dyn StorageFile>, log: &str, id: u64) -> io::Result<Self> {
        let header = header_line(log, id);
        write_all_at(file.as_ref(), &header, 0)?;
        let header_bytes = header.len() as u64;
        Ok(Self::new(id, file, header_bytes, 0, header_bytes))
    }

    /// The segment of an existing file, whose header is checked.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the file is missing or the header is not this segment's.
    pub(crate) fn open(storage: &dyn Storage, log: &str, id: u64) -> Result<Self> {
        let name = name_of(id);
        let path = storage.path(&name);
        let corrupt =
            |reason: &str| Error::Corruption { file: path.clone(), offset: 0, sequence: 0, reason: reason.to_owned() };
        let failed = |error| Error::io(format!("opening {}", path.display()), error);
        let file = match storage.open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("the manifest lists this file, and it is missing"));
            }
            Err(error) => return Err(failed(error)),
        };
        let length = file.length().map_err(failed)?;
        if length > MAX_FILE_BYTES {
            return Err(corrupt("the file is larger than any segment"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_HEADER_BYTES)];
        read_exact_at(file.as_ref(), &mut bytes, 0).map_err(failed)?;
        let line = frame::read_line(&bytes).map_err(|defect| corrupt(defect.reason()))?;
        let header = &bytes[..line.bytes()];
        if (OLDEST_VERSION..=FORMAT_VERSION).all(|version| header != header_line_of(version, log, id)) {
            let what = String::from_utf8_lossy(line.payload).into_owned();
            return Err(corrupt(&format!("this is the file of another segment or log: {what}")));
        }
        let header_bytes = header.len() as u64;
        Ok(Self::new(id, file, header_bytes, length, header_bytes))
    }

    /// The segment of a file that was sealed at `bytes`, zero-filled again up to `capacity` to take appends; where
    /// there is no space for that, one that is full.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn reopen(
        storage: &dyn Storage,
        id: u64,
        header_bytes: u64,
        bytes: u64,
        capacity: u64,
    ) -> io::Result<Self> {
        let file = storage.open(&name_of(id))?;
        let capacity = match zero(file.as_ref(), bytes, capacity) {
            Err(error) if is_full(&error) => bytes,
            filled => filled.map(|()| capacity)?,
        };
        file.sync_data()?;
        Ok(Self::new(id, file, header_bytes, capacity, bytes))
    }

    fn new(id: u64, file: Arc<dyn StorageFile>, header_bytes: u64, capacity: u64, written: u64) -> Self {
        Self {
            id,
            file,
            header_bytes,
            capacity,
            written: AtomicU64::new(written),
            settled: AtomicU64::new(written),
            live_bytes: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            damaged_at: Mutex::new(None),
            slot: AtomicU32::new(0),
            sealed: OnceLock::new(),
            mapped: OnceLock::new(),
        }
    }

    /// The bytes of a sealed segment, if they can be had in memory.
    pub(crate) fn mapped(&self) -> Option<&[u8]> {
        let sealed = self.sealed.get()?;
        let mapped = self.mapped.get_or_init(|| {
            let mapped = self.file.map()?;
            ((*mapped).as_ref().len() as u64 == sealed.bytes).then_some(mapped)
        });
        mapped.as_ref().map(|mapped| (**mapped).as_ref())
    }

    /// Its place in the table of segments.
    pub(crate) fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    /// Told by the table, before anybody else knows of the segment.
    pub(super) fn set_slot(&self, slot: usize) {
        self.slot.store(u32::try_from(slot).expect("far fewer segments than slots"), Ordering::Relaxed);
    }

    /// Whether a line that begins here may be shown.
    pub(crate) fn is_settled(&self, offset: u64) -> bool {
        offset < self.settled.load(Ordering::Acquire)
    }

    /// Bytes that records take, header not included.
    pub(crate) fn record_bytes(&self) -> u64 {
        let end = self.sealed.get().map_or_else(|| self.written.load(Ordering::Relaxed), |sealed| sealed.bytes);
        end.saturating_sub(self.header_bytes)
    }

    /// Bytes that a compaction of this segment would give back, as far as is known.
    pub(crate) fn dead_bytes(&self) -> u64 {
        let kept = self.live_bytes.load(Ordering::Relaxed) + self.kept_bytes.load(Ordering::Relaxed);
        self.record_bytes().saturating_sub(kept)
    }

    /// Notes that a compaction met damage in it, or could not read it.
    pub(crate) fn note_damage(&self) {
        *self.damaged_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago a compaction last met damage in it; `None` when none did.
    pub(crate) fn damaged_since(&self) -> Option<Duration> {
        self.damaged_at.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// The length of the file on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.sealed.get().map_or(self.capacity, |sealed| sealed.bytes)
    }

    /// Records that all bytes below `end` are written and may be shown.
    pub(crate) fn settle(&self, end: u64) {
        self.written.fetch_max(end, Ordering::Release);
        self.settled.fetch_max(end, Ordering::Release);
    }
}

/// How the space of a new segment is taken, before its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Zeros are written: a sync of a few records is then one write of the device, 1.4 to 2 times as many a second as in
    /// a file whose blocks the file system has to mark as written.
    Zeros,
    /// Space is reserved: for groups so large that the mark is little beside them, and half as much is written.
    Reserved,
}

impl Filling {
    /// What suits groups of so many bytes.
    pub(super) fn for_groups_of(bytes: u64) -> Self {
        if bytes < LARGE_GROUP_BYTES { Self::Zeros } else { Self::Reserved }
    }

    fn fill(self, file: &dyn StorageFile, header: &[u8], capacity: u64) -> io::Result<()> {
        match self {
            Self::Reserved if capacity > 0 => match file.reserve(capacity) {
                Ok(()) => write_all_at(file, header, 0),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => fill(file, header, capacity),
                Err(error) => Err(error),
            },
            _ => fill(file, header, capacity),
        }
    }
}

/// Writes zeros up to `capacity`, then the header over the first of them.
pub(super) fn fill(file: &dyn StorageFile, header: &[u8], capacity: u64) -> io::Result<()> {
    zero(file, 0, capacity)?;
    write_all_at(file, header, 0)
}

/// Writes zeros from `start` up to `end`.
fn zero(file: &dyn StorageFile, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeros.len());
        write_all_at(file, &zeros[..count], offset)?;
        file.begin_writeback(offset, count as u64);
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(name_of(7), "00000007.log");
        assert_eq!(id_of("00000007.log"), Some(7));
        assert_eq!(id_of("7.log"), None);
        assert_eq!(id_of("MANIFEST"), None);
        assert_eq!(id_of(&name_of(123_456_789_012)), Some(123_456_789_012));
        assert_eq!(id_of(&name_of(u64::MAX)), None, "no number could come behind it");
    }

    #[test]
    fn a_file_of_any_length_costs_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let storage = crate::storage::RealStorage::create(folder.path()).unwrap();
        Segment::create(&storage, "aaaa", 1, 4096, Filling::Zeros).unwrap();
        storage.open(&name_of(1)).unwrap().set_length(MAX_FILE_BYTES + 1).unwrap();
        let error = Segment::open(&storage, "aaaa", 1).unwrap_err().to_string();
        assert!(error.contains("larger than any segment"), "{error}");
    }

    #[test]
    fn the_file_of_another_log_is_refused() {
        let storage = MemoryStorage::new();
        Segment::create(&storage, "aaaa", 1, 4096, Filling::Zeros).unwrap();
        assert!(Segment::open(&storage, "aaaa", 1).is_ok());
        let error = Segment::open(&storage, "bbbb", 1).unwrap_err().to_string();
        assert!(error.contains("another segment or log"), "{error}");
        let error = Segment::open(&storage, "aaaa", 2).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn a_segment_that_cannot_be_filled_leaves_no_file() {
        let storage = MemoryStorage::new();
        storage.set_capacity(Some(1000));
        let error = Segment::create(&storage, "aaaa", 1, 4096, Filling::Zeros).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(storage.list().unwrap().is_empty());
    }
}
