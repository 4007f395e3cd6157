//! `MANIFEST`: which segments make up the log, and what is known about each.
//!
//! One line in the log's frame, whose sequence is the manifest's own generation. It is replaced as a whole: written to
//! `MANIFEST.new`, synced, renamed, folder synced. A crash at any point leaves the old or the new one.
//!
//! What must hold: a segment that is not listed is garbage; a segment that is listed must exist; the files of segments
//! that left the list are removed only after the list without them is durable.

use std::io;

use serde::{Deserialize, Serialize};

use super::frame;
use super::segment::MAX_FILE_BYTES;
use super::segments::{is_full, release_reserves};
use crate::error::{Error, Result};
use crate::storage::{Storage, read_all, write_all_at};
use crate::zoo;

/// The manifest's name in the folder.
pub(crate) const MANIFEST_NAME: &str = "MANIFEST";
pub(crate) const NEW_MANIFEST_NAME: &str = "MANIFEST.new";
/// The format of folder, manifest and segments that this version writes. Version 2 added groups of lines and the
/// checkpoint.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// The oldest format that this version reads; the next manifest that it writes makes it the newest.
pub(crate) const OLDEST_VERSION: u32 = 1;
/// The largest manifest that is read, in bytes: 100,000 segments of 150 bytes each, with room.
const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// The largest sequence, generation or segment's number that is read: no log gets there, so counting on is safe. At a
/// million records a second it would take 146,000 years.
pub(crate) const MAX_NUMBER: u64 = 1 << 62;
/// The digits of a log's name. Every segment begins with it, so one without a bound would leave no room for records.
const LOG_DIGITS: usize = 32;

/// The list of segments and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The format's version.
    pub(crate) version: u32,
    /// Which log this is: 32 hexadecimal digits that every segment repeats.
    pub(crate) log: String,
    /// What its payloads are; absent for records of a store.
    #[serde(default, skip_serializing_if = "Holds::is_records")]
    pub(crate) holds: Holds,
    /// Raised by one with each manifest.
    pub(crate) generation: u64,
    /// Every sequence up to this one was durable when the manifest was written.
    pub(crate) durable: u64,
    /// The highest sequence of the segments that were sealed in the order of appending: the first record of the first
    /// segment that is not sealed has the next one.
    pub(crate) sealed_through: u64,
    /// Every segment, by ascending number; those that take appends come last.
    pub(crate) segments: Vec<SegmentEntry>,
}

/// What the payloads of a log are, so that nobody appends to somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Holds {
    /// Mutations of a store.
    #[default]
    Records,
    /// Whatever the owner of a log on its own appends.
    Entries,
}

impl Holds {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_records(&self) -> bool {
        *self == Self::Records
    }
}

/// One segment in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentEntry {
    /// The number in the file's name.
    pub(crate) id: u64,
    /// What it is known to hold, once nothing is appended to it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed: Option<Sealed>,
}

/// What a segment holds to which nothing is appended any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    /// Bytes of its lines, the header line included. The file ends there.
    pub(crate) bytes: u64,
    /// Its lines, the header line not included.
    pub(crate) records: u64,
    /// Its lowest sequence; 0 when it has none.
    pub(crate) first: u64,
    /// Its highest sequence; 0 when it has none.
    pub(crate) last: u64,
    /// Written by a compaction that knew of every mutation up to this sequence: no value that one of them made
    /// obsolete is in here. Absent in a segment as it was appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compacted_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    manifest: Manifest,
}

impl Manifest {
    /// The manifest of the folder; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Corruption`] when it is damaged, [`Error::WrongFolder`] when another version wrote it.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>> {
        let path = storage.path(MANIFEST_NAME);
        let context = || format!("reading {}", path.display());
        let file = match storage.open_to_read(MANIFEST_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(context(), error)),
        };
        let corrupt =
            |reason: &str| Error::Corruption { file: path.clone(), offset: 0, sequence: 0, reason: reason.to_owned() };
        let length = file.length().map_err(|error| Error::io(context(), error))?;
        if length > MAX_MANIFEST_BYTES {
            return Err(corrupt("the file is larger than any manifest"));
        }
        let bytes = read_all(file.as_ref(), length).map_err(|error| Error::io(context(), error))?;
        let line = frame::read_line(&bytes).map_err(|defect| corrupt(defect.reason()))?;
        if line.bytes() != bytes.len() {
            return Err(corrupt("there are bytes behind the line"));
        }
        #[derive(Deserialize)]
        struct Versioned {
            manifest: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version = serde_json::from_slice::<Versioned>(line.payload).map_err(|error| corrupt(&error.to_string()))?;
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version.manifest.version) {
            return Err(Error::WrongFolder {
                folder: path.clone(),
                reason: format!(
                    "has format {}, this program reads formats {OLDEST_VERSION} to {FORMAT_VERSION}; use the program that wrote it",
                    version.manifest.version
                ),
            });
        }
        let payload: Payload = serde_json::from_slice(line.payload).map_err(|error| corrupt(&error.to_string()))?;
        if line.sequence != payload.manifest.generation {
            return Err(corrupt("generation and sequence differ"));
        }
        if let Some(reason) = payload.manifest.defect() {
            return Err(corrupt(reason));
        }
        Ok(Some(Self { version: FORMAT_VERSION, ..payload.manifest }))
    }

    /// The manifest as the bytes of its file.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let payload =
            serde_json::to_vec(&Payload { manifest: self.clone() }).expect("numbers and text have a JSON form");
        let mut bytes = Vec::with_capacity(payload.len() + frame::OVERHEAD_BYTES);
        frame::append_line(&mut bytes, self.generation, self.generation, &payload);
        bytes
    }

    /// Refuses a log that is somebody else's.
    ///
    /// # Errors
    /// [`Error::WrongFolder`].
    pub(crate) fn check_holds(&self, holds: Holds, storage: &dyn Storage) -> Result<()> {
        let reason = match (self.holds, holds) {
            (Holds::Entries, Holds::Records) => "holds a log on its own, no store; choose another --data-dir",
            (Holds::Records, Holds::Entries) => "holds a store; choose another folder for the log",
            (Holds::Records, Holds::Records) | (Holds::Entries, Holds::Entries) => return Ok(()),
        };
        Err(Error::WrongFolder { folder: storage.path(""), reason: reason.to_owned() })
    }

    /// What in it no program writes, whatever the segments hold. Whoever counts on from its numbers relies on this.
    fn defect(&self) -> Option<&'static str> {
        let Self { version: _, log, holds: _, generation, durable, sealed_through, segments } = self;
        let is_sound = |sealed: Sealed| {
            let Sealed { bytes, records, first, last, compacted_at } = sealed;
            let is_counted = (1..=last).contains(&first) && records > 0 && records <= last - first + 1;
            is_counted && last.max(compacted_at.unwrap_or(0)) <= MAX_NUMBER && bytes <= MAX_FILE_BYTES
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if log.len() != LOG_DIGITS || !log.bytes().all(is_digit) {
            return Some("the log's name is not 32 hexadecimal digits");
        }
        if [*generation, *durable, *sealed_through].into_iter().any(|number| number > MAX_NUMBER) {
            return Some("a number is larger than any that is written");
        }
        if !segments.is_sorted_by(|one, other| one.id < other.id) {
            return Some("the segments are not in the order of their numbers");
        }
        if segments.last().is_some_and(|last| last.id > MAX_NUMBER) {
            return Some("a segment's number is larger than any that is written");
        }
        let sealed = segments.iter().filter_map(|entry| entry.sealed);
        (!sealed.into_iter().all(is_sound)).then_some("what it says of a sealed segment can't be")
    }

    /// Whether a segment is listed.
    pub(crate) fn lists(&self, id: u64) -> bool {
        self.segments.binary_search_by_key(&id, |entry| entry.id).is_ok()
    }

    /// Writes this manifest beside the one in force, durably. Nothing has changed yet.
    ///
    /// # Errors
    /// What the file system says; the old manifest is in force.
    pub(crate) fn stage(&self, storage: &dyn Storage) -> io::Result<()> {
        let bytes = self.to_line();
        match storage.remove(NEW_MANIFEST_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = storage.create(NEW_MANIFEST_NAME)?;
        write_all_at(file.as_ref(), &bytes, 0)?;
        if zoo::bug("manifest-not-synced") { Ok(()) } else { file.sync_data() }
    }

    /// Puts the staged manifest in force, durably. The folder is synced before as well: a file system may keep the new
    /// manifest's name and lose the older one of a segment that it lists.
    ///
    /// # Errors
    /// What the file system says; either manifest may be in force, so nothing may be built on one of them.
    pub(crate) fn commit(storage: &dyn Storage) -> io::Result<()> {
        if !zoo::bug("older-names-not-synced") && !zoo::bug("folder-not-synced") {
            storage.sync_folder()?;
        }
        storage.rename(NEW_MANIFEST_NAME, MANIFEST_NAME)?;
        if zoo::bug("folder-not-synced") { Ok(()) } else { storage.sync_folder() }
    }

    /// Replaces the folder's manifest by this one, durably; with the space of the reserves, if there is no other.
    ///
    /// # Errors
    /// What the file system says; the folder has the old manifest or this one.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<()> {
        self.stage(storage)
            .or_else(|error| {
                let retry = is_full(&error) && release_reserves(storage);
                if retry { self.stage(storage) } else { Err(error) }
            })
            .and_then(|()| Self::commit(storage))
            .map_err(|error| Error::io(format!("writing {}", storage.path(MANIFEST_NAME).display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn example() -> Manifest {
        Manifest {
            version: FORMAT_VERSION,
            log: "00112233445566778899aabbccddeeff".into(),
            holds: Holds::Records,
            generation: 4,
            durable: 17,
            sealed_through: 9,
            segments: vec![
                SegmentEntry {
                    id: 1,
                    sealed: Some(Sealed { bytes: 500, records: 5, first: 1, last: 9, compacted_at: Some(12) }),
                },
                SegmentEntry { id: 2, sealed: None },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let storage = MemoryStorage::new();
        assert_eq!(Manifest::read(&storage).unwrap(), None);
        example().write(&storage).unwrap();
        let next = Manifest { generation: 5, ..example() };
        next.write(&storage).unwrap();
        assert_eq!(Manifest::read(&storage.after_power_loss(|| false)).unwrap(), Some(next));
    }

    #[test]
    fn names_and_numbers_that_nobody_writes_are_corruption() {
        let sealed = |sealed| vec![SegmentEntry { id: 1, sealed: Some(sealed) }];
        let sound = Sealed { bytes: 500, records: 5, first: 1, last: 9, compacted_at: None };
        let entry = |id| SegmentEntry { id, sealed: None };
        let damaged = [
            Manifest { log: "0".repeat(LOG_DIGITS + 1), ..example() },
            Manifest { log: "X".repeat(LOG_DIGITS), ..example() },
            Manifest { generation: u64::MAX, ..example() },
            Manifest { durable: u64::MAX, ..example() },
            Manifest { sealed_through: u64::MAX, ..example() },
            Manifest { segments: vec![entry(u64::MAX)], ..example() },
            Manifest { segments: vec![entry(2), entry(1)], ..example() },
            Manifest { segments: vec![entry(1), entry(1)], ..example() },
            Manifest { segments: sealed(Sealed { first: 0, ..sound }), ..example() },
            Manifest { segments: sealed(Sealed { last: 0, ..sound }), ..example() },
            Manifest { segments: sealed(Sealed { last: u64::MAX, ..sound }), ..example() },
            Manifest { segments: sealed(Sealed { records: 10, ..sound }), ..example() },
            Manifest { segments: sealed(Sealed { bytes: u64::MAX, ..sound }), ..example() },
            Manifest { segments: sealed(Sealed { compacted_at: Some(u64::MAX), ..sound }), ..example() },
        ];
        for manifest in damaged {
            let storage = MemoryStorage::new();
            manifest.write(&storage).unwrap();
            let error = Manifest::read(&storage).expect_err("nobody writes such a manifest");
            assert!(matches!(error, Error::Corruption { .. }), "{manifest:?}: {error}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let storage = MemoryStorage::new();
        example().write(&storage).unwrap();
        let bits = storage.open(MANIFEST_NAME).unwrap().length().unwrap() * 8;
        for bit in 0..bits {
            storage.flip_bit(MANIFEST_NAME, bit);
            let error = Manifest::read(&storage).expect_err("a damaged manifest is no manifest");
            assert!(matches!(error, Error::Corruption { .. }), "bit {bit}: {error}");
            storage.flip_bit(MANIFEST_NAME, bit);
        }
        assert!(Manifest::read(&storage).unwrap().is_some());
    }
}
