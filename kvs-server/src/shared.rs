//! `Shared`: what every connection of a server uses, and `Fatal`: the word that the engine can't go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::budget::Budget;
use crate::failed_requests::FailedRequests;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pool::ChosenPool;

/// What every connection uses.
pub(crate) struct Shared {
    pub(crate) handler: Arc<Handler>,
    pub(crate) pool: ChosenPool,
    /// Replaced whole by a reload; a connection keeps what it found when it began. Held for a look or a swap.
    pub(crate) limits: RwLock<Arc<Limits>>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fatal: Fatal,
    pub(crate) failed_requests: FailedRequests,
    /// Connections that speak RESP2, whose clients may ask for their number.
    pub(crate) resp_connections: AtomicU64,
}

impl Shared {
    /// The number of a connection that begins to speak RESP2, from 1.
    pub(crate) fn next_resp_connection(&self) -> u64 {
        self.resp_connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The limits for what begins now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The limits for what begins from now on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.budget.set_limit(limits.in_flight_bytes);
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }
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
