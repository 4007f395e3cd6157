//! Numbers that look random and are the same for the same seed.

/// A generator (xorshift64*, Vigna 2014): good enough to choose keys and moments, and five lines long.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator for a seed; every seed will do.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Far apart for seeds that are close together; never zero, where this generator would stay.
        Self { state: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// The next number.
    #[must_use]
    pub const fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is above zero.
    #[must_use]
    pub const fn below(&mut self, limit: u64) -> u64 {
        // The upper half is the better one.
        (self.number() >> 32) % limit
    }
}
