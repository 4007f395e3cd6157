//! Building the index from the log when a store is opened.
//!
//! What must hold: the record with the highest sequence decides about a key, in whatever order segments are read; a
//! removal is remembered until all is read, because what it removed may be read after it; no line holds two keys of
//! one hash.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::checkpoint::Start;
use super::index::{Index, KeyHash};
use super::location::Location;
use super::read::read_line_at;
use super::record::{self, Parts};
use crate::error::{Error, Result};
use crate::log::frame::{self, Line};
use crate::log::segment::{self, Segment};
use crate::log::{Log, Waiter};
use crate::storage::{Storage, StorageFile};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// An index that is being built.
pub(super) struct Replay<'a> {
    index: &'a Index,
    storage: &'a dyn Storage,
    /// What the index held before.
    start: &'a Start,
    /// The segments that were looked at, by slot: keys that share a hash are compared in their records.
    sources: HashMap<u32, Source>,
    /// The slot that was visited last.
    last_slot: Option<u32>,
    /// Bytes of removals in each segment.
    removal_bytes: BTreeMap<u64, u64>,
    /// Whether there are removals in the index, to be taken out.
    tombstones: bool,
    replayed_bytes: u64,
    /// Whether a line holds two keys of one hash: then another hash is needed.
    pub(super) collided: bool,
    /// The line that was read last.
    buffer: Vec<u8>,
}

/// A segment that records are read from again.
struct Source {
    id: u64,
    file: Arc<dyn StorageFile>,
    /// The file's length.
    bytes: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(start: &'a Start, storage: &'a dyn Storage) -> Self {
        Self {
            index: &start.index,
            storage,
            start,
            sources: HashMap::new(),
            last_slot: None,
            removal_bytes: start.kept_bytes.clone(),
            tombstones: false,
            replayed_bytes: 0,
            collided: false,
            buffer: Vec::new(),
        }
    }

    /// Takes in one record.
    pub(super) fn visit(&mut self, segment: &Arc<Segment>, offset: u64, line: Line<'_>) -> Result<()> {
        let slot = segment.slot();
        self.replayed_bytes += line.bytes() as u64;
        if self.last_slot != Some(slot) {
            let (id, file, bytes) = (segment.id, Arc::clone(&segment.file), segment.capacity);
            self.sources.insert(slot, Source { id, file, bytes });
            self.last_slot = Some(slot);
        }
        let corrupt = |error: record::RecordError| Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset,
            sequence: line.sequence,
            reason: error.to_string(),
        };
        let Parts { parts, batch, .. } = record::parts(line.payload).map_err(corrupt)?;
        let sets = parts.iter().filter(|part| part.sets).count();
        // Where there are sets, they carry the whole line's overhead.
        let sharing = if sets > 0 { sets } else { parts.len() };
        let mut hashes = Vec::new();
        for part in &parts {
            let hash = self.index.hash(&part.key);
            let bytes = if batch { record::bytes_in_batch(part.json.len(), sharing) } else { line.bytes() as u64 };
            let place = if part.sets {
                Location::new(slot, offset, batch, bytes)
            } else {
                *self.removal_bytes.entry(segment.id).or_default() += bytes;
                self.tombstones = true;
                Location::tombstone(slot, offset, batch)
            };
            self.take(hash, &part.key, place, line.sequence)?;
            if batch {
                hashes.push(hash);
            }
        }
        hashes.sort_unstable();
        if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
            self.collided = true;
        }
        Ok(())
    }

    /// Points a key at a place, if what the index has is not newer.
    fn take(&mut self, hash: KeyHash, key: &[u8], place: Location, sequence: u64) -> Result<()> {
        let index = self.index;
        let mut shard = index.lock(hash);
        let mut candidates = shard.candidates(hash);
        let Some(first) = candidates.next() else {
            drop(candidates);
            shard.insert(hash, place);
            return Ok(());
        };
        // Nearly always none, which needs no allocation.
        let more: Vec<Location> = candidates.collect();
        drop(shard);
        for old in std::iter::once(first).chain(more) {
            let Some(found) = self.sequence_about(old, key)? else { continue };
            if found <= sequence {
                index.lock(hash).replace(hash, old, place);
            }
            return Ok(());
        }
        index.lock(hash).insert(hash, place);
        Ok(())
    }

    /// The sequence of the record at a place, which was read before; `None` when it says nothing of a key.
    fn sequence_about(&mut self, place: Location, key: &[u8]) -> Result<Option<u64>> {
        let source = match self.sources.entry(place.slot()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(covered_source(self.start, self.storage, place.slot())?),
        };
        let corrupt = |reason: &str| Error::Corruption {
            file: self.storage.path(&segment::name_of(source.id)),
            offset: place.offset(),
            sequence: 0,
            reason: reason.to_owned(),
        };
        read_line_at(source.file.as_ref(), place, source.bytes, &mut self.buffer)
            .map_err(|error| Error::io("reading a record again", error))?;
        let line = frame::read_line(&self.buffer).map_err(|defect| corrupt(defect.reason()))?;
        let is_about = record::is_about(line.payload, key).map_err(|error| corrupt(&error.to_string()))?;
        Ok(is_about.then_some(line.sequence))
    }

    /// Drops the removals and counts what is live.
    pub(super) fn finish<W: Waiter>(self, log: &Log<W>) -> Sums {
        let mut live_bytes: Vec<u64> = Vec::new();
        self.index.for_each_shard(|shard| {
            if self.tombstones {
                shard.retain(|place| !place.is_tombstone());
            }
            for (_, place) in shard.entries_from(0) {
                let slot = place.slot() as usize;
                if slot >= live_bytes.len() {
                    live_bytes.resize(slot + 1, 0);
                }
                live_bytes[slot] += place.charge_bytes();
            }
        });
        let mut record_bytes = 0;
        for segment in log.segments() {
            record_bytes += segment.record_bytes();
            let live_bytes = live_bytes.get(segment.slot() as usize).copied().unwrap_or(0);
            segment.live_bytes.store(live_bytes, Ordering::Relaxed);
            // A compaction has looked at these before and could not let them go.
            let compacted = segment.sealed.get().is_some_and(|sealed| sealed.compacted_at.is_some());
            if let (true, Some(bytes)) = (compacted, self.removal_bytes.get(&segment.id)) {
                segment.kept_bytes.store(*bytes, Ordering::Relaxed);
            }
        }
        let live_bytes = live_bytes.iter().sum();
        Sums { record_bytes, live_bytes, replayed_bytes: self.replayed_bytes }
    }
}

/// The segment that a checkpoint calls by a slot.
fn covered_source(start: &Start, storage: &dyn Storage, slot: u32) -> Result<Source> {
    let covered = start.coverage.segments.iter().find(|(_, known)| known.slot == slot);
    let id = *covered.expect("an entry names a segment that was visited, or one of the checkpoint").0;
    let failed = |error| Error::io(format!("opening {}", storage.path(&segment::name_of(id)).display()), error);
    let file = storage.open(&segment::name_of(id)).map_err(failed)?;
    let bytes = file.length().map_err(failed)?;
    Ok(Source { id, file, bytes })
}

/// What a replay summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) record_bytes: u64,
    pub(super) live_bytes: u64,
    /// Bytes of the records that were looked at.
    pub(super) replayed_bytes: u64,
}
