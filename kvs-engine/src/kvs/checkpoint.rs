//! `CHECKPOINT`: the index as it was at one moment, so that opening a store reads it and the end of the log, and not
//! the whole log.
//!
//! ```text
//! line    {"checkpoint":{"version":3,"log":"…","hash_key":"…"}} in the log's frame, sequence S
//! block   256 times, one for each shard: its entries, hash and place (`block.rs`)
//! line    {"covered":{"entries":…,"segments":[{"slot":0,"id":1,"sealed_bytes":…,"kept_bytes":…}]}}, sequence S
//! ```
//!
//! It may be older than the log, and it is not of one instant: the shards are copied one after the other while writes
//! go on. What must hold so that opening can build on it:
//! * every mutation up to S is in it, and everything that it says is durable before its name is;
//! * all that it does not know of is read: records above S, and whole segments that it does not list;
//! * an entry whose segment is gone is dropped: a compaction moved the record, to a segment that is read, or it was dead.
//!
//! A removal is kept by compactions as long as a segment can hold an older value of its key, and what a checkpoint
//! points at lies in such a segment; so what was removed does not come back with it.
//!
//! Version 2, which is still read, had blocks with n hashes of 4 bytes and n places of 8 as they are in memory, with
//! charges in units of eight bytes.
//!
//! It holds nothing that the log does not hold: one that is damaged or does not fit is removed, and the log is read.

mod block;
mod reader;
#[cfg(test)]
mod slots;
mod write;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::index::{HashKey, Index, SHARDS, Shard};
use super::location::{Location, MAX_SLOTS};
use crate::log::coverage::{Coverage, CoveredSegment, Folder};
use crate::log::frame;
use crate::log::manifest::MAX_NUMBER;
use crate::log::segment::MAX_FILE_BYTES;
use crate::storage::{Storage, StorageFile, write_all_at};
use crate::zoo;
use reader::Reader;
pub(super) use write::Cadence;

/// The checkpoint's name in the folder.
pub(crate) const CHECKPOINT_NAME: &str = "CHECKPOINT";
/// Its name while it is written.
pub(crate) const NEW_CHECKPOINT_NAME: &str = "CHECKPOINT.new";
/// The version that is written.
const VERSION: u32 = 3;
/// The version before it, which is read as well.
const VERSION_2: u32 = 2;
/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    checkpoint: HeadFields,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFields {
    version: u32,
    log: String,
    hash_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foot {
    covered: FootFields,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FootFields {
    entries: u64,
    segments: Vec<Covered>,
}

/// A segment as the checkpoint knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Covered {
    slot: u32,
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    kept_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What opening a store starts from.
pub(super) struct Start {
    pub(super) index: Index,
    pub(super) coverage: Coverage,
    /// Bytes of removals that compactions kept, by segment.
    pub(super) kept_bytes: BTreeMap<u64, u64>,
    /// Bytes of the checkpoint's file; 0 without one.
    pub(super) bytes: u64,
}

impl Start {
    /// The start of an index from nothing.
    pub(super) fn empty() -> Self {
        let index = Index::new(HashKey::random());
        Self { index, coverage: Coverage::default(), kept_bytes: BTreeMap::new(), bytes: 0 }
    }
}

/// Why a checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// There is none.
    #[error("there is no checkpoint")]
    Missing,
    /// It can't be read.
    #[error("reading it failed: {0}")]
    Io(#[from] io::Error),
    /// It is not what this version writes.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It is another log's.
    #[error("it belongs to another log")]
    OtherLog,
}

/// Reads the checkpoint of a folder.
///
/// # Errors
/// Why there is none to be used.
pub(super) fn read(storage: &dyn Storage, folder: &Folder) -> Result<Start, Unusable> {
    let file = match storage.open_to_read(CHECKPOINT_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Missing),
        opened => opened?,
    };
    let bytes = file.length()?;
    let mut reader = Reader { file: file.as_ref(), offset: 0, bytes };
    let (sequence, payload) = reader.line()?;
    let Head { checkpoint: HeadFields { version, log, hash_key } } = parsed(&payload)?;
    if !(VERSION_2..=VERSION).contains(&version) {
        return Err(Unusable::Damaged("it has another version"));
    }
    if log != folder.log() {
        return Err(Unusable::OtherLog);
    }
    let hash_key = u128::from_str_radix(&hash_key, 16).map_err(|_| Unusable::Damaged("its hash key"))?;
    let index = Index::new(HashKey(hash_key.to_be_bytes()));
    let mut shards = Vec::with_capacity(SHARDS);
    for _ in 0..SHARDS {
        shards.push(if version == VERSION { reader.block()? } else { reader.block_of_version_2()? });
    }
    let (end_sequence, payload) = reader.line()?;
    let Foot { covered: FootFields { entries, segments } } = parsed(&payload)?;
    let found: usize = shards.iter().map(Vec::len).sum();
    if end_sequence != sequence || entries != found as u64 || reader.offset != bytes {
        return Err(Unusable::Damaged("its parts don't fit each other"));
    }
    let is_too_large = |known: &Covered| known.id > MAX_NUMBER || known.kept_bytes > MAX_FILE_BYTES;
    if sequence > MAX_NUMBER || segments.iter().any(is_too_large) {
        return Err(Unusable::Damaged("a number is larger than any that is written"));
    }
    let mut start = Start { index, bytes, ..Start::empty() };
    start.coverage.sequence = sequence + u64::from(zoo::bug("checkpoint-without-a-racing-write"));
    start.coverage.highest_segment = segments.iter().map(|known| known.id).max().unwrap_or(0);
    // By slot, since every entry asks: a slot that is no more, or was never listed, has no segment.
    let mut alive = Vec::new();
    for Covered { slot, id, sealed_bytes, kept_bytes } in segments.into_iter().filter(|known| folder.lists(known.id)) {
        if slot >= MAX_SLOTS {
            return Err(Unusable::Damaged("a slot that no segment has"));
        }
        let place = slot as usize;
        if place >= alive.len() {
            alive.resize(place + 1, false);
        }
        if std::mem::replace(&mut alive[place], true) {
            return Err(Unusable::Damaged("two segments have one slot"));
        }
        if start.coverage.segments.insert(id, CoveredSegment { slot, sealed_bytes }).is_some() {
            return Err(Unusable::Damaged("a segment has two slots"));
        }
        start.kept_bytes.insert(id, kept_bytes);
    }
    for (number, mut entries) in shards.into_iter().enumerate() {
        entries.retain(|(_, place)| alive.get(place.slot() as usize).copied().unwrap_or(false));
        *start.index.lock_shard(number) = Shard::from_sorted(entries.into_iter());
    }
    Ok(start)
}

/// Up to where everything was durable, as the checkpoint of a folder says; 0 without one that an opening would use.
pub(crate) fn durable_sequence(storage: &dyn Storage, folder: &Folder) -> u64 {
    read(storage, folder).map_or(0, |start| start.coverage.sequence)
}

/// Reads the checkpoint of a folder to its end and says what is damaged in it; `None` when nothing is, or there is none.
/// One that a later log has made useless is not damaged.
///
/// # Errors
/// What the file system says.
pub(crate) fn check(storage: &dyn Storage, folder: &Folder) -> io::Result<Option<(u64, Option<&'static str>)>> {
    let bytes = match storage.open_to_read(CHECKPOINT_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?.length()?,
    };
    match read(storage, folder) {
        Ok(_) | Err(Unusable::Missing) => Ok(Some((bytes, None))),
        Err(Unusable::OtherLog) => Ok(Some((bytes, Some("it belongs to another log")))),
        Err(Unusable::Damaged(reason)) => Ok(Some((bytes, Some(reason)))),
        Err(Unusable::Io(error)) => Err(error),
    }
}

/// A shard's block, for those who make checkpoints that nobody would write.
#[cfg(fuzzing)]
pub(crate) fn block_of(entries: &[(u32, u64)]) -> Vec<u8> {
    let entry = |(hash, bits): &(u32, u64)| Some((*hash, Location::from_bits(*bits)?));
    block::encode(&entries.iter().filter_map(entry).collect::<Vec<_>>())
}

fn parsed<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, Unusable> {
    serde_json::from_slice(payload).map_err(|_| Unusable::Damaged("a line is no JSON of this format"))
}

/// Writes one part after the other.
struct Writer<'a> {
    file: &'a dyn StorageFile,
    sequence: u64,
    entries: u64,
    /// What is not in the file yet: the blocks of a small store are far smaller than a write that is worth its call.
    buffer: Vec<u8>,
    /// Where the buffer goes in the file.
    offset: u64,
}

impl<'a> Writer<'a> {
    fn begin(file: &'a dyn StorageFile, sequence: u64, log: &str, hash_key: HashKey) -> io::Result<Self> {
        let mut writer = Self { file, sequence, entries: 0, buffer: Vec::new(), offset: 0 };
        let hash_key = format!("{:032x}", u128::from_be_bytes(hash_key.0));
        writer.line(&Head { checkpoint: HeadFields { version: VERSION, log: log.to_owned(), hash_key } })?;
        Ok(writer)
    }

    /// Writes a shard's block; returns its bytes.
    fn block(&mut self, entries: &[(u32, Location)]) -> io::Result<u64> {
        self.entries += entries.len() as u64;
        self.put(&block::encode(entries))
    }

    /// Ends it and makes it durable; returns its bytes.
    fn finish(mut self, segments: Vec<Covered>) -> io::Result<u64> {
        let entries = self.entries;
        self.line(&Foot { covered: FootFields { entries, segments } })?;
        self.write_buffer()?;
        self.file.sync_data()?;
        Ok(self.offset)
    }

    fn line(&mut self, payload: &impl Serialize) -> io::Result<u64> {
        let payload = serde_json::to_vec(payload).expect("numbers and text have a JSON form");
        let mut line = Vec::with_capacity(payload.len() + frame::OVERHEAD_BYTES);
        frame::append_line(&mut line, self.sequence, self.sequence, &payload);
        self.put(&line)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok(bytes.len() as u64)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        write_all_at(self.file, &self.buffer, self.offset)?;
        self.file.begin_writeback(self.offset, self.buffer.len() as u64);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, read_exact_at};

    /// A checkpoint of 300 keys in two segments, of which the log lists the first.
    fn example() -> (MemoryStorage, Folder, Vec<u8>) {
        let storage = MemoryStorage::new();
        let folder = Folder::read(&storage).unwrap();
        let index = Index::new(HashKey([7; 16]));
        for number in 0..300_u64 {
            let hash = index.hash(&number.to_le_bytes());
            let slot = u32::try_from(number % 2).unwrap();
            index.lock(hash).insert(hash, Location::new(slot, 100 + number, false, 50));
        }
        let file = storage.create(CHECKPOINT_NAME).unwrap();
        let mut writer = Writer::begin(file.as_ref(), 300, folder.log(), index.hash_key()).unwrap();
        index.for_each_shard(|shard| {
            writer.block(&shard.entries_from(0).collect::<Vec<_>>()).unwrap();
        });
        let covered = |slot, id| Covered { slot, id, sealed_bytes: Some(9), kept_bytes: 0 };
        let bytes = writer.finish(vec![covered(0, 1), covered(1, 2)]).unwrap();
        let mut content = vec![0; usize::try_from(bytes).unwrap()];
        read_exact_at(file.as_ref(), &mut content, 0).unwrap();
        (storage, folder, content)
    }

    #[test]
    fn entries_of_segments_that_are_gone_are_dropped() {
        let (storage, mut folder, _) = example();
        folder.manifest_for_tests(&[1, 2]);
        let start = read(&storage, &folder).unwrap();
        assert_eq!((start.index.size().0, start.coverage.sequence), (300, 300));
        assert_eq!(start.index.hash(b"key"), Index::new(HashKey([7; 16])).hash(b"key"));
        folder.manifest_for_tests(&[1]);
        assert_eq!(read(&storage, &folder).unwrap().index.size().0, 150);
        assert!(matches!(read(&MemoryStorage::new(), &folder), Err(Unusable::Missing)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_makes_it_unusable() {
        let (storage, folder, content) = example();
        for bit in 0..content.len() as u64 * 8 {
            storage.flip_bit(CHECKPOINT_NAME, bit);
            assert!(read(&storage, &folder).is_err(), "bit {bit} was not noticed");
            storage.flip_bit(CHECKPOINT_NAME, bit);
        }
        assert!(read(&storage, &folder).is_ok());
        let file = storage.open(CHECKPOINT_NAME).unwrap();
        for bytes in (0..content.len() as u64).rev().step_by(7) {
            file.set_length(bytes).unwrap();
            assert!(read(&storage, &folder).is_err(), "cut to {bytes} bytes");
        }
    }
}
