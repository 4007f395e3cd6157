//! The accept loop, and the list of open connections.
//!
//! What must hold: room for a connection is taken before it is accepted; a failed accept is tried again, however often
//! it fails; when the server is ending, every connection hears of it, one that was accepted at that moment too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::access::{Access, Session};
use crate::connection::{Connection, Ending};
use crate::descriptors::connections_allowed;
use crate::limits::{ACCEPT_RETRY_FIRST, ACCEPT_RETRY_LAST};
use crate::metrics::ListenerMetrics;
use crate::responses::Responses;
use crate::shared::Shared;
use crate::stop::{Stop, Urgency};
use crate::tls::{Secured, Tls};

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
    clients: HashMap<u64, Entry>,
    draining: bool,
}

/// An open connection.
struct Entry {
    responses: Arc<Responses>,
    /// Set when its task was started.
    task: Option<AbortHandle>,
}

impl Connections {
    fn add(&self, responses: &Arc<Responses>) -> u64 {
        let mut open = self.lock();
        if open.draining {
            responses.drain_connection();
        }
        let number = open.next;
        open.next += 1;
        open.clients.insert(number, Entry { responses: Arc::clone(responses), task: None });
        number
    }

    /// The connection is served by this task.
    fn is_served_by(&self, number: u64, task: AbortHandle) {
        // It may have ended already.
        if let Some(entry) = self.lock().clients.get_mut(&number) {
            entry.task = Some(task);
        }
    }

    fn remove(&self, number: u64) {
        let mut open = self.lock();
        open.clients.remove(&number);
        if open.clients.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Tells all connections that the server is ending.
    pub(crate) fn drain(&self) {
        let mut open = self.lock();
        open.draining = true;
        for Entry { responses, .. } in open.clients.values() {
            responses.drain_connection();
        }
    }

    /// Lets each connection see what has changed about it: one whose token is gone has to authenticate in time again.
    pub(crate) fn look_at_themselves(&self) {
        for Entry { responses, .. } in self.lock().clients.values() {
            responses.wake();
        }
    }

    /// Closes what is still open, so that nobody is told of an engine that is being closed.
    pub(crate) fn cut(&self) {
        for task in self.lock().clients.values().filter_map(|entry| entry.task.as_ref()) {
            task.abort();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_closed(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().clients.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().clients.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands between accepting a client and serving it.
pub(crate) struct Gate {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) access: Arc<Access>,
    pub(crate) max_connections: usize,
}

/// Accepts clients until the server is to end.
pub(crate) async fn accept_clients(
    listener: TcpListener,
    gate: Gate,
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    stop: Stop,
) {
    let slots = Arc::new(Semaphore::new(connections_allowed(gate.max_connections)));
    loop {
        let next = accept(&listener, &slots, &shared.metrics.clients);
        let (stream, slot) = tokio::select! {
            next = next => next,
            () = stop.requested(Urgency::Drain) => return,
        };
        // Answers are small and each one is waited for. A socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let responses = Responses::new(Arc::clone(&shared.budget), shared.limits().output_bytes);
        let number = connections.add(&responses);
        let client = Client {
            number,
            connections: Arc::clone(&connections),
            shared: Arc::clone(&shared),
            ending: Ending::Error,
            _slot: slot,
        };
        let (tls, access) = (gate.tls.clone(), Arc::clone(&gate.access));
        let task = tokio::spawn(client.serve(stream, responses, tls, access, stop.clone()));
        connections.is_served_by(number, task.abort_handle());
    }
}

/// One client, from its acceptance on. However it ends, by a panic too, it is counted and its place is free again.
struct Client {
    number: u64,
    connections: Arc<Connections>,
    shared: Arc<Shared>,
    ending: Ending,
    /// Given back last.
    _slot: OwnedSemaphorePermit,
}

impl Client {
    async fn serve(
        mut self,
        stream: TcpStream,
        responses: Arc<Responses>,
        tls: Option<Arc<Tls>>,
        access: Arc<Access>,
        stop: Stop,
    ) {
        self.ending = match tls {
            None => {
                let session = Session::new(access, None);
                Connection::new(stream, Arc::clone(&self.shared), responses, session)
                    .numbered(self.number)
                    .serve()
                    .await
            }
            // In a box of its own, so that clients without TLS don't carry its weight.
            Some(tls) => Box::pin(self.serve_securely(stream, responses, &tls, access, &stop)).await,
        };
    }

    async fn serve_securely(
        &self,
        stream: TcpStream,
        responses: Arc<Responses>,
        tls: &Tls,
        access: Arc<Access>,
        stop: &Stop,
    ) -> Ending {
        let deadline = self.shared.limits().handshake_deadline;
        // A server that is ending waits for requests, not for handshakes.
        let secured = tokio::select! {
            secured = tls.handshake(stream, deadline) => secured,
            () = stop.requested(Urgency::Drain) => None,
        };
        let Some(Secured { stream, certificate_names }) = secured else { return Ending::Tls };
        let session = Session::new(access, certificate_names);
        Connection::new(stream, Arc::clone(&self.shared), responses, session).numbered(self.number).serve().await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.metrics.clients.closed(self.ending.as_str());
        self.connections.remove(self.number);
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
                if let Some(failed) = metrics.failed.count() {
                    tracing::warn!(%error, failed, "cannot accept a connection; trying again");
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(ACCEPT_RETRY_LAST);
            }
        }
    }
}
