//! The admin port: `/livez`, `/readyz`, `/metrics`, `/status` and `/version` over HTTP/1.1.
//!
//! What must hold: it runs on a thread and a runtime of its own, so that it answers while every other thread is at
//! work; it reads nothing but a bounded head and changes nothing; its connections are few and end in time, whether
//! the client sends nothing, reads nothing or asks for ever: else a few such clients would keep the probes out, and
//! Kubernetes would restart a healthy server.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::ServerError;
use crate::health::{Health, State};
use crate::identity::Identity;
use crate::limits::{ADMIN_DEADLINE, ADMIN_HEAD_BYTES, MAX_ADMIN_CONNECTIONS};
use crate::listener::accept;
use crate::metrics::{Figures, Labels, Metrics};
use crate::stop::{Stop, Urgency};

/// Why an admin connection ended: closed in good order, too slow, or no HTTP.
pub(crate) const ADMIN_ENDINGS: [&str; 3] = ["client", "timeout", "error"];

/// Where the figures of engine, pool and connections come from once the store is open.
pub(crate) type Source = Box<dyn Fn() -> (Figures, usize) + Send + Sync>;

/// What the admin port tells.
pub(crate) struct AdminState {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) labels: Labels,
    pub(crate) addr: String,
    pub(crate) threads: u32,
    pub(crate) data_dir: String,
    pub(crate) started: Instant,
    /// Set when the store is open.
    pub(crate) identity: OnceLock<Identity>,
    /// Set when the store is open.
    pub(crate) source: OnceLock<Source>,
}

/// `/status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    version: &'static str,
    state: &'static str,
    addr: &'a str,
    engine: &'static str,
    pool: &'static str,
    threads: u32,
    sync: &'static str,
    data_dir: &'a str,
    store: Option<&'a str>,
    store_id: Option<&'a str>,
    node_id: Option<&'a str>,
    uptime_seconds: u64,
    connections: usize,
    keys: u64,
    live_bytes: u64,
    dead_bytes: u64,
    disk_bytes: u64,
    segments: u64,
    compactions: u64,
    read_only: bool,
}

impl AdminState {
    fn figures(&self) -> (Figures, usize) {
        self.source.get().map_or_else(Default::default, |source| source())
    }

    fn status(&self) -> String {
        let (figures, connections) = self.figures();
        let identity = self.identity.get();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            state: self.health.state().as_str(),
            addr: &self.addr,
            engine: self.labels.engine.as_str(),
            pool: self.labels.pool.as_str(),
            threads: self.threads,
            sync: self.labels.sync.as_str(),
            data_dir: &self.data_dir,
            store: identity.and_then(|identity| identity.store.as_deref()),
            store_id: identity.map(|identity| identity.store_id.as_str()),
            node_id: identity.map(|identity| identity.node_id.as_str()),
            uptime_seconds: self.started.elapsed().as_secs(),
            connections,
            keys: figures.engine.keys,
            live_bytes: figures.engine.live_bytes,
            dead_bytes: figures.engine.dead_bytes,
            disk_bytes: figures.engine.disk_bytes,
            segments: figures.engine.segments,
            compactions: figures.engine.compactions,
            read_only: figures.engine.read_only,
        };
        serde_json::to_string(&status).expect("a struct of strings and numbers has a JSON form") + "\n"
    }

    /// The answer to one request.
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const JSON: &str = "application/json";
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            // Says that the process answers, no more: a restart cures neither a full disk nor a long recovery.
            "/livez" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let state = self.health.state();
                let code = if state == State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                response(code, TEXT, format!("{}\n", state.as_str()))
            }
            "/metrics" => {
                let text = self.metrics.text(&self.figures().0, &self.health);
                response(StatusCode::OK, prometheus::TEXT_FORMAT, text)
            }
            "/status" => response(StatusCode::OK, JSON, self.status()),
            "/version" => {
                let version = concat!("{\"name\":\"kvs-server\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}\n");
                response(StatusCode::OK, JSON, version.to_owned())
            }
            _ => {
                let paths = "there are /livez, /readyz, /metrics, /status and /version\n";
                response(StatusCode::NOT_FOUND, TEXT, paths.to_owned())
            }
        }
    }
}

fn response(code: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The running admin port; it ends when this is dropped.
pub(crate) struct Admin {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves what is asked on this listener, on a new thread.
    pub(crate) fn start(listener: std::net::TcpListener, state: Arc<AdminState>) -> Result<Self, ServerError> {
        let failed = |source| ServerError::io("cannot start the admin port", source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(failed)?
        };
        let stop = Stop::default();
        let asked = stop.clone();
        let thread = thread::Builder::new()
            .name("kvs-admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve(listener, state) => {}
                        () = asked.requested(Urgency::Drain) => {}
                    }
                });
            })
            .map_err(failed)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// Accepts for ever.
async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    let slots = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
    loop {
        let (stream, slot) = accept(&listener, &slots, &state.metrics.admin).await;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let reason = converse(stream, &state).await;
            state.metrics.admin.closed(reason);
            drop(slot);
        });
    }
}

/// Answers the one request of a connection; gives why it ended.
async fn converse(stream: TcpStream, state: &AdminState) -> &'static str {
    let service = service_fn(|request: Request<Incoming>| async move { Ok::<_, Infallible>(state.answer(&request)) });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(ADMIN_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(ADMIN_DEADLINE, connection).await {
        Ok(Ok(())) => ADMIN_ENDINGS[0],
        Err(_) => ADMIN_ENDINGS[1],
        Ok(Err(_)) => ADMIN_ENDINGS[2],
    }
}
