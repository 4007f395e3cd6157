//! Keys and values: the same ones, in the same order, for every peer.
//!
//! What must hold: the key of an index never depends on peer, round or process, so that a child process can look up
//! what another one stored; keys are in random order by their bytes; values don't compress.

use serde::{Deserialize, Serialize};

/// Bytes of a key unless a figure says otherwise.
pub const KEY_BYTES: usize = 24;
/// Bytes of a value unless a figure says otherwise.
pub const VALUE_BYTES: usize = 150;
/// What a value is a slice of: large enough that no cache of a peer sees the same bytes often.
const POOL_BYTES: usize = 1 << 20;
/// The letters of printable data: six bits each, none that JSON must escape.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What keys and values are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Letters, digits and two signs: what the log holds as JSON text.
    Text,
    /// Any bytes.
    Binary,
}

/// A source of keys and values.
pub struct Data {
    kind: Kind,
    key_bytes: usize,
    value_bytes: usize,
    pool: Vec<u8>,
}

/// The next of a well-mixed sequence of numbers (SplitMix64, Steele, Lea and Flood 2014).
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Data {
    /// Keys and values of such sizes.
    pub fn with_sizes(kind: Kind, key_bytes: usize, value_bytes: usize) -> Self {
        let mut pool = Vec::with_capacity(POOL_BYTES);
        let mut state = 1;
        while pool.len() < POOL_BYTES {
            state = mix(state);
            push(&mut pool, state, kind);
        }
        Self { kind, key_bytes, value_bytes, pool }
    }

    /// Bytes that a user stored with so many keys.
    pub fn user_bytes(&self, keys: u64) -> u64 {
        keys * (self.key_bytes + self.value_bytes) as u64
    }

    /// Writes the key of an index into a buffer.
    pub fn key_into(&self, index: u64, key: &mut Vec<u8>) {
        key.clear();
        let mut state = index.wrapping_mul(0x2545_f491_4f6c_dd1d);
        while key.len() < self.key_bytes {
            state = mix(state);
            push(key, state, self.kind);
        }
        key.truncate(self.key_bytes);
    }

    /// The key of an index.
    pub fn key(&self, index: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.key_bytes + 16);
        self.key_into(index, &mut key);
        key
    }

    /// The value that an index has in a version.
    pub fn value(&self, index: u64, version: u64) -> &[u8] {
        let places = (self.pool.len() - self.value_bytes) as u64;
        let place = mix(mix(index) ^ version) % places;
        let place = usize::try_from(place).expect("a place lies within the pool");
        &self.pool[place..place + self.value_bytes]
    }
}

/// Appends what 64 random bits give: ten letters or eight bytes.
fn push(bytes: &mut Vec<u8>, mut random: u64, kind: Kind) {
    match kind {
        Kind::Text => {
            for _ in 0..10 {
                bytes.push(LETTERS[(random & 63) as usize]);
                random >>= 6;
            }
        }
        Kind::Binary => bytes.extend_from_slice(&random.to_le_bytes()),
    }
}

/// A cheap sequence of random numbers.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A number below a bound, evenly enough for bounds far below 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((mix(self.0) >> 32) * bound) >> 32
    }

    /// All numbers below a bound, each once, in random order.
    pub fn permutation(&mut self, bound: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..bound).collect();
        for place in (1..numbers.len()).rev() {
            let other = usize::try_from(self.below(place as u64 + 1)).expect("it is below a length");
            numbers.swap(place, other);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_distinct_and_the_same_every_time() {
        for kind in [Kind::Text, Kind::Binary] {
            let data = || Data::with_sizes(kind, KEY_BYTES, VALUE_BYTES);
            let fresh = data();
            let keys: HashSet<Vec<u8>> = (0..10_000).map(|index| fresh.key(index)).collect();
            assert_eq!(keys.len(), 10_000);
            assert_eq!(data().key(7), data().key(7));
            assert_ne!(data().value(7, 0), data().value(7, 1));
            assert!(keys.iter().all(|key| key.len() == KEY_BYTES));
        }
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        let numbers = Random::new(3).permutation(1_000);
        assert_ne!(numbers, (0..1_000).collect::<Vec<u64>>());
        assert_eq!(numbers.iter().copied().collect::<HashSet<u64>>().len(), 1_000);
    }
}
