//! As much of a Kubernetes API server as the client asks: a KvsStore, its pods, and a port-forward over a WebSocket.
//!
//! The protocol of the port-forward is that of the real one: binary messages whose first byte is a channel, 0 for data
//! and 1 for errors, and on each channel first a message with the port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// The namespace and name of the one store.
pub const STORE: &str = "shop/orders";

/// What the API server knows.
pub struct State {
    /// The KvsStore; `None` if there is none.
    pub store: Option<Value>,
    /// Whether the resource is known at all.
    pub installed: bool,
    pub pods: Vec<Value>,
    /// The fields of each Secret, as they are before base64.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Where connections into the pod end.
    pub server: Option<SocketAddr>,
    /// What is forbidden: a part of the path.
    pub forbidden: Option<&'static str>,
    /// What else is answered: a part of `METHOD path`, the code, and the body, as it is where it is text. The first that
    /// fits counts, before all other answers.
    pub objects: Vec<(&'static str, u16, Value)>,
    /// What was written: `METHOD path` without its query, and the body.
    pub writes: Vec<(String, Value)>,
    /// How many more requests are answered before silence; `None` means all.
    pub answers: Option<u32>,
    /// How many more port-forwards break when the first request comes.
    pub break_forwards: u32,
    /// Port-forwards so far.
    pub forwards: u32,
}

/// The API server.
pub struct Cluster {
    state: Arc<Mutex<State>>,
    addr: SocketAddr,
    cut: broadcast::Sender<()>,
}

impl Cluster {
    /// Starts an API server that knows a store with one ready pod, whose port is this one.
    pub fn start(server: Option<SocketAddr>) -> Self {
        let state = State {
            store: Some(store("True", "AllReady", "all members are ready")),
            installed: true,
            pods: vec![pod(true)],
            secrets: BTreeMap::new(),
            server,
            forbidden: None,
            objects: Vec::new(),
            writes: Vec::new(),
            answers: None,
            break_forwards: 0,
            forwards: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let (cut, _) = broadcast::channel(1);
        let (shared, cutter) = (Arc::clone(&state), cut.clone());
        thread::spawn(move || {
            runtime.block_on(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared), cutter.subscribe()));
                }
            });
        });
        Self { state, addr, cut }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Ends all port-forwards without a word, as the death of a pod's node does.
    pub fn cut(&self) {
        let _ = self.cut.send(());
    }

    /// Writes a kubeconfig for this cluster.
    pub fn write_kubeconfig(&self, file: &Path) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.addr)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(file, config.to_string()).unwrap();
    }
}

/// A KvsStore with this condition.
pub fn store(ready: &str, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsStore",
        "metadata": {"name": "orders", "namespace": "shop"},
        "status": {
            "selector": "app.kubernetes.io/instance=orders",
            "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message}],
        },
    })
}

/// The store's pod.
pub fn pod(ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders-0", "namespace": "shop"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    })
}

/// Serves the requests of one connection, one after the other, until one of them is a port-forward.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, cut: broadcast::Receiver<()>) {
    while let Some(head) = peek_head(&stream).await {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if head.to_ascii_lowercase().contains("upgrade: websocket") && !is_forbidden(&state, &path) {
            forward(stream, &state, cut).await;
            return;
        }
        stream.read_exact(&mut vec![0; head.len()]).await.unwrap();
        let method = head.split(' ').next().unwrap().to_owned();
        let mut body = vec![0; body_bytes(&head)];
        stream.read_exact(&mut body).await.unwrap();
        if is_silent(&state) {
            std::future::pending::<()>().await;
        }
        let (code, body) = {
            let mut state = state.lock().unwrap();
            if method != "GET" && !state.forbidden.is_some_and(|part| path.contains(part)) {
                write(&mut state, &method, &path, &body);
            }
            answer(&state, &method, &path)
        };
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let reply = format!(
            "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The length of a request's body.
fn body_bytes(head: &str) -> usize {
    let mut lines = head.lines().map(str::to_ascii_lowercase);
    lines.find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0)
}

/// Notes a write; one of the store's spec is done, too.
fn write(state: &mut State, method: &str, path: &str, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let path = path.split('?').next().unwrap();
    if let (true, Some(store)) = (path.ends_with("/kvsstores/orders"), &mut state.store) {
        for (field, value) in body["spec"].as_object().unwrap() {
            store["spec"][field] = value.clone();
        }
        store["metadata"]["generation"] = (store["metadata"]["generation"].as_i64().unwrap_or(1) + 1).into();
    }
    state.writes.push((format!("{method} {path}"), body));
}

/// The head of the next request, left in the socket for whoever reads it.
async fn peek_head(stream: &TcpStream) -> Option<String> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = stream.peek(&mut bytes).await.ok().filter(|count| *count > 0)?;
        if let Some(end) = bytes[..count].windows(4).position(|window| window == b"\r\n\r\n") {
            return Some(String::from_utf8(bytes[..end + 4].to_vec()).unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn is_forbidden(state: &Mutex<State>, path: &str) -> bool {
    state.lock().unwrap().forbidden.is_some_and(|part| path.contains(part))
}

/// Whether the answers are used up; if not, one more is.
fn is_silent(state: &Mutex<State>) -> bool {
    let mut state = state.lock().unwrap();
    let left = state.answers;
    state.answers = left.map(|left| left.saturating_sub(1));
    left == Some(0)
}

fn answer(state: &State, method: &str, path: &str) -> (u16, Value) {
    if state.forbidden.is_some_and(|part| path.contains(part)) {
        return (403, status(403, "Forbidden", &format!("user \"test\" cannot do this: {path}")));
    }
    let line = format!("{method} {path}");
    if let Some((_, code, body)) = state.objects.iter().find(|(part, ..)| line.contains(part)) {
        return (*code, body.clone());
    }
    if path.starts_with("/apis/kvs.aryavarth.io/v1alpha1/namespaces/shop/kvsstores/orders") {
        return match &state.store {
            _ if !state.installed => (404, json!("404 page not found")),
            Some(store) => (200, store.clone()),
            None => (404, status(404, "NotFound", "kvsstores.kvs.aryavarth.io \"orders\" not found")),
        };
    }
    if path.starts_with("/api/v1/namespaces/shop/pods?") {
        assert!(path.contains("labelSelector=app.kubernetes.io%2Finstance%3Dorders"), "{path}");
        return (200, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": state.pods}));
    }
    if let Some(name) = path.strip_prefix("/api/v1/namespaces/shop/secrets/") {
        return match state.secrets.get(name) {
            Some(fields) => {
                let data: BTreeMap<&String, String> =
                    fields.iter().map(|(field, text)| (field, STANDARD.encode(text))).collect();
                (200, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}))
            }
            None => (404, status(404, "NotFound", &format!("secrets \"{name}\" not found"))),
        };
    }
    (500, status(500, "InternalError", &format!("the test did not expect {path}")))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
           "message": message, "details": {"name": "orders", "kind": "kvsstores"}})
}

/// Carries bytes between the WebSocket and the server.
async fn forward(stream: TcpStream, state: &Mutex<State>, mut cut: broadcast::Receiver<()>) {
    let socket = tokio_tungstenite::accept_hdr_async(stream, choose_protocol).await.unwrap();
    let (server, breaks) = {
        let mut state = state.lock().unwrap();
        state.forwards += 1;
        let breaks = state.break_forwards > 0;
        state.break_forwards -= u32::from(breaks);
        (state.server, breaks)
    };
    tokio::select! {
        () = carry(socket, server, breaks) => {}
        _ = cut.recv() => {}
    }
}

#[expect(clippy::result_large_err, reason = "the library's signature")]
fn choose_protocol(_request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
    Ok(response)
}

async fn carry(mut socket: WebSocketStream<TcpStream>, server: Option<SocketAddr>, breaks: bool) {
    let port = 4000_u16.to_le_bytes();
    for channel in [0, 1] {
        socket.send(Message::binary(vec![channel, port[0], port[1]])).await.unwrap();
    }
    let connected = match server {
        Some(server) => TcpStream::connect(server).await.ok(),
        None => None,
    };
    let Some(mut server) = connected else {
        let words = b"\x01an error occurred forwarding 4000 -> 4000: connection refused";
        let _ = socket.send(Message::binary(words.to_vec())).await;
        // As the real one: the connection stays, and only the error channel has said that it is of no use.
        while let Some(Ok(_)) = socket.next().await {}
        return;
    };
    let mut bytes = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(_))) if breaks => return,
                Some(Ok(Message::Binary(data))) if data.first() == Some(&0) => {
                    if server.write_all(&data[1..]).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            count = server.read(&mut bytes) => {
                let Ok(count @ 1..) = count else {
                    let _ = socket.close(None).await;
                    return;
                };
                let mut data = vec![0];
                data.extend_from_slice(&bytes[..count]);
                if socket.send(Message::binary(data)).await.is_err() {
                    return;
                }
            }
        }
    }
}
