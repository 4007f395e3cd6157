//! The accept loop, and the list of open connections.
//!
//! What must hold: room for a connection is taken before it is accepted; a failed accept is tried again, however often
//! it fails; when the server is ending, every connection hears of it, one that was accepted at that moment too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::connection::Connection;
use crate::limits::{ACCEPT_RETRY_FIRST, ACCEPT_RETRY_LAST, MAX_CONNECTIONS};
use crate::metrics::ListenerMetrics;
use crate::responses::Responses;
use crate::shared::Shared;
use crate::stop::{Stop, Urgency};

/// The open connections of one server.
#[derive(Default)]
pub(crate) struct Connections {
    /// Held only to add, remove or tell all.
    open: Mutex<Open>,
    /// The last one was removed.
    emptied: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    responses: HashMap<u64, Arc<Responses>>,
    draining: bool,
}

impl Connections {
    fn add(&self, responses: &Arc<Responses>) -> u64 {
        let mut open = self.lock();
        if open.draining {
            responses.drain_connection();
        }
        let number = open.next;
        open.next += 1;
        open.responses.insert(number, Arc::clone(responses));
        number
    }

    fn remove(&self, number: u64) {
        let mut open = self.lock();
        open.responses.remove(&number);
        if open.responses.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Tells all connections that the server is ending.
    pub(crate) fn drain(&self) {
        let mut open = self.lock();
        open.draining = true;
        for responses in open.responses.values() {
            responses.drain_connection();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().responses.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().responses.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts clients until the server is to end.
pub(crate) async fn accept_clients(
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    stop: Stop,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = accept(&listener, &slots, &shared.metrics.clients);
        let (stream, slot) = tokio::select! {
            next = next => next,
            () = stop.requested(Urgency::Drain) => return,
        };
        // Answers are small and each one is waited for. A socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        let responses = Responses::new(Arc::clone(&shared.budget));
        let number = connections.add(&responses);
        tokio::spawn(async move {
            let ending = Connection::new(stream, Arc::clone(&shared), responses).serve().await;
            shared.metrics.clients.closed(ending.as_str());
            connections.remove(number);
            drop(slot);
        });
    }
}

/// Waits for room, then for a client. Backs off while accepting fails. Can be cancelled without losing a client.
pub(crate) async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    metrics: &ListenerMetrics,
) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    let mut retry = ACCEPT_RETRY_FIRST;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                metrics.accepted.inc();
                metrics.open.inc();
                return (stream, slot);
            }
            Err(error) => {
                metrics.accept_errors.inc();
                tracing::warn!(%error, retry_ms = retry.as_millis(), "cannot accept a connection; trying again");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(ACCEPT_RETRY_LAST);
            }
        }
    }
}
