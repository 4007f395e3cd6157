//! `Patience`: how a connection waits for a place in the pool's queue.
//!
//! What must hold: a full pool is asked again at a steady pace and no more often, so that being refused costs little;
//! the wait has an end; a job that was done ends it at once.

use tokio::time::Instant;

use crate::limits::{QUEUE_DEADLINE, QUEUE_RETRY};

/// Since when there has been no place, and when the pool is asked again; nothing while there is one.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Refused>);

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Instant,
    again: Instant,
    /// It has been asked again, and what came of it is not known yet.
    asked: bool,
}

/// What to do with the requests that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Give them to the pool.
    Ask,
    /// Keep them; it is not time yet.
    Wait,
    /// Answer them `busy`.
    GiveUp,
}

impl Patience {
    /// What to do when no job is with the pool. `was_refused` says what became of the last one, once. The clock is
    /// looked at only while there is no place.
    pub(super) fn next(&mut self, was_refused: bool, now: impl FnOnce() -> Instant) -> Next {
        let refused = match self.0 {
            None if !was_refused => return Next::Ask,
            // What was asked was done.
            Some(Refused { asked: true, .. }) if !was_refused => {
                self.0 = None;
                return Next::Ask;
            }
            refused => refused,
        };
        let now = now();
        let since = refused.map_or(now, |refused| refused.since);
        if was_refused && now >= since + QUEUE_DEADLINE {
            self.0 = None;
            return Next::GiveUp;
        }
        if was_refused {
            self.0 = Some(Refused { since, again: now + QUEUE_RETRY, asked: false });
            return Next::Wait;
        }
        match &mut self.0 {
            Some(refused) if now < refused.again => Next::Wait,
            Some(refused) => {
                refused.asked = true;
                Next::Ask
            }
            None => Next::Ask,
        }
    }

    /// When the pool is to be asked again, while it has no place.
    pub(super) fn asks_again(&self) -> Option<Instant> {
        self.0.filter(|refused| !refused.asked).map(|refused| refused.again)
    }

    /// Whether the pool may be asked now.
    pub(super) fn may_ask(&self, now: impl FnOnce() -> Instant) -> bool {
        self.asks_again().is_none_or(|again| now() >= again)
    }

    /// Whether the pool was asked again and what came of it is still to be learned, without which nothing more is read.
    pub(super) fn has_asked(&self) -> bool {
        self.0.is_some_and(|refused| refused.asked)
    }

    /// Whether there is no place now, so that no more is read.
    pub(super) const fn is_tried(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_is_asked_again_at_its_pace_until_the_deadline() {
        let begin = Instant::now();
        let mut patience = Patience::default();
        assert_eq!(patience.next(false, || unreachable!("nobody looks at the clock")), Next::Ask);
        assert_eq!(patience.next(true, || begin), Next::Wait);
        let mut now = begin;
        let mut asked = 0;
        loop {
            assert!(patience.is_tried());
            assert_eq!(patience.next(false, || now), Next::Wait, "it is not time yet");
            now = patience.asks_again().expect("there is no place");
            assert_eq!(patience.next(false, || now), Next::Ask);
            asked += 1;
            if patience.next(true, || now) == Next::GiveUp {
                break;
            }
        }
        assert_eq!((now - begin, asked), (QUEUE_DEADLINE, QUEUE_DEADLINE.as_millis() / QUEUE_RETRY.as_millis()));
        assert!(!patience.is_tried());
    }

    #[test]
    fn a_job_that_was_done_ends_the_wait() {
        let begin = Instant::now();
        let mut patience = Patience::default();
        assert_eq!(patience.next(true, || begin), Next::Wait);
        assert_eq!(patience.next(false, || begin + QUEUE_RETRY), Next::Ask);
        assert!(patience.asks_again().is_none(), "the pool has it");
        assert_eq!(patience.next(false, || begin + QUEUE_RETRY), Next::Ask);
        assert!(!patience.is_tried());
        // Far later, with patience of its own.
        assert_eq!(patience.next(true, || begin + 2 * QUEUE_DEADLINE), Next::Wait);
    }
}
