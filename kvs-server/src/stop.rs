//! `Stop`: asks a running server to end.

use tokio::sync::watch;

/// How urgently a server is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Go on.
    None,
    /// Finish what is in flight, then end.
    Drain,
    /// Don't wait for what is in flight; what was acknowledged is kept all the same.
    Now,
}

/// Asks a running server to end. Clones ask the same server.
#[derive(Debug, Clone)]
pub struct Stop {
    urgency: watch::Sender<Urgency>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { urgency: watch::Sender::new(Urgency::None) }
    }
}

impl Stop {
    /// Asks the server to end in good order; asked a second time, not to wait for what is in flight.
    pub fn request(&self) {
        self.urgency.send_modify(|urgency| {
            *urgency = if *urgency == Urgency::None { Urgency::Drain } else { Urgency::Now };
        });
    }

    /// Asks for at least this urgency.
    pub(crate) fn at_least(&self, urgency: Urgency) {
        self.urgency.send_modify(|present| *present = urgency.max(*present));
    }

    /// Waits until somebody asked with at least this urgency.
    pub(crate) async fn requested(&self, urgency: Urgency) {
        let mut receiver = self.urgency.subscribe();
        // This side owns a sender, so that the channel can't close.
        let _ = receiver.wait_for(|present| *present >= urgency).await;
    }
}
