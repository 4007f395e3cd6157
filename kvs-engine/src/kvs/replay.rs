//! Building the index from the log when a store is opened.
//!
//! What must hold: the record with the highest sequence decides about a key, in whatever order segments are read; a
//! removal is remembered until all is read, because what it removed may be read after it; no line holds two keys of
//! one hash.

use std::collections::HashMap;

use super::index::{Index, KeyHash};
use super::location::Location;
use super::read::read_line_at;
use super::record::{self, Element};
use crate::error::{Error, Result};
use crate::log::frame::{self, Line};
use crate::log::segment::{self, Segment};
use crate::log::{Log, Waiter};
use crate::operation::Mutation;
use crate::storage::Storage;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// An index that is being built.
pub(super) struct Replay<'a> {
    index: &'a Index,
    storage: &'a dyn Storage,
    /// The segments seen so far, by slot: keys that share a hash are compared in their records.
    segments: HashMap<u32, Arc<Segment>>,
    /// Bytes of removals in each segment.
    removal_bytes: HashMap<u64, u64>,
    /// Whether a line holds two keys of one hash: then another hash is needed.
    pub(super) collided: bool,
    /// The line that was read last.
    buffer: Vec<u8>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(index: &'a Index, storage: &'a dyn Storage) -> Self {
        let (segments, removal_bytes) = (HashMap::new(), HashMap::new());
        Self { index, storage, segments, removal_bytes, collided: false, buffer: Vec::new() }
    }

    /// Takes in one record.
    pub(super) fn visit(&mut self, segment: &Arc<Segment>, offset: u64, line: Line<'_>) -> Result<()> {
        let slot = segment.slot();
        self.segments.entry(slot).or_insert_with(|| Arc::clone(segment));
        let corrupt = |error: record::RecordError| Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset,
            sequence: line.sequence,
            reason: error.to_string(),
        };
        if let Some((key, _)) = record::shape::set(line.payload) {
            let place = Location::new(slot, offset, false, line.bytes() as u64);
            let key = key.to_bytes().map_err(corrupt)?;
            return self.take(self.index.hash(&key), &key, place, line.sequence);
        }
        let (elements, batch) = record::decode(line.payload).map_err(corrupt)?;
        let last = record::last_of_each_key(&elements);
        let mut hashes: Vec<KeyHash> = last.iter().map(|element| self.index.hash(element.mutation.key())).collect();
        let is_set = |element: &&Element<'_>| matches!(element.mutation, Mutation::Set { .. });
        let sets = last.iter().copied().filter(is_set).count();
        // Where there are sets, they carry the whole line's overhead.
        let sharing = if sets > 0 { sets } else { last.len() };
        for (element, hash) in last.iter().zip(&hashes) {
            let shared = record::bytes_in_batch(element.json.len(), sharing);
            let place = match &element.mutation {
                Mutation::Set { .. } if batch => Location::new(slot, offset, true, shared),
                Mutation::Set { .. } => Location::new(slot, offset, false, line.bytes() as u64),
                Mutation::Remove { .. } => {
                    let bytes = if batch { shared } else { line.bytes() as u64 };
                    *self.removal_bytes.entry(segment.id).or_default() += bytes;
                    Location::tombstone(slot, offset, batch)
                }
            };
            self.take(*hash, element.mutation.key(), place, line.sequence)?;
        }
        hashes.sort_unstable();
        if hashes.windows(2).any(|pair| pair[0] == pair[1]) {
            self.collided = true;
        }
        Ok(())
    }

    /// Points a key at a place, if what the index has is not newer.
    fn take(&mut self, hash: KeyHash, key: &[u8], place: Location, sequence: u64) -> Result<()> {
        let candidates: Vec<Location> = self.index.lock(hash).candidates(hash).collect();
        for old in candidates {
            let Some(found) = self.sequence_about(old, key)? else { continue };
            if found > sequence {
                return Ok(());
            }
            self.index.lock(hash).replace(hash, old, place);
            return Ok(());
        }
        self.index.lock(hash).insert(hash, place);
        Ok(())
    }

    /// The sequence of the record at a place, which was read before; `None` when it says nothing of a key.
    fn sequence_about(&mut self, place: Location, key: &[u8]) -> Result<Option<u64>> {
        let segment = &self.segments[&place.slot()];
        let corrupt = |reason: &str| Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset: place.offset(),
            sequence: 0,
            reason: reason.to_owned(),
        };
        read_line_at(segment.file.as_ref(), place, segment.capacity, &mut self.buffer)
            .map_err(|error| Error::io("reading a record again", error))?;
        let line = frame::read_line(&self.buffer).map_err(|defect| corrupt(defect.reason()))?;
        let is_about = record::is_about(line.payload, key).map_err(|error| corrupt(&error.to_string()))?;
        Ok(is_about.then_some(line.sequence))
    }

    /// Drops the removals and counts what is live.
    pub(super) fn finish<W: Waiter>(self, log: &Log<W>) -> Sums {
        let mut live_bytes = 0;
        self.index.for_each_shard(|shard| {
            shard.retain(|place| !place.is_tombstone());
            for (_, place) in shard.entries_from(0) {
                live_bytes += place.charge_bytes();
                log.segment(place.slot()).live_bytes.fetch_add(place.charge_bytes(), Ordering::Relaxed);
            }
        });
        let mut record_bytes = 0;
        for segment in log.segments() {
            record_bytes += segment.record_bytes();
            // A compaction has looked at these before and could not let them go.
            let compacted = segment.sealed.get().is_some_and(|sealed| sealed.compacted_at.is_some());
            if let (true, Some(bytes)) = (compacted, self.removal_bytes.get(&segment.id)) {
                segment.kept_bytes.store(*bytes, Ordering::Relaxed);
            }
        }
        Sums { record_bytes, live_bytes }
    }
}

/// What a replay summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) record_bytes: u64,
    pub(super) live_bytes: u64,
}
