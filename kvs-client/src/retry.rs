//! `Retry`: how long and how often a command tries again.

use std::time::{Duration, Instant};

/// The first pause. A server that restarts on the same machine is back sooner than a person notices.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause. A pod comes back within seconds, and looking for it costs the API server two reads.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A deadline and the pauses until then, each twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Retry {
    limit: Duration,
    deadline: Instant,
    pause: Duration,
}

impl Retry {
    /// Begins now.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, deadline: Instant::now() + limit, pause: FIRST_PAUSE }
    }

    /// Begins again, because something went well.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.limit);
    }

    /// The time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The time that there was at the beginning.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Waits before the next attempt; `false` if there is no time for one.
    pub(crate) async fn pause(&mut self) -> bool {
        if self.left() <= self.pause {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_end_with_the_limit() {
        let mut retry = Retry::new(FIRST_PAUSE * 2);
        assert!(retry.pause().await);
        assert!(!retry.pause().await, "the second pause would pass the deadline");
        retry.restart();
        assert!(retry.pause().await);
    }
}
