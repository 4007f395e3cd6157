//! `Scale`: a whole run, or a quick one that shows whether it works.

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Divides every count.
    divisor: u64,
    /// Rounds, instead of each figure's own.
    rounds: Option<usize>,
}

impl Scale {
    /// The whole, or a twentieth of it.
    pub fn new(is_quick: bool, rounds: Option<usize>) -> Self {
        Self { divisor: if is_quick { 20 } else { 1 }, rounds: rounds.or(is_quick.then_some(1)) }
    }

    /// A count, divided.
    pub fn count(self, count: u64) -> u64 {
        (count / self.divisor).max(1)
    }

    /// A time in seconds; a quick run takes a quarter.
    pub fn seconds(self, seconds: f64) -> f64 {
        if self.divisor > 1 { seconds / 4.0 } else { seconds }
    }

    /// Rounds, where a figure has a number of its own.
    pub fn rounds(self, rounds: usize) -> usize {
        self.rounds.unwrap_or(rounds)
    }
}
