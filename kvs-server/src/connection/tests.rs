//! A connection over a stream that a test makes.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kvs_engine::MemoryEngine;
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::patience::Next;
use super::waiting::Event;
use super::{Connection, Ending};
use crate::about::About;
use crate::access::{Access, Grants, Session};
use crate::budget::Budget;
use crate::failed_requests::FailedRequests;
use crate::handler::Handler;
use crate::limits::{Limits, QUEUE_RETRY};
use crate::metrics::{Labels, Metrics};
use crate::pool::{ChosenPool, PoolOptions};
use crate::responses::Responses;
use crate::shared::{Fatal, Shared};

/// A client that takes nothing, and counts how often it is asked to.
#[derive(Default)]
struct TakesNothing(Arc<AtomicU64>);

impl AsyncRead for TakesNothing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for TakesNothing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A client that says the same again and again, and takes nothing.
struct Floods(Vec<u8>);

impl AsyncRead for Floods {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whole requests, as many as there is room for: a part of one would not go on where the last one ended.
        let count = (space.remaining() / self.0.len()).max(1);
        space.put_slice(&self.0.repeat(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Floods {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A client that has nothing to say and takes all that is written, but never the end of it: as one inside TLS whose last
/// record has no room in the sockets.
struct NeverDone;

impl AsyncRead for NeverDone {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NeverDone {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn connection_over<S: AsyncRead + AsyncWrite + Unpin>(stream: S, write_deadline: Duration) -> Connection<S> {
    let limits = Limits { write_deadline, ..Limits::for_values(1024) };
    connection_of(&server_with(limits, None), stream)
}

/// What all connections of a server use, and who may do what there.
type Server = (Arc<Shared>, Arc<Access>);

fn server_with(limits: Limits, grants: Option<Grants>) -> Server {
    let labels = Labels { engine: EngineName::Kvs, pool: PoolStrategy::Inline, sync: SyncMode::Always };
    let metrics = Arc::new(Metrics::new(labels, 1));
    let about = About::new(labels, Instant::now(), Arc::clone(&metrics), 1);
    let access = Access::new(
        grants,
        metrics.auth_failures.clone(),
        metrics.auth_refusals.clone(),
        tokio::runtime::Handle::current(),
    );
    let shared = Arc::new(Shared {
        handler: Arc::new(Handler::new(Arc::new(MemoryEngine::new()), about).unwrap()),
        pool: ChosenPool::open(PoolStrategy::Inline, PoolOptions::new(1)).unwrap(),
        budget: Budget::new(limits.in_flight_bytes),
        limits: RwLock::new(Arc::new(limits)),
        metrics,
        fatal: Fatal::default(),
        failed_requests: FailedRequests::default(),
        resp_connections: AtomicU64::new(0),
    });
    (shared, access)
}

fn connection_of<S: AsyncRead + AsyncWrite + Unpin>((shared, access): &Server, stream: S) -> Connection<S> {
    let responses = Responses::new(Arc::clone(&shared.budget), shared.limits().output_bytes);
    Connection::new(stream, Arc::clone(shared), responses, Session::new(Arc::clone(access), None))
}

/// What so many clients make a server use beyond their allowances, in bytes, at most, when each of them says the same again and
/// again and takes nothing.
async fn used_by_floods(server: &Server, clients: usize, request: &[u8]) -> usize {
    let serving: Vec<_> =
        (0..clients).map(|_| tokio::spawn(connection_of(server, Floods(request.to_vec())).serve())).collect();
    let mut highest = 0;
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        highest = highest.max(server.0.budget.used_bytes());
    }
    assert!(serving.iter().all(|task| !task.is_finished()), "nobody is to be closed so soon");
    serving.iter().for_each(tokio::task::JoinHandle::abort);
    highest
}

const CLIENTS: usize = 100;
const IN_FLIGHT_BYTES: usize = 1024 * 1024;

#[tokio::test]
async fn what_nobody_takes_is_bounded_over_all_connections() {
    let limits = Limits { in_flight_bytes: IN_FLIGHT_BYTES, ..Limits::for_values(1024) };
    // Each answer that is written meanwhile can pass the bound by what one turn of a connection gives.
    let bound = 2 * IN_FLIGHT_BYTES + CLIENTS * 48 * 1024;
    for request in [
        "{\"ping\":{}}\n",
        "{\"nothing\":{}}\n",
        "{\"info\":{}}\n",
        "*1\r\n$4\r\nINFO\r\n",
        "*2\r\n$7\r\nCOMMAND\r\n$4\r\nDOCS\r\n",
        "*2\r\n$4\r\nECHO\r\n$9\r\n123456789\r\n",
    ] {
        let used = used_by_floods(&server_with(limits.clone(), None), CLIENTS, request.as_bytes()).await;
        assert!(used < bound, "{request:?}: {used} bytes, more than {bound}");
    }
}

#[tokio::test]
async fn whoever_sends_all_at_once_and_nothing_more_gets_all_refusals() {
    const REQUESTS: usize = 200;
    let server = server_with(Limits { in_flight_bytes: 0, ..Limits::for_values(1024) }, None);
    let (mut client, stream) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(connection_of(&server, stream).serve());
    client.write_all("{\"ping\":{}}\n".repeat(REQUESTS).as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.lines().count(), REQUESTS, "{answers}");
    assert!(answers.contains("\"busy\""), "some were refused: {answers}");
    assert_eq!(serving.await.unwrap(), Ending::Client);
}

#[tokio::test]
async fn strangers_are_not_read_while_they_take_nothing() {
    // There is more than enough of what all may use together.
    for request in ["{\"ping\":{}}\n", "{\"get\":{\"key\":\"k\"}}\n", "*2\r\n$4\r\nECHO\r\n$9\r\n123456789\r\n"] {
        let grants = Grants::parse("tokens: [{name: n, role: read, token: a-token-of-some-length}]").unwrap();
        let server = server_with(Limits::for_values(1024), Some(grants));
        let used = used_by_floods(&server, CLIENTS, request.as_bytes()).await;
        assert!(used < CLIENTS * 32 * 1024, "{request:?}: {used} bytes");
    }
}

#[tokio::test]
async fn a_stream_that_never_closes_is_let_go_of() {
    let connection = connection_over(NeverDone, Duration::from_millis(100));
    let served = tokio::time::timeout(Duration::from_secs(60), connection.serve()).await;
    assert_eq!(served.expect("it is let go of"), Ending::Client);
}

#[tokio::test]
async fn a_pause_that_is_over_wakes_nobody() {
    // Refused for want of bytes in flight, and then nothing more is read for another reason.
    let asked = Arc::new(AtomicU64::new(0));
    let mut connection = connection_over(TakesNothing(Arc::clone(&asked)), Duration::from_millis(500));
    connection.paused_until = Some(tokio::time::Instant::now());
    connection.ending = Some(Ending::Quit);
    connection.output.tail().extend_from_slice(b"+OK");
    let served = tokio::time::timeout(Duration::from_secs(60), connection.serve()).await;
    assert_eq!(served.expect("its answers are not taken"), Ending::Unread);
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 50, "the connection slept too little: it looked {asked} times in half a second");
}

#[tokio::test]
async fn a_job_that_ended_before_anybody_listened_is_noticed() {
    let mut connection = connection_over(TakesNothing::default(), Duration::from_secs(1));
    let now = tokio::time::Instant::now();
    assert_eq!(connection.patience.next(true, || now), Next::Wait);
    assert_eq!(connection.patience.next(false, || now + QUEUE_RETRY), Next::Ask);
    // The pool took the job and did it, its answers are written, and it has just ended.
    assert!(!connection.may_read(), "the wait for the pool is not over");
    let event = std::future::poll_fn(|context| Poll::Ready(connection.poll_event(context, false))).await;
    assert!(matches!(event, Poll::Ready(Event::Woken)), "it would sleep until it is idle for too long");
    connection.start_job();
    assert!(connection.may_read());
}
