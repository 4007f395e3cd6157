//! The index in memory: hash of a key to the place of its record, twelve bytes a slot, whatever the key's length.
//!
//! Each shard is a table with open addressing: 32 bits of the hash choose and name the slot, the place is in a second
//! array. Two keys may share a hash, so a hit is a candidate until the key in the record was compared; the caller does
//! that, without the shard's lock, because it may read the disk.
//!
//! What must hold: entries of one hash stand in one run without a gap between their home slot and themselves; a shard
//! is never more than 4/5 full, so a search ends soon.
//!
//! Source: linear probing with backward-shift deletion (Knuth, TAOCP volume 3, section 6.4, algorithm R).

use std::hash::{BuildHasher, RandomState};

use super::location::Location;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// How many shards: each is locked and grown for itself. At 10 million keys one holds 40,000, so growing one takes
/// less than a millisecond.
pub(crate) const SHARDS: usize = 256;
/// The smallest table of a shard that has any entry, in slots.
const MIN_SLOTS: usize = 8;

/// The index of a store.
pub(crate) struct Index {
    /// Rank 0, taken before every other lock; more than one only in ascending order. Never held across a read of the
    /// disk. An append to the log under it may wait for a full queue or for the next segment's file.
    shards: Box<[Mutex<Shard>]>,
    /// Keyed at random, so that nobody can choose keys that collide.
    hasher: RandomState,
}

/// The hash of a key: which shard, and 32 bits within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash {
    pub(crate) shard: usize,
    bits: u32,
}

impl KeyHash {
    /// A place in the order of hashes.
    pub(crate) fn at(shard: usize, bits: u32) -> Self {
        Self { shard, bits }
    }

    pub(crate) fn bits(self) -> u32 {
        self.bits
    }
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(), hasher: RandomState::new() }
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let hash = self.hasher.hash_one(key);
        KeyHash {
            shard: usize::try_from(hash >> 32).expect("32 bits") % SHARDS,
            bits: u32::try_from(hash & u64::from(u32::MAX)).expect("32 bits"),
        }
    }

    /// A number that tells this index's hashes from those of another one.
    pub(crate) fn mark(&self) -> u32 {
        self.hash(b"").bits
    }

    /// Locks the shard of a hash.
    pub(crate) fn lock(&self, hash: KeyHash) -> MutexGuard<'_, Shard> {
        self.lock_shard(hash.shard)
    }

    /// Locks a shard by its number. More than one only in ascending order.
    pub(crate) fn lock_shard(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows every shard, one after the other.
    pub(crate) fn for_each_shard(&self, mut visit: impl FnMut(&mut Shard)) {
        for shard in 0..SHARDS {
            visit(&mut self.lock_shard(shard));
        }
    }

    /// Entries, and bytes of their tables.
    pub(crate) fn size(&self) -> (u64, u64) {
        let (mut entries, mut bytes) = (0, 0);
        self.for_each_shard(|shard| {
            entries += shard.used as u64;
            bytes += (shard.hashes.capacity() * 4 + shard.places.capacity() * 8) as u64;
        });
        (entries, bytes)
    }
}

/// One part of the index.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// 32 bits of each entry's hash.
    hashes: Vec<u32>,
    /// Each entry's [`Location`]; zero is an empty slot.
    places: Vec<u64>,
    /// While a log is replayed, each entry's sequence; else empty.
    sequences: Vec<u64>,
    replaying: bool,
    used: usize,
    /// The sequence of the last removal in this shard: an answer "not there" depends on it.
    pub(crate) removed_at: u64,
}

impl Shard {
    /// The places of all records whose key may be the one with this hash: nearly always none or one.
    pub(crate) fn candidates(&self, hash: KeyHash) -> impl Iterator<Item = Location> + '_ {
        self.run(hash).filter_map(|slot| Location::from_bits(self.places[slot]))
    }

    /// The next entries for a scan: all whose hashes lie from `from` up to, not including, the hash that is returned
    /// with them, in ascending order; those are at least `least` unless there are no more, which `None` says. The slots
    /// follow the order of the hashes, so a scan goes on at its hash in a table that has grown since.
    pub(crate) fn slice(&self, from: u32, least: usize) -> (Vec<(u32, Location)>, Option<u32>) {
        let count = self.places.len();
        let entry = |slot: usize| Location::from_bits(self.places[slot]).map(|place| (self.hashes[slot], place));
        let (mut entries, mut next) = (Vec::new(), None);
        for slot in if count == 0 { 0..0 } else { self.home(from)..count } {
            match entry(slot) {
                Some((bits, place)) if bits >= from && self.home(bits) <= slot => entries.push((bits, place)),
                // One with a lower hash, or one from the table's end that found its place at the beginning.
                Some(_) => {}
                // Nothing behind an empty slot has its home before it.
                None if entries.len() >= least.max(1) => {
                    let bits = ((slot as u64) << 32).div_ceil(count as u64);
                    next = Some(u32::try_from(bits).expect("a slot of the table has a hash"));
                    break;
                }
                None => {}
            }
        }
        if next.is_none() {
            let wrapped = (0..count).map_while(|slot| entry(slot).map(|found| (slot, found)));
            let of_the_end = wrapped.filter(|(slot, (bits, _))| self.home(*bits) > *slot && *bits >= from);
            entries.extend(of_the_end.map(|(_, found)| found));
        }
        entries.sort_unstable_by_key(|(bits, _)| *bits);
        (entries, next)
    }

    /// Whether the candidates of a hash are exactly these.
    pub(crate) fn has_candidates(&self, hash: KeyHash, expected: &[Location]) -> bool {
        self.candidates(hash).eq(expected.iter().copied())
    }

    /// Adds an entry, without asking whether the key has one.
    pub(crate) fn insert(&mut self, hash: KeyHash, place: Location) {
        self.insert_with_sequence(hash, place, 0);
    }

    /// Puts `new` where `old` stands; returns whether it stood there.
    pub(crate) fn replace(&mut self, hash: KeyHash, old: Location, new: Location) -> bool {
        let slot = self.run(hash).find(|slot| self.places[*slot] == old.to_bits());
        if let Some(slot) = slot {
            self.places[slot] = new.to_bits();
        }
        slot.is_some()
    }

    /// Takes an entry out; returns whether it was there.
    pub(crate) fn remove(&mut self, hash: KeyHash, old: Location) -> bool {
        let slot = self.run(hash).find(|slot| self.places[*slot] == old.to_bits());
        if let Some(slot) = slot {
            self.remove_slot(slot);
        }
        slot.is_some()
    }

    /// Whether an entry is there.
    #[cfg(test)]
    fn contains(&self, hash: KeyHash, place: Location) -> bool {
        self.candidates(hash).any(|candidate| candidate == place)
    }

    /// Makes this shard keep sequences, for a replay.
    pub(crate) fn begin_replay(&mut self) {
        self.replaying = true;
        self.sequences = vec![0; self.places.len()];
    }

    /// While a log is replayed: the sequence of an entry.
    pub(crate) fn sequence_of(&self, hash: KeyHash, place: Location) -> Option<u64> {
        self.run(hash).find(|slot| self.places[*slot] == place.to_bits()).map(|slot| self.sequences[slot])
    }

    /// While a log is replayed: adds an entry with its sequence.
    pub(crate) fn insert_with_sequence(&mut self, hash: KeyHash, place: Location, sequence: u64) {
        if (self.used + 1) * 5 > self.places.len() * 4 {
            self.grow();
        }
        let mut slot = self.home(hash.bits);
        while self.places[slot] != 0 {
            slot = self.after(slot);
        }
        self.put(slot, hash.bits, place.to_bits(), sequence);
        self.used += 1;
    }

    /// Ends a replay: takes all tombstones out and shows every other entry.
    pub(crate) fn end_replay(&mut self, mut visit: impl FnMut(Location)) {
        self.replaying = false;
        self.sequences = Vec::new();
        let mut slot = 0;
        while slot < self.places.len() {
            match Location::from_bits(self.places[slot]) {
                // Another entry may have moved here.
                Some(place) if place.is_tombstone() => self.remove_slot(slot),
                _ => slot += 1,
            }
        }
        self.places.iter().copied().filter_map(Location::from_bits).for_each(&mut visit);
    }

    /// The slots of the entries with this hash.
    fn run(&self, hash: KeyHash) -> impl Iterator<Item = usize> + '_ {
        let count = self.places.len();
        let home = if count == 0 { 0 } else { self.home(hash.bits) };
        (0..count)
            .map(move |step| if home + step < count { home + step } else { home + step - count })
            .take_while(|slot| self.places[*slot] != 0)
            .filter(move |slot| self.hashes[*slot] == hash.bits)
    }

    /// The slot where a search begins: the hash as a fraction of the table.
    fn home(&self, bits: u32) -> usize {
        usize::try_from((u64::from(bits) * self.places.len() as u64) >> 32).expect("below the table's length")
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.places.len() { 0 } else { slot + 1 }
    }

    fn put(&mut self, slot: usize, bits: u32, place: u64, sequence: u64) {
        self.hashes[slot] = bits;
        self.places[slot] = place;
        if let Some(entry) = self.sequences.get_mut(slot) {
            *entry = sequence;
        }
    }

    /// Empties a slot and moves later entries of the run back, so that none is cut off from its home.
    fn remove_slot(&mut self, mut hole: usize) {
        self.used -= 1;
        let count = self.places.len();
        let mut slot = hole;
        loop {
            self.places[hole] = 0;
            loop {
                slot = self.after(slot);
                if self.places[slot] == 0 {
                    return;
                }
                // May the entry move? Only if its home is not behind the hole on the way to where it stands.
                let home = self.home(self.hashes[slot]);
                let from_home = (slot + count - home) % count;
                let from_hole = (slot + count - hole) % count;
                if from_home >= from_hole {
                    break;
                }
            }
            let sequence = self.sequences.get(slot).copied().unwrap_or(0);
            self.put(hole, self.hashes[slot], self.places[slot], sequence);
            hole = slot;
        }
    }

    /// Makes the table a quarter larger: a small step wastes little memory, and a shard is small.
    fn grow(&mut self) {
        let count = (self.places.len() * 5 / 4).max(self.places.len() + MIN_SLOTS);
        let hashes = std::mem::replace(&mut self.hashes, vec![0; count]);
        let places = std::mem::replace(&mut self.places, vec![0; count]);
        let sequences = std::mem::replace(&mut self.sequences, vec![0; if self.replaying { count } else { 0 }]);
        for (from, place) in places.iter().copied().enumerate().filter(|(_, place)| *place != 0) {
            let mut slot = self.home(hashes[from]);
            while self.places[slot] != 0 {
                slot = self.after(slot);
            }
            let sequence = sequences.get(from).copied().unwrap_or(0);
            self.put(slot, hashes[from], place, sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hash of which few differ, so that runs and collisions are the rule.
    fn crowded(number: u64) -> KeyHash {
        KeyHash { shard: 0, bits: u32::try_from(number % 7).unwrap() * 600_000_000 }
    }

    fn place(number: u64) -> Location {
        Location::new(0, 100 + number, false, 50)
    }

    proptest! {
        /// The shard is a multimap from hash to place.
        #[test]
        fn a_crowded_shard_loses_nothing(steps in proptest::collection::vec((any::<bool>(), 0_u64..200), 0..400)) {
            let mut shard = Shard::default();
            shard.begin_replay();
            let mut model = std::collections::BTreeMap::new();
            for (insert, number) in steps {
                if insert && !model.contains_key(&number) {
                    shard.insert_with_sequence(crowded(number), place(number), number + 1);
                    model.insert(number, ());
                } else {
                    let there = model.remove(&number).is_some();
                    prop_assert_eq!(shard.remove(crowded(number), place(number)), there);
                }
                for number in model.keys() {
                    prop_assert!(shard.contains(crowded(*number), place(*number)), "{} is lost", number);
                    prop_assert_eq!(shard.sequence_of(crowded(*number), place(*number)), Some(number + 1));
                }
                prop_assert_eq!(shard.used, model.len());
            }
        }
    }

    proptest! {
        /// Slices of any size, put together, are the shard, in the order of the hashes; and no hash is cut in two.
        #[test]
        fn slices_are_the_whole_shard(hashes in proptest::collection::vec(any::<u32>(), 0..300), least in 0_usize..20) {
            let mut shard = Shard::default();
            // Half of them at the end of the table, so that runs go over it.
            let hashes: Vec<u32> = hashes.iter().enumerate().map(|(at, bits)| if at % 2 == 0 { bits | 0xffc0_0000 } else { *bits }).collect();
            for (number, bits) in hashes.iter().enumerate() {
                shard.insert(KeyHash::at(0, *bits), place(number as u64));
            }
            let (mut found, mut from) = (Vec::new(), Some(0));
            while let Some(bits) = from {
                let (entries, next) = shard.slice(bits, least);
                prop_assert!(next.is_none_or(|next| next > bits && entries.len() >= least));
                prop_assert!(entries.iter().all(|(at, _)| *at >= bits && next.is_none_or(|next| *at < next)));
                found.extend(entries.into_iter().map(|(at, place)| (at, place.offset())));
                from = next;
            }
            prop_assert!(found.is_sorted_by_key(|(at, _)| *at));
            let mut wanted: Vec<_> = hashes.iter().zip(0_u64..).map(|(at, number)| (*at, place(number).offset())).collect();
            found.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn the_end_of_a_replay_takes_tombstones_out() {
        let mut shard = Shard::default();
        shard.begin_replay();
        for number in 0..100 {
            let place = if number % 3 == 0 { Location::tombstone(0, 100 + number, false) } else { place(number) };
            shard.insert_with_sequence(crowded(number), place, number);
        }
        let mut left = 0;
        shard.end_replay(|place| {
            assert!(!place.is_tombstone());
            left += 1;
        });
        assert_eq!((left, shard.used), (66, 66));
        assert!(shard.contains(crowded(1), place(1)) && !shard.contains(crowded(3), place(3)));
    }

    #[test]
    fn an_entry_costs_at_most_24_bytes() {
        let index = Index::new();
        for number in 0..200_000_u64 {
            let hash = index.hash(&number.to_le_bytes());
            index.lock(hash).insert(hash, place(number % 1000));
        }
        let (entries, bytes) = index.size();
        assert_eq!(entries, 200_000);
        assert!(bytes / entries <= 24, "{bytes} bytes for {entries} entries");
    }
}
