//! `Proxy`: an API server that does not mean well, between the operator and the real one.
//!
//! It listens on loopback without TLS and passes requests on with an administrator's rights. What it does to each is
//! said by a judge; what it saw is kept, so that a test can count.
//!
//! What must hold: a fault is what a network or an API server may do, never more: a request that is answered with a
//! success took effect; bodies and the number of requests that are kept have a limit.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::failure::Failure;

/// Bytes of the longest request body.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Requests that are remembered: more than any test makes.
const MOST_REQUESTS: usize = 200_000;

/// A request, as the judge sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many writes came before it, itself included when it is one. Writes to Leases are not counted.
    pub writes: u64,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// When it came.
    pub at: Instant,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is passed on and answered.
    Pass,
    /// It is not passed on; the answer has this status.
    Refuse(u16),
    /// It is passed on; the answer has this status, as that of a gateway which did not wait.
    Misreport(u16),
    /// It is not passed on, and the connection ends.
    LoseRequest,
    /// It is passed on, and the connection ends without an answer.
    LoseAnswer,
    /// It is passed on twice, and answered with what the second one got.
    Twice,
    /// Its caller is killed before it is passed on.
    KillBefore,
    /// Its caller is killed after it took effect, and before it is answered.
    KillAfter,
    /// A watch: each piece is held back for so long, and it ends after a while without a word.
    Watch {
        /// How long each piece is held back.
        delay: Duration,
        /// When it ends.
        end: Duration,
    },
    /// A watch that is told that its version is too old.
    Gone,
}

impl Asked {
    /// Whether it is meant to change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether it is about who leads.
    #[must_use]
    pub fn is_lease(&self) -> bool {
        self.path.contains("/leases")
    }

    /// Whether it is a watch.
    #[must_use]
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }
}

type Judge = dyn Fn(&Asked) -> Verdict + Send + Sync;
type Killer = dyn Fn() + Send + Sync;
type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<UnsyncBoxBody<Bytes, Error>>, Error>;

/// The proxy. It ends when this is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    inner: Arc<Inner>,
    listener: JoinHandle<()>,
}

struct Inner {
    client: Client,
    /// Says what becomes of a request, and who is killed. Each is held to copy it, never across an await.
    judge: Mutex<Arc<Judge>>,
    killer: Mutex<Arc<Killer>>,
    /// What was asked so far. Held to push or to copy.
    asked: Mutex<Vec<Asked>>,
}

impl Proxy {
    /// Listens on a free port before the cluster of that kubeconfig. Everything passes until a judge says otherwise.
    ///
    /// # Errors
    /// When the kubeconfig is unusable or there is no port.
    pub async fn start(kubeconfig: &Path) -> Result<Self, Failure> {
        let unusable =
            |error: &dyn std::error::Error| Failure::Setup(format!("{} is unusable: {error}", kubeconfig.display()));
        let config = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(&error))?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(config, &options).await.map_err(|error| unusable(&error))?;
        // What the API server answers is what the operator is to see.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Failure::io("listening on loopback"))?;
        let address = listener.local_addr().map_err(Failure::io("listening on loopback"))?;
        let inner = Arc::new(Inner {
            client,
            judge: Mutex::new(Arc::new(|_| Verdict::Pass)),
            killer: Mutex::new(Arc::new(|| {})),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&inner);
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Ok(Self { address, inner, listener })
    }

    /// Says what becomes of requests from now on.
    pub fn judge(&self, judge: impl Fn(&Asked) -> Verdict + Send + Sync + 'static) {
        *lock(&self.inner.judge) = Arc::new(judge);
    }

    /// Says who is killed by [`Verdict::KillBefore`] and [`Verdict::KillAfter`].
    pub fn kills(&self, killer: impl Fn() + Send + Sync + 'static) {
        *lock(&self.inner.killer) = Arc::new(killer);
    }

    /// Everything that was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.inner.asked).clone()
    }

    /// Every write that was asked for so far, those to Leases left out.
    #[must_use]
    pub fn writes(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.is_write() && !asked.is_lease()).collect()
    }

    /// Writes a kubeconfig that leads here.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write_kubeconfig(&self, folder: &Path, namespace: &str) -> Result<PathBuf, Failure> {
        let path = folder.join(format!("kubeconfig-{}", self.address.port()));
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: proxy, contexts: [{{name: proxy, context: {{cluster: proxy, user: proxy, namespace: {namespace}}}}}], clusters: [{{name: proxy, cluster: {{server: 'http://{}'}}}}], users: [{{name: proxy, user: {{}}}}]}}",
            self.address
        );
        std::fs::write(&path, text).map_err(Failure::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn serve(stream: TcpStream, inner: Arc<Inner>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&inner)));
    // How it ends is the caller's affair; a fault ends it too.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, inner: Arc<Inner>) -> Answer {
    let asked = inner.note(&request);
    let judge = lock(&inner.judge).clone();
    let verdict = judge(&asked);
    let (mut parts, body) = request.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
    // Those of this connection; the next one has its own.
    for name in [HOST, CONNECTION, CONTENT_LENGTH] {
        parts.headers.remove(name);
    }
    let pass = async || -> Result<Response<Body>, Error> {
        let mut request = Request::new(Body::from(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        Ok(inner.client.send(request).await?)
    };
    match verdict {
        Verdict::Pass => Ok(whole(pass().await?)),
        Verdict::Refuse(status) => Ok(refusal(status)),
        Verdict::Misreport(status) => {
            settle(pass().await?).await;
            Ok(refusal(status))
        }
        Verdict::LoseRequest => Err("lost on the way there".into()),
        Verdict::LoseAnswer => {
            settle(pass().await?).await;
            Err("lost on the way back".into())
        }
        Verdict::Twice => {
            settle(pass().await?).await;
            Ok(whole(pass().await?))
        }
        Verdict::KillBefore => {
            inner.kill();
            Err("nobody waits for the answer".into())
        }
        Verdict::KillAfter => {
            settle(pass().await?).await;
            inner.kill();
            Err("nobody waits for the answer".into())
        }
        Verdict::Watch { delay, end } => Ok(slow(pass().await?, delay, end)),
        Verdict::Gone => {
            let event = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","message":"too old resource version","code":410}}"#;
            Ok(text(StatusCode::OK, format!("{event}\n")))
        }
    }
}

impl Inner {
    fn note(&self, request: &Request<Incoming>) -> Asked {
        let mut all = lock(&self.asked);
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let writes = all.last().map_or(0, |last| last.writes);
        let mut asked = Asked { writes, method: request.method().clone(), path, at: Instant::now() };
        asked.writes += u64::from(asked.is_write() && !asked.is_lease());
        if all.len() < MOST_REQUESTS {
            all.push(asked.clone());
        }
        asked
    }

    fn kill(&self) {
        let killer = lock(&self.killer).clone();
        killer();
    }
}

/// Waits for the end of an answer: only then has the write taken effect for certain.
async fn settle(response: Response<Body>) {
    // An answer that breaks off is as good as one that nobody reads.
    let _ = response.into_body().collect().await;
}

fn whole(response: Response<Body>) -> Response<UnsyncBoxBody<Bytes, Error>> {
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// A watch whose pieces come late and that ends early.
fn slow(response: Response<Body>, delay: Duration, end: Duration) -> Response<UnsyncBoxBody<Bytes, Error>> {
    let deadline = Instant::now() + end;
    response.map(|body| {
        let pieces = stream::unfold(body, move |mut body| async move {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = timeout(left, body.frame()).await.ok()??;
            sleep(delay).await;
            Some((frame.map_err(Into::into), body))
        });
        BodyExt::boxed_unsync(StreamBody::new(pieces))
    })
}

/// What an API server says when it refuses.
fn refusal(status: u16) -> Response<UnsyncBoxBody<Bytes, Error>> {
    let reason = match status {
        409 => "Conflict",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"{reason}","message":"a fault of the test","code":{status}}}"#
    );
    let mut response = text(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body);
    if status == 429 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn text(status: StatusCode, text: String) -> Response<UnsyncBoxBody<Bytes, Error>> {
    let frame = stream::iter([Ok::<_, Error>(Frame::data(Bytes::from(text)))]);
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frame)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole between any two calls, so a panic elsewhere did not break it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
