//! `Repeated`: what happens again and again is logged now and then, with how often it happened meanwhile.
//!
//! What must hold: the first time is logged at once; afterwards one line in ten seconds, whatever happens.

use std::time::{Duration, Instant};

use crate::sync::{Mutex, PoisonError};

/// Between two lines about the same kind of event.
const REPEATED_LOG: Duration = Duration::from_secs(10);

/// One kind of event.
#[derive(Debug, Default)]
pub struct Repeated(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Since the last line.
    count: u64,
    logged: Option<Instant>,
}

impl Repeated {
    /// Counts an event; gives how many there were since the last line when it is time for another one.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.count += 1;
        if seen.logged.is_some_and(|logged| now.duration_since(logged) < REPEATED_LOG) {
            return None;
        }
        seen.logged = Some(now);
        Some(std::mem::take(&mut seen.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_times_are_two_lines() {
        let (repeated, begin) = (Repeated::default(), Instant::now());
        assert_eq!(repeated.count_at(begin), Some(1));
        assert!((0..999).all(|_| repeated.count_at(begin).is_none()));
        assert_eq!(repeated.count_at(begin + REPEATED_LOG), Some(1000));
        assert_eq!(repeated.count_at(begin + REPEATED_LOG), None);
    }
}
