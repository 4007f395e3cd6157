//! `Shared`: what every connection of a server uses, and `Fatal`: the word that the engine can't go on.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::budget::Budget;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pool::ChosenPool;

/// What every connection uses.
pub(crate) struct Shared {
    pub(crate) handler: Arc<Handler>,
    pub(crate) pool: ChosenPool,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fatal: Fatal,
}

/// Tells the server to ask the engine whether it can go on.
#[derive(Default)]
pub(crate) struct Fatal(Notify);

impl Fatal {
    /// An answer looks as if the engine could not go on.
    pub(crate) fn suspect(&self) {
        self.0.notify_one();
    }

    /// Waits for such an answer.
    pub(crate) async fn suspected(&self) {
        self.0.notified().await;
    }
}
