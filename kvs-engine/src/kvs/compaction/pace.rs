//! How fast work in the background may read and write.

use std::time::{Duration, Instant};

/// Slows work down to a rate, which may be another one at each step.
pub(in crate::kvs) struct Pace {
    started: Instant,
    /// How long what was counted takes at the rates of its time.
    due: Duration,
}

impl Pace {
    /// Work that begins now.
    pub(in crate::kvs) fn new() -> Self {
        Self { started: Instant::now(), due: Duration::ZERO }
    }

    /// Counts bytes at the rate of now and returns how long to pause.
    pub(in crate::kvs) fn count(&mut self, bytes: u64, bytes_per_second: u64) -> Duration {
        let due_us = bytes.saturating_mul(1_000_000) / bytes_per_second.max(1);
        self.due = self.due.saturating_add(Duration::from_micros(due_us));
        self.due.saturating_sub(self.started.elapsed())
    }

    /// Goes on as if what was counted had taken as long as it should have.
    pub(in crate::kvs) fn forgive(&mut self) {
        self.due = self.started.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_paced_by_the_rate_of_its_time() {
        let mut pace = Pace::new();
        let slow = pace.count(1_000_000, 10_000);
        assert!(slow > Duration::from_secs(90) && slow <= Duration::from_secs(100), "{slow:?}");
        // A faster step adds little to what is due, and takes nothing back.
        let fast = pace.count(1_000_000, 1_000_000);
        assert!(fast > Duration::from_secs(91) && fast <= Duration::from_secs(101), "{fast:?}");
        pace.forgive();
        let next = pace.count(1_000_000, 1_000_000);
        assert!(next <= Duration::from_secs(1), "{next:?}: what is forgiven is not waited for later");
        assert_eq!(Pace::new().count(1, u64::MAX), Duration::ZERO);
    }
}
