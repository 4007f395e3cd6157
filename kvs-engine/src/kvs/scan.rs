//! A page of a scan: the index is walked in the order of its hashes, and each entry's record is read.
//!
//! What must hold: a key has one hash, and one entry as long as it is there; so whoever walks the hashes once from the
//! lowest to the highest meets every key at most once, and one that stays exactly once, wherever its record moves and
//! however its shard grows. Entries of one hash are never parted between two pages.

use super::index::{KeyHash, SHARDS};
use super::location::Location;
use super::read::Candidate;
use super::record;
use super::store::{Core, Waiting};
use crate::completion::{Complete, Completion, Waiter};
use crate::error::{Error, Result};
use crate::operation::Outcome;
use crate::scan::{Cursor, Entry, Gathering, Page, Scan};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// How many entries of a shard are taken under its lock at once: some microseconds.
const SLICE_ENTRIES: usize = 256;

/// Entries of a shard, with what an answer that shows them depends on.
struct Slice {
    entries: Vec<(KeyHash, Candidate)>,
    /// Where the shard goes on.
    next: Option<u32>,
    removed_at: u64,
}

/// What the records of one hash say.
struct Group {
    entries: Vec<Entry>,
    /// The highest sequence of a record that is shown.
    sequence: u64,
}

impl Core {
    /// One page.
    pub(super) fn scan(&self, scan: &Scan) -> Result<Page> {
        let (mut shard, mut bits) = self.begin_of(scan)?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut page = Gathering::new(scan);
        // The highest sequence that the page depends on: of what it shows, and of removals that it may have missed.
        let mut sequence = 0;
        let next = 'page: loop {
            if shard == SHARDS {
                break None;
            }
            let slice = self.slice(shard, bits);
            sequence = sequence.max(slice.removed_at);
            for group in slice.entries.chunk_by(|(one, _), (next, _)| one == next) {
                let hash = group[0].0;
                let found = self.read_group(hash, group, scan)?;
                if !page.take(group.len(), found.entries) {
                    break 'page Some(hash);
                }
                sequence = sequence.max(found.sequence);
            }
            (shard, bits) = slice.next.map_or((shard + 1, 0), |bits| (shard, bits));
        };
        self.await_durable(sequence)?;
        Ok(page.finish(next.map(|hash| self.cursor(hash))))
    }

    /// How many keys there are, when all of them, and all removals before, are durable.
    pub(super) fn count_keys(&self) -> Result<u64> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // Every key has one entry.
        let (keys, _) = self.index.size();
        self.await_durable(self.log.appended_sequence())?;
        Ok(keys)
    }

    fn cursor(&self, hash: KeyHash) -> Cursor {
        Cursor::at_hash(self.index.mark(), u16::try_from(hash.shard).expect("few shards"), hash.bits())
    }

    /// The shard and the hash where a page begins.
    fn begin_of(&self, scan: &Scan) -> Result<(usize, u32)> {
        let Some(cursor) = scan.checked()? else { return Ok((0, 0)) };
        let (_, shard, bits) = cursor.hash()?;
        let shard = usize::from(shard);
        if !cursor.is_of(self.index.mark())? || shard >= SHARDS { Err(Error::WrongCursor) } else { Ok((shard, bits)) }
    }

    fn slice(&self, shard: usize, bits: u32) -> Slice {
        let locked = self.index.lock_shard(shard);
        let view = self.log.view();
        let (entries, next) = locked.slice(bits, SLICE_ENTRIES);
        let candidate = |location: Location| Candidate { location, segment: Arc::clone(view.segment(location.slot())) };
        let entries = entries.into_iter().map(|(bits, place)| (KeyHash::at(shard, bits), candidate(place))).collect();
        Slice { entries, next, removed_at: locked.removed_at }
    }

    /// Reads the records of one hash: nearly always one.
    fn read_group(&self, hash: KeyHash, group: &[(KeyHash, Candidate)], scan: &Scan) -> Result<Group> {
        let mut found: Vec<(u64, Entry)> = Vec::new();
        for (_, candidate) in group {
            let read = self.with_line(&candidate.segment, candidate.location, |line| {
                let entries = self.entries_of(hash, line.payload, scan);
                entries
                    .map(|entries| (line.sequence, entries))
                    .map_err(|error| self.damaged(&candidate.segment, candidate.location, line.sequence, &error))
            });
            let (sequence, entries) = read??;
            for entry in entries {
                // Keys of one hash that are in one batch: an older value of one stands in the other's record.
                match found.iter_mut().find(|(_, other)| other.key == entry.key) {
                    Some(other) if other.0 < sequence => *other = (sequence, entry),
                    Some(_) => {}
                    None => found.push((sequence, entry)),
                }
            }
        }
        let sequence = found.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0);
        Ok(Group { entries: found.into_iter().map(|(_, entry)| entry).collect(), sequence })
    }

    /// What a record sets under keys of this hash with the scan's prefix.
    fn entries_of(
        &self,
        hash: KeyHash,
        payload: &[u8],
        scan: &Scan,
    ) -> std::result::Result<Vec<Entry>, record::RecordError> {
        let mut entries = Vec::new();
        for part in record::parts(payload)?.parts {
            if !part.sets || !part.key.starts_with(&scan.prefix) || self.index.hash(&part.key) != hash {
                continue;
            }
            let value = if scan.values { record::last_word(payload, &part.key)?.flatten() } else { None };
            entries.push(Entry { key: part.key.into_owned(), value });
        }
        Ok(entries)
    }

    /// Blocks until everything up to a sequence may be shown.
    fn await_durable(&self, sequence: u64) -> Result<()> {
        let waiter = Arc::new(Waiter::default());
        let completion = Completion::new(Arc::clone(&waiter) as Arc<dyn Complete>, 0);
        let waiting = Waiting { completion, result: Ok(Outcome::Done) };
        if let Some(waiting) = self.log.wait_for_sequence(sequence, waiting) {
            waiting.answer();
        } else if !waiter.is_answered() {
            self.log.lead();
        }
        waiter.wait().map(|_| ())
    }
}
