//! What the fuzz targets of `tests/fuzz` need: a connection without a socket. Built with `--cfg fuzzing` only.

#![expect(clippy::missing_panics_doc, reason = "to panic is what a check of a fuzz target is for")]

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, RwLock};
use std::time::Instant;

use kvs_engine::{KvsEngine as _, MemoryEngine};
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use crate::about::About;
use crate::access::{Access, Grants, Session};
use crate::budget::Budget;
use crate::connection::Connection;
use crate::failed_requests::FailedRequests;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::metrics::{Labels, Metrics};
use crate::pool::{ChosenPool, PoolOptions};
use crate::responses::Responses;
use crate::shared::{Fatal, Shared};

/// The longest value, in bytes: small, so that limits are met.
const MAX_VALUE_BYTES: usize = 256;
/// The token that a guarded server knows: the dictionary of the fuzzer has it.
const TOKEN: &str = "known-token";
/// What lies between the two ends of a connection, in bytes.
const PIPE_BYTES: usize = 4096;

/// Which server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// One that serves everybody, on the thread of the connection.
    Open,
    /// One that asks for a token first, and has its jobs done by another thread.
    Token,
}

/// A server without a port.
struct Bench {
    runtime: Runtime,
    engine: MemoryEngine,
    shared: Arc<Shared>,
    access: Arc<Access>,
}

static OPEN: LazyLock<Bench> = LazyLock::new(|| Bench::new(PoolStrategy::Inline, None));
static GUARDED: LazyLock<Bench> = LazyLock::new(|| {
    let file = format!("tokens: [{{name: fuzzer, role: write, token: {TOKEN}}}]");
    Bench::new(PoolStrategy::SharedQueue, Some(Grants::parse(&file).expect("the file is well formed")))
});

impl Bench {
    fn new(pool: PoolStrategy, grants: Option<Grants>) -> Self {
        let engine = MemoryEngine::new();
        let labels = Labels { engine: EngineName::Kvs, pool, sync: SyncMode::Always };
        let metrics = Arc::new(Metrics::new(labels, 1));
        let limits = Limits::for_values(MAX_VALUE_BYTES);
        let about = About::new(labels, Instant::now(), Arc::clone(&metrics), 1);
        let shared = Arc::new(Shared {
            handler: Arc::new(Handler::new(Arc::new(engine.clone()), about).expect("threads are to be had")),
            pool: ChosenPool::open(pool, PoolOptions::new(1)).expect("one thread is within the limits"),
            budget: Budget::new(limits.in_flight_bytes),
            limits: RwLock::new(Arc::new(limits)),
            metrics,
            fatal: Fatal::default(),
            failed_requests: FailedRequests::default(),
            resp_connections: AtomicU64::new(0),
        });
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime is to be had");
        let counters = (shared.metrics.auth_failures.clone(), shared.metrics.auth_refusals.clone());
        let access = Access::new(grants, counters.0, counters.1, runtime.handle().clone());
        Self { runtime, engine, shared, access }
    }
}

/// Sends bytes to a server with an empty store, so many at a time, and gives what came back until the server closed.
#[must_use]
pub fn converse(guard: Guard, bytes: &[u8], piece_bytes: usize) -> Vec<u8> {
    let bench = match guard {
        Guard::Open => &OPEN,
        Guard::Token => &GUARDED,
    };
    let Bench { runtime, engine, shared, access } = &**bench;
    engine.clear().expect("memory can be cleared");
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let responses = Responses::new(Arc::clone(&shared.budget), shared.limits().output_bytes);
        let session = Session::new(Arc::clone(access), None);
        let connection = Connection::new(server, Arc::clone(shared), responses, session);
        let serving = tokio::spawn(connection.serve());
        let (mut reader, mut writer) = tokio::io::split(client);
        let sending = async {
            for piece in bytes.chunks(piece_bytes.max(1)) {
                // A server that has closed takes nothing more.
                if writer.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        };
        let mut answered = Vec::new();
        let (_, read) = tokio::join!(sending, reader.read_to_end(&mut answered));
        read.expect("a pipe in memory does not fail");
        drop((reader, writer));
        let ending = serving.await.expect("a connection does not panic");
        tracing::trace!(?ending, "a connection ended");
        answered
    })
}
