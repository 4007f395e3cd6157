//! `Output`: encoded answers on their way to the client, and the clock that runs while it does not take them.
//!
//! What must hold: what is taken leaves the memory, also when there is always more to take; the clock begins again only
//! when all that was there at its beginning is taken, so that a client that trickles can't hold its answers for ever.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::SLOWEST_RATE_BYTES;

/// Encoded answers.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Those before this place are taken.
    taken: usize,
    clock: Option<Clock>,
}

/// The client must take what there is.
#[derive(Debug)]
struct Clock {
    since: Instant,
    /// Bytes of what was there at the beginning that are not yet taken.
    rest: usize,
    /// Bytes that were there at the beginning.
    total: usize,
}

impl Output {
    /// What the client has not taken yet.
    pub(super) fn untaken(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Whether the client has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.untaken().is_empty()
    }

    /// The memory that the output takes, in bytes.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where the next answer is appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }

    /// The client took so many bytes.
    pub(super) fn take(&mut self, count: usize, now: Instant) {
        self.taken += count;
        if self.is_empty() {
            self.bytes.clear();
            self.taken = 0;
            self.clock = None;
        } else if let Some(clock) = &mut self.clock {
            clock.rest = clock.rest.saturating_sub(count);
            if clock.rest == 0 {
                self.clock = None;
                self.is_blocked(now);
            }
        }
    }

    /// The client takes nothing now: the clock runs, if there is something to take.
    pub(super) fn is_blocked(&mut self, now: Instant) {
        if self.clock.is_none() && !self.is_empty() {
            let total = self.untaken().len();
            self.clock = Some(Clock { since: now, rest: total, total });
        }
    }

    /// Until when the client must have taken what was there when it stopped taking.
    pub(super) fn deadline(&self, write_deadline: Duration) -> Option<Instant> {
        self.clock.as_ref().map(|clock| clock.since + write_deadline + time_for(clock.total))
    }

    /// Gives back the memory of an output that is empty.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// How much longer than usual so many bytes may take.
pub(super) const fn time_for(bytes: usize) -> Duration {
    Duration::from_secs((bytes / SLOWEST_RATE_BYTES) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WRITE_DEADLINE;

    #[test]
    fn an_output_that_is_never_empty_does_not_grow() {
        let mut output = Output::default();
        output.tail().extend_from_slice(&[0; 1000]);
        for _ in 0..10_000 {
            output.tail().extend_from_slice(&[0; 1000]);
            output.take(1000, Instant::now());
            assert_eq!(output.untaken().len(), 1000);
        }
        assert!(output.capacity_bytes() < 10_000, "{}", output.capacity_bytes());
    }

    #[test]
    fn trickling_does_not_stop_the_clock_and_taking_all_of_it_does() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut output = Output::default();
        assert_eq!(output.deadline(WRITE_DEADLINE), None);
        output.tail().extend_from_slice(&[0; 100]);
        output.is_blocked(began);
        output.tail().extend_from_slice(&[0; 100]);
        output.take(99, at(5));
        output.is_blocked(at(5));
        assert_eq!(
            output.deadline(WRITE_DEADLINE),
            Some(began + WRITE_DEADLINE),
            "a byte of the first hundred is left"
        );
        output.take(1, at(6));
        assert_eq!(
            output.deadline(WRITE_DEADLINE),
            Some(at(6) + WRITE_DEADLINE),
            "the second hundred has its own time"
        );
        output.take(100, at(7));
        assert_eq!(output.deadline(WRITE_DEADLINE), None);
    }
}
