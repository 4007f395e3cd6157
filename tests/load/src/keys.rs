//! Keys and values of the load: the keys of redis-benchmark, so that it finds what we stored, and values that don't
//! compress.

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value unless the caller says otherwise.
pub const VALUE_BYTES: usize = 150;
/// What a value is a slice of.
const POOL_BYTES: usize = 1 << 16;
/// Six bits each, none that JSON must escape.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The key of an index, as `redis-benchmark -r` spells it.
#[must_use]
pub fn key(mut index: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    for digit in key.iter_mut().skip(4).rev() {
        *digit = b"0123456789"[usize::try_from(index % 10).expect("a digit")];
        index /= 10;
    }
    key
}

/// A sequence of numbers that looks random and is the same for the same seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[must_use]
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound, evenly enough for bounds far below 2^32; 0 for the bound 0.
    #[must_use]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.number() >> 32) * bound) >> 32
    }
}

/// Where values come from.
#[derive(Debug, Clone)]
pub struct Values {
    pool: Vec<u8>,
    bytes: usize,
}

impl Values {
    /// Values of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let mut numbers = Numbers::new(1);
        let letter = |_| LETTERS[usize::try_from(numbers.below(64)).expect("one of 64")];
        Self { pool: (0..POOL_BYTES + bytes).map(letter).collect(), bytes }
    }

    /// A value that a number chooses.
    #[must_use]
    pub fn value(&self, number: u64) -> &[u8] {
        let place = usize::try_from(number % POOL_BYTES as u64).expect("it lies within the pool");
        &self.pool[place..place + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_redis_benchmark() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(987_654), b"key:000000987654");
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut numbers = Numbers::new(5);
        let seen: Vec<u64> = (0..1_000).map(|_| numbers.below(10)).collect();
        assert!(seen.iter().all(|number| *number < 10) && (0..10).all(|number| seen.contains(&number)));
    }
}
