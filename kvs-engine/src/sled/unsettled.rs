//! Which keys were changed by writes whose answers are still held.
//!
//! What must hold: a reader that saw a change finds the key here until that change is settled. It may find a key a
//! little longer than needed (two keys can share a hash): then its answer waits for one sync more, no harm done.
//!
//! At any moment at most two groups are unsettled: the one that the committer is syncing and the one that gathers
//! meanwhile. So two sets of hashes a shard are enough, and nothing is ever searched for entries to throw away.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shards of the key space. A power of two that fits a 64-bit mask, so that a batch can lock its shards in order.
const SHARDS: usize = 64;

/// The sets of all shards.
pub(super) struct Unsettled {
    /// Each lock orders the writers of its keys: it is held while a write is applied to sled and queued. Rank: taken
    /// before the queue's lock; several of them only in ascending order. sled may do I/O under it.
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

/// The unsettled keys of one shard.
#[derive(Default)]
pub(super) struct Shard {
    /// The group of the hashes in `current`; `previous` belongs to the group before it.
    generation: u64,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl Unsettled {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// The hash under which a key is known here.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Locks the shard of one key.
    pub(super) fn lock(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[index(hash)])
    }

    /// Returns when every writer that was at work on any key has marked its change.
    pub(super) fn wait_for_writers(&self) {
        self.shards.iter().for_each(|shard| drop(lock(shard)));
    }

    /// Locks the shards of many keys, each once, in ascending order so that two batches never wait for each other.
    pub(super) fn lock_all(&self, hashes: &[u64]) -> Locked<'_> {
        let mask = hashes.iter().fold(0_u64, |mask, &hash| mask | 1 << index(hash));
        let shards = self.shards.iter().enumerate();
        Locked(shards.map(|(index, shard)| (mask >> index & 1 == 1).then(|| lock(shard))).collect())
    }
}

/// The locked shards of a batch, at their index.
pub(super) struct Locked<'a>(Vec<Option<MutexGuard<'a, Shard>>>);

impl Locked<'_> {
    /// As [`Shard::mark`], in the shard of the hash.
    pub(super) fn mark(&mut self, hash: u64, generation: u64) {
        self.0[index(hash)].as_mut().expect("the shards of all hashes were locked").mark(hash, generation);
    }
}

impl Shard {
    /// Notes that the key's newest change belongs to group `generation`, which never falls from call to call.
    pub(super) fn mark(&mut self, hash: u64, generation: u64) {
        if generation > self.generation {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
            if generation > self.generation + 1 {
                // A whole group passed without a write here, so that what swapped over is settled.
                self.previous.clear();
            }
            self.generation = generation;
        }
        self.current.insert(hash);
    }

    /// Whether the key has a change in a group after `settled`, the last group that is settled.
    pub(super) fn contains(&self, hash: u64, settled: u64) -> bool {
        (self.generation > settled && self.current.contains(&hash))
            || (self.generation > settled + 1 && self.previous.contains(&hash))
    }
}

fn index(hash: u64) -> usize {
    usize::try_from(hash % SHARDS as u64).expect("less than the number of shards")
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_unsettled_until_its_group_is() {
        let mut shard = Shard::default();
        shard.mark(7, 1);
        assert!(shard.contains(7, 0));
        assert!(!shard.contains(7, 1));
        assert!(!shard.contains(8, 0));
    }

    #[test]
    fn the_group_under_sync_and_the_gathering_one_are_told_apart() {
        let mut shard = Shard::default();
        shard.mark(7, 4);
        shard.mark(8, 5);
        assert!(shard.contains(7, 3) && shard.contains(8, 3));
        assert!(!shard.contains(7, 4) && shard.contains(8, 4));
        assert!(!shard.contains(7, 5) && !shard.contains(8, 5));
    }

    #[test]
    fn an_older_change_is_forgotten_after_two_groups() {
        let mut shard = Shard::default();
        shard.mark(7, 1);
        shard.mark(8, 3);
        assert!(!shard.contains(7, 2));
        shard.mark(7, 4);
        assert!(shard.contains(7, 3), "changed again");
        assert!(!shard.contains(8, 3));
    }

    #[test]
    fn a_batch_marks_every_shard_that_it_locked() {
        let unsettled = Unsettled::new();
        let hashes: Vec<u64> = (0..200_u64).map(|number| unsettled.hash(&number.to_le_bytes())).collect();
        let mut locked = unsettled.lock_all(&hashes);
        hashes.iter().for_each(|&hash| locked.mark(hash, 1));
        drop(locked);
        assert!(hashes.iter().all(|&hash| unsettled.lock(hash).contains(hash, 0)));
    }
}
