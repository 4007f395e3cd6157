//! Building the index from the log when a store is opened.
//!
//! What must hold: the record with the highest sequence decides about a key, in whatever order segments are read; a
//! removal is remembered until all is read, because what it removed may be read after it.

use std::collections::HashMap;

use super::index::{Index, KeyHash};
use super::location::Location;
use super::record::{self, Element};
use crate::error::{Error, Result};
use crate::log::frame::{self, Line, PREFIX_BYTES};
use crate::log::segment::{self, Segment};
use crate::log::{Log, Waiter};
use crate::operation::Mutation;
use crate::storage::{Storage, read_exact_at};
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
    record_bytes: u64,
}

/// What a replay summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) record_bytes: u64,
    pub(super) live_bytes: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(index: &'a Index, storage: &'a dyn Storage) -> Self {
        index.for_each_shard(|shard| shard.begin_replay());
        Self { index, storage, segments: HashMap::new(), removal_bytes: HashMap::new(), record_bytes: 0 }
    }

    /// Takes in one record.
    pub(super) fn visit(&mut self, segment: &Arc<Segment>, offset: u64, line: Line<'_>) -> Result<()> {
        self.segments.entry(segment.slot()).or_insert_with(|| Arc::clone(segment));
        self.record_bytes += line.bytes() as u64;
        let slot = segment.slot();
        if let Some((key, _)) = record::plain_set(line.payload) {
            let place = Location::new(slot, offset, false, line.bytes() as u64);
            return self.take(key, place, line.sequence);
        }
        let (elements, batch) = record::decode(line.payload).map_err(|error| Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset,
            sequence: line.sequence,
            reason: error.to_string(),
        })?;
        let last = record::last_of_each_key(&elements);
        let is_set = |element: &&Element<'_>| matches!(element.mutation, Mutation::Set { .. });
        let sets = last.iter().copied().filter(is_set).count();
        // Where there are sets, they carry the whole line's overhead.
        let sharing = if sets > 0 { sets } else { last.len() };
        for element in last {
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
            self.take(element.mutation.key(), place, line.sequence)?;
        }
        Ok(())
    }

    /// Points a key at a place, if what the index has is not newer. Of one batch, the last element decides.
    fn take(&self, key: &[u8], place: Location, sequence: u64) -> Result<()> {
        let hash = self.index.hash(key);
        let old = self.find(hash, key)?;
        let mut shard = self.index.lock(hash);
        match old {
            Some((_, newer)) if newer > sequence => {}
            Some((old, _)) => {
                shard.remove(hash, old);
                shard.insert_with_sequence(hash, place, sequence);
            }
            None => shard.insert_with_sequence(hash, place, sequence),
        }
        Ok(())
    }

    /// The entry of a key, with its sequence.
    fn find(&self, hash: KeyHash, key: &[u8]) -> Result<Option<(Location, u64)>> {
        let shard = self.index.lock(hash);
        let candidates: Vec<Location> = shard.candidates(hash).collect();
        for place in candidates {
            if self.is_about(place, key)? {
                let sequence = shard.sequence_of(hash, place).expect("it was just listed");
                return Ok(Some((place, sequence)));
            }
        }
        Ok(None)
    }

    /// Whether the record at a place, which was read before, says anything of a key.
    fn is_about(&self, place: Location, key: &[u8]) -> Result<bool> {
        let segment = &self.segments[&place.slot()];
        let corrupt = |reason: &str| Error::Corruption {
            file: self.storage.path(&segment::name_of(segment.id)),
            offset: place.offset(),
            sequence: 0,
            reason: reason.to_owned(),
        };
        let failed = |error| Error::io("reading a record again", error);
        let mut bytes = vec![0; PREFIX_BYTES];
        read_exact_at(segment.file.as_ref(), &mut bytes, place.offset()).map_err(failed)?;
        let count = frame::announced_bytes(&bytes).filter(|count| *count as u64 <= segment.capacity);
        bytes.resize(count.ok_or_else(|| corrupt("the record changed while it was read"))?, 0);
        read_exact_at(segment.file.as_ref(), &mut bytes, place.offset()).map_err(failed)?;
        let line = frame::read_line(&bytes).map_err(|defect| corrupt(defect.reason()))?;
        record::is_about(line.payload, key).map_err(|error| corrupt(&error.to_string()))
    }

    /// Drops the removals and counts what is live.
    pub(super) fn finish<W: Waiter>(self, log: &Log<W>) -> Sums {
        let mut live_bytes = 0;
        self.index.for_each_shard(|shard| {
            shard.end_replay(|place| {
                live_bytes += place.charge_bytes();
                log.segment(place.slot()).live_bytes.fetch_add(place.charge_bytes(), Ordering::Relaxed);
            });
        });
        for segment in log.segments() {
            // A compaction has looked at these before and could not let them go.
            let compacted = segment.sealed.get().is_some_and(|sealed| sealed.compacted_at.is_some());
            if let (true, Some(bytes)) = (compacted, self.removal_bytes.get(&segment.id)) {
                segment.kept_bytes.store(*bytes, Ordering::Relaxed);
            }
        }
        Sums { record_bytes: self.record_bytes, live_bytes }
    }
}
