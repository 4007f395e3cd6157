//! `Health`: where the server is in its life, for readiness and for those who wait for its end.

use std::sync::atomic::{AtomicU8, Ordering};

/// A stage of the server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Opening the store.
    Starting,
    /// Taking requests.
    Ready,
    /// Ending in good order.
    Draining,
    /// Ending because the engine can't go on.
    Failed,
}

impl State {
    const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Draining, Self::Failed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// The present stage; it never goes back.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

impl Health {
    pub(crate) fn state(&self) -> State {
        State::ALL[usize::from(self.0.load(Ordering::SeqCst))]
    }

    pub(crate) fn advance(&self, state: State) {
        self.0.fetch_max(state as u8, Ordering::SeqCst);
    }
}
