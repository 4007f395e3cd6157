//! `Repeated`: what happens again and again is logged now and then, with how often it happened meanwhile.
//!
//! What must hold: the first time is logged at once; afterwards one line in [`REPEATED_LOG`], whatever happens.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::REPEATED_LOG;

/// One kind of event.
#[derive(Debug, Default)]
pub(crate) struct Repeated(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Since the last line.
    count: u64,
    logged: Option<Instant>,
}

impl Repeated {
    /// Counts an event; gives how many there were since the last line when it is time for another one.
    pub(crate) fn count(&self) -> Option<u64> {
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
