//! The index in memory: hash of a key to the place of its record, twelve bytes a slot, whatever the key's length.
//!
//! A key's hash chooses a [`Shard`], each with a lock of its own, and 32 bits within it. Two keys may share a hash, so
//! a hit is a candidate until the key in the record was compared; the caller does that, without the shard's lock,
//! because it may read the disk.

mod shard;

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip::SipHasher13;

use crate::sync::{Mutex, MutexGuard, PoisonError};
pub(crate) use shard::Shard;

/// How many shards: each is locked and grown for itself. At 10 million keys one holds 40,000, so growing one takes
/// less than a millisecond. Where schedules are tried there are few, so that keys do meet in one.
pub(crate) const SHARDS: usize = if cfg!(shuttle) { 4 } else { 256 };

/// The index of a store.
pub(crate) struct Index {
    /// Rank 0, taken before every other lock; more than one only in ascending order. Never held across a read of the
    /// disk. An append to the log under it may wait for a full queue or for the next segment's file.
    shards: Box<[Mutex<Shard>]>,
    hash_key: HashKey,
}

/// The secret of the hash: chosen at random, so that nobody can choose keys that collide, and kept with what is stored
/// by hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashKey(pub(crate) [u8; 16]);

impl HashKey {
    /// A new one. The standard library's hasher takes its keys from the operating system's random source.
    pub(crate) fn random() -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&RandomState::new().hash_one(1).to_le_bytes());
        key[8..].copy_from_slice(&RandomState::new().hash_one(2).to_le_bytes());
        Self(key)
    }
}

/// The hash of a key: which shard, and 32 bits within it, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyHash {
    pub(crate) shard: usize,
    pub(crate) bits: u32,
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
    /// An empty index.
    pub(crate) fn new(hash_key: HashKey) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(), hash_key }
    }

    /// The secret of the hash.
    pub(crate) fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key.0);
        hasher.write(key);
        let hash = hasher.finish();
        KeyHash {
            shard: usize::try_from(hash >> 32).expect("32 bits") % SHARDS,
            bits: u32::try_from(hash & u64::from(u32::MAX)).expect("32 bits").max(1),
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
            entries += shard.len() as u64;
            bytes += shard.heap_bytes() as u64;
        });
        (entries, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::location::Location;
    use super::*;

    #[test]
    fn an_entry_costs_at_most_16_bytes() {
        let index = Index::new(HashKey([7; 16]));
        for number in 0..400_000_u64 {
            let hash = index.hash(&number.to_le_bytes());
            index.lock(hash).insert(hash, Location::new(0, 100 + number, false, 50));
        }
        let (entries, bytes) = index.size();
        assert_eq!(entries, 400_000);
        assert!(bytes / entries <= 16, "{bytes} bytes for {entries} entries");
    }

    #[test]
    fn the_hash_depends_on_its_secret_and_on_nothing_else() {
        let (first, second) = (Index::new(HashKey([1; 16])), Index::new(HashKey([2; 16])));
        assert_eq!(first.hash(b"key"), Index::new(HashKey([1; 16])).hash(b"key"));
        assert_ne!(first.hash(b"key"), second.hash(b"key"));
        assert_ne!(HashKey::random(), HashKey::random());
    }
}
