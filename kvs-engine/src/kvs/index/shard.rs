//! One part of the index: a table with open addressing whose entries stand in the order of their hashes.
//!
//! What must hold: entries stand in ascending order of their hashes, none before its home slot, and no empty slot lies
//! between an entry and its home; the table is never more than 7/8 full, so that runs stay short. It does not wrap:
//! slots behind the last home take what is pushed out of it.
//!
//! Source: ordered hash tables with linear probing (Amble and Knuth, The Computer Journal 17, 1974). The order ends a
//! search for what is not there early, and lets a table grow by one pass from front to back.

use super::KeyHash;
use crate::kvs::location::Location;
use crate::prefetch;

/// The fewest homes of a table that has any entry.
const MIN_HOMES: usize = 8;
/// Slots behind the last home, at first.
const SPARE_SLOTS: usize = 16;

/// One part of the index.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// 32 bits of each entry's hash; zero is an empty slot.
    hashes: Vec<u32>,
    /// Each entry's [`Location`].
    places: Vec<u64>,
    /// Slots that are the home of some hash; those behind are spare.
    homes: usize,
    used: usize,
    /// The sequence of the last removal in this shard: an answer "not there" depends on it.
    pub(crate) removed_at: u64,
}

impl Shard {
    /// A table of entries that come in the order of their hashes.
    pub(crate) fn from_sorted(entries: impl ExactSizeIterator<Item = (u32, Location)>) -> Self {
        let count = entries.len();
        let mut shard = Self::with_homes(homes_for(count));
        let mut next = 0;
        for (bits, place) in entries {
            next = shard.home(bits).max(next);
            shard.extend_to(next);
            shard.put(next, bits, place.to_bits());
            next += 1;
        }
        shard.used = count;
        shard
    }

    fn with_homes(homes: usize) -> Self {
        let slots = if homes == 0 { 0 } else { homes + SPARE_SLOTS };
        Self { hashes: vec![0; slots], places: vec![0; slots], homes, used: 0, removed_at: 0 }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Bytes of the table.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.hashes.capacity() * size_of::<u32>() + self.places.capacity() * size_of::<u64>()
    }

    /// The places of all records whose key may be the one with this hash: nearly always none or one.
    pub(crate) fn candidates(&self, hash: KeyHash) -> impl Iterator<Item = Location> + '_ {
        self.run(hash.bits).filter_map(|slot| Location::from_bits(self.places[slot]))
    }

    /// Brings nearer what a look at this hash reads.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        if self.homes > 0 {
            let home = self.home(hash.bits);
            prefetch::element(&self.hashes, home);
            prefetch::element(&self.places, home);
        }
    }

    /// All entries in the order of their hashes, from the first one whose hash is at least `bits`.
    pub(crate) fn entries_from(&self, bits: u32) -> impl Iterator<Item = (u32, Location)> + '_ {
        let start = if self.homes == 0 { 0 } else { self.home(bits) };
        let slots = self.hashes[start..].iter().zip(&self.places[start..]);
        slots.filter(move |(found, _)| **found >= bits.max(1)).filter_map(|(found, place)| {
            let place = Location::from_bits(*place)?;
            Some((*found, place))
        })
    }

    /// The next entries for a scan: all whose hashes lie from `from` up to, not including, the hash that is returned
    /// with them, in ascending order; those are at least `least` unless there are no more, which `None` says. Goes on at
    /// its hash however the table has grown since.
    pub(crate) fn slice(&self, from: u32, least: usize) -> (Vec<(u32, Location)>, Option<u32>) {
        let mut entries: Vec<(u32, Location)> = Vec::new();
        for (bits, place) in self.entries_from(from) {
            if entries.len() >= least.max(1) && entries.last().is_some_and(|(last, _)| *last != bits) {
                return (entries, Some(bits));
            }
            entries.push((bits, place));
        }
        (entries, None)
    }

    /// Adds an entry, without asking whether the key has one; behind those of the same hash.
    pub(crate) fn insert(&mut self, hash: KeyHash, place: Location) {
        if (self.used + 1) * 8 > self.homes * 7 {
            self.grow();
        }
        let mut slot = self.home(hash.bits);
        while self.hashes.get(slot).is_some_and(|found| *found != 0 && *found <= hash.bits) {
            slot += 1;
        }
        let mut hole = slot;
        while self.hashes.get(hole).is_some_and(|found| *found != 0) {
            hole += 1;
        }
        self.extend_to(hole);
        self.hashes.copy_within(slot..hole, slot + 1);
        self.places.copy_within(slot..hole, slot + 1);
        self.put(slot, hash.bits, place.to_bits());
        self.used += 1;
    }

    /// Puts `new` where `old` stands; returns whether it stood there.
    pub(crate) fn replace(&mut self, hash: KeyHash, old: Location, new: Location) -> bool {
        let slot = self.slot_of(hash, old);
        if let Some(slot) = slot {
            self.places[slot] = new.to_bits();
        }
        slot.is_some()
    }

    /// Takes an entry out; returns whether it was there.
    pub(crate) fn remove(&mut self, hash: KeyHash, old: Location) -> bool {
        let slot = self.slot_of(hash, old);
        if let Some(slot) = slot {
            self.remove_slot(slot);
        }
        slot.is_some()
    }

    /// Takes out every entry that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Location) -> bool) {
        let kept: Vec<_> = self.entries_from(0).filter(|(_, place)| keep(*place)).collect();
        if kept.len() < self.used {
            let removed_at = self.removed_at;
            *self = Self::from_sorted(kept.into_iter());
            self.removed_at = removed_at;
        }
    }

    fn slot_of(&self, hash: KeyHash, place: Location) -> Option<usize> {
        self.run(hash.bits).find(|slot| self.places[*slot] == place.to_bits())
    }

    /// The slots of the entries with this hash.
    fn run(&self, bits: u32) -> impl Iterator<Item = usize> + '_ {
        let home = if self.homes == 0 { 0 } else { self.home(bits) };
        (home..self.hashes.len())
            .take_while(move |slot| (1..=bits).contains(&self.hashes[*slot]))
            .filter(move |slot| self.hashes[*slot] == bits)
    }

    /// The slot where a search begins: the hash as a fraction of the table.
    fn home(&self, bits: u32) -> usize {
        usize::try_from((u64::from(bits) * self.homes as u64) >> 32).expect("below the table's length")
    }

    fn put(&mut self, slot: usize, bits: u32, place: u64) {
        self.hashes[slot] = bits;
        self.places[slot] = place;
    }

    /// Makes sure that a slot exists.
    fn extend_to(&mut self, slot: usize) {
        if slot >= self.hashes.len() {
            let more = slot + 1 - self.hashes.len() + SPARE_SLOTS;
            self.hashes.reserve_exact(more);
            self.hashes.resize(self.hashes.len() + more, 0);
            self.places.reserve_exact(more);
            self.places.resize(self.places.len() + more, 0);
        }
    }

    /// Empties a slot and moves the entries behind it one back, as far as none comes before its home.
    fn remove_slot(&mut self, slot: usize) {
        let mut end = slot + 1;
        while self.hashes.get(end).is_some_and(|bits| *bits != 0 && self.home(*bits) < end) {
            end += 1;
        }
        self.hashes.copy_within(slot + 1..end, slot);
        self.places.copy_within(slot + 1..end, slot);
        self.put(end - 1, 0, 0);
        self.used -= 1;
    }

    /// Makes the table an eighth larger: a small step wastes little memory, and a shard is small.
    fn grow(&mut self) {
        let homes = (self.homes * 9 / 8).max(self.homes + MIN_HOMES);
        let mut larger = Self::with_homes(homes);
        let mut next = 0;
        for slot in (0..self.hashes.len()).filter(|slot| self.hashes[*slot] != 0) {
            next = larger.home(self.hashes[slot]).max(next);
            larger.extend_to(next);
            larger.put(next, self.hashes[slot], self.places[slot]);
            next += 1;
        }
        (larger.used, larger.removed_at) = (self.used, self.removed_at);
        *self = larger;
    }
}

/// Homes for so many entries, of which a few more come soon: a table that is less than 5/6 full.
fn homes_for(count: usize) -> usize {
    if count == 0 { 0 } else { (count * 6 / 5).max(MIN_HOMES) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hash of which few differ, so that runs and collisions are the rule, and some stand at the very end.
    fn crowded(number: u64) -> KeyHash {
        KeyHash { shard: 0, bits: u32::try_from(number % 8).unwrap() * 613_566_756 + 1 }
    }

    fn place(number: u64) -> Location {
        Location::new(0, 100 + number, false, 50)
    }

    /// What the head of this file says must hold.
    fn check_order(shard: &Shard) {
        let mut last = 0;
        for (slot, bits) in shard.hashes.iter().enumerate().filter(|(_, bits)| **bits != 0) {
            assert!(*bits >= last, "the order is broken at slot {slot}");
            let home = shard.home(*bits);
            assert!(home <= slot, "an entry stands before its home");
            assert!(shard.hashes[home..slot].iter().all(|bits| *bits != 0), "a gap cuts slot {slot} off from its home");
            last = *bits;
        }
        assert_eq!(shard.entries_from(0).count(), shard.used);
    }

    proptest! {
        /// The shard is a multimap from hash to place.
        #[test]
        fn a_crowded_shard_loses_nothing(steps in proptest::collection::vec((any::<bool>(), 0_u64..200), 0..400)) {
            let mut shard = Shard::default();
            let mut model = std::collections::BTreeMap::new();
            for (insert, number) in steps {
                if insert && !model.contains_key(&number) {
                    shard.insert(crowded(number), place(number));
                    model.insert(number, ());
                } else {
                    let there = model.remove(&number).is_some();
                    prop_assert_eq!(shard.remove(crowded(number), place(number)), there);
                }
                check_order(&shard);
                for number in model.keys() {
                    let found = shard.candidates(crowded(*number)).any(|found| found == place(*number));
                    prop_assert!(found, "{} is lost", number);
                }
                prop_assert_eq!(shard.used, model.len());
            }
            let rebuilt = Shard::from_sorted(shard.entries_from(0).collect::<Vec<_>>().into_iter());
            check_order(&rebuilt);
            prop_assert!(rebuilt.entries_from(0).eq(shard.entries_from(0)));
        }

        /// A look from any hash on sees exactly the entries from there on.
        #[test]
        fn a_look_can_begin_anywhere(hashes in proptest::collection::vec(1_u32.., 0..300), from: u32) {
            let mut shard = Shard::default();
            for bits in &hashes {
                shard.insert(KeyHash { shard: 0, bits: *bits }, place(u64::from(*bits) % 1000));
            }
            check_order(&shard);
            let mut expected: Vec<u32> = hashes.into_iter().filter(|bits| *bits >= from).collect();
            expected.sort_unstable();
            prop_assert_eq!(shard.entries_from(from).map(|(bits, _)| bits).collect::<Vec<_>>(), expected);
        }

        /// Slices of any size, put together, are the shard, in the order of the hashes; and no hash is cut in two.
        #[test]
        fn slices_are_the_whole_shard(hashes in proptest::collection::vec(1_u32.., 0..300), least in 0_usize..20) {
            let mut shard = Shard::default();
            // Half of them at the end of the table, where what is pushed out finds its place behind it.
            let at_the_end = |(at, bits): (usize, &u32)| if at % 2 == 0 { bits | 0xffc0_0000 } else { *bits };
            let mut hashes: Vec<u32> = hashes.iter().enumerate().map(at_the_end).collect();
            for (number, bits) in hashes.iter().enumerate() {
                shard.insert(KeyHash::at(0, *bits), place(number as u64));
            }
            check_order(&shard);
            let (mut found, mut from) = (Vec::new(), Some(0));
            while let Some(bits) = from {
                let (entries, next) = shard.slice(bits, least);
                prop_assert!(next.is_none_or(|next| next > bits && entries.len() >= least));
                prop_assert!(entries.iter().all(|(at, _)| *at >= bits && next.is_none_or(|next| *at < next)));
                found.extend(entries.into_iter().map(|(at, _)| at));
                from = next;
            }
            hashes.sort_unstable();
            prop_assert_eq!(found, hashes);
        }
    }

    #[test]
    fn what_is_not_wanted_goes_and_the_rest_stays() {
        let mut shard = Shard { removed_at: 9, ..Shard::default() };
        for number in 0..100 {
            let place = if number % 3 == 0 { Location::tombstone(0, 100 + number, false) } else { place(number) };
            shard.insert(crowded(number), place);
        }
        shard.retain(|place| !place.is_tombstone());
        check_order(&shard);
        assert_eq!((shard.used, shard.removed_at), (66, 9));
        assert!(shard.candidates(crowded(1)).any(|found| found == place(1)));
    }
}
