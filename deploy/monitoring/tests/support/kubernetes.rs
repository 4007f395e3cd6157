//! `Kubernetes`: an API server of a test's own, as far as an operator needs one to be watched. `OperatorProcess`: a
//! real operator before it.
//!
//! What must hold: it gives Leases, unless it is told not to; stores come and go as the test says, on every watch; it has no
//! other object, and refuses every other write as an API server does that is not well.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use kvs_monitoring::prometheus::Target;
use serde_json::{Value, json};

use super::{get, own_address, program, until};

/// The namespace of stores and of the Lease.
const NAMESPACE: &str = "shop";

/// An API server.
pub struct Kubernetes {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    refuses_leases: bool,
    lease: Option<Value>,
    /// Of the last change.
    version: u64,
    stores: BTreeSet<String>,
    /// Whom to tell of stores.
    watches: Vec<TcpStream>,
    /// Watches of what does not exist, which stay open.
    idle: Vec<TcpStream>,
}

impl Kubernetes {
    /// One without stores, which gives Leases.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // One that asks nothing must not keep the others waiting; who hangs up early is no matter.
                std::thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        Self { addr, state }
    }

    /// Whether Leases are given from now on.
    pub fn gives_leases(&self, gives: bool) {
        lock(&self.state).refuses_leases = !gives;
    }

    /// From now on there are these stores and no others.
    pub fn has_stores(&self, names: &[&str]) {
        let mut state = lock(&self.state);
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let gone: Vec<String> = state.stores.difference(&wanted).cloned().collect();
        let new: Vec<String> = wanted.difference(&state.stores).cloned().collect();
        for (kind, names) in [("DELETED", gone), ("ADDED", new)] {
            for name in names {
                state.version += 1;
                let event = format!("{}\n", json!({ "type": kind, "object": store(&name, state.version) }));
                state.watches.retain_mut(|watch| watch.write_all(event.as_bytes()).is_ok());
            }
        }
        state.stores = wanted;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "kvs.aryavarth.io/v1alpha1",
        "kind": "KvsStore",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "generation": 1,
            "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {},
    })
}

/// Answers one request. The connection ends with it, or is kept as a watch.
fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut body_bytes = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((target.as_str(), ""));
    let mut state = lock(state);
    if method == "GET" && query.contains("watch=true") {
        // Without a length, the body goes on until the connection ends.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
        if path.ends_with("/kvsstores") {
            // What came between the list and this watch; what was listed is told twice.
            for name in &state.stores {
                writeln!(stream, "{}", json!({ "type": "ADDED", "object": store(name, state.version) }))?;
            }
            state.watches.push(stream);
        } else {
            state.idle.push(stream);
        }
        return Ok(());
    }
    let (code, answer) = if path.contains("/leases") {
        state.lease(&method, &serde_json::from_slice(&body).unwrap_or_default())
    } else {
        state.other(&method, path)
    };
    drop(state);
    let text = answer.to_string();
    let bytes = text.len();
    write!(
        stream,
        "HTTP/1.1 {code} Answer\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n{text}"
    )
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": "the API server of a test says no",
    });
    (code, status)
}

impl State {
    /// What is answered to a read or a write of the one Lease.
    fn lease(&mut self, method: &str, wanted: &Value) -> (u16, Value) {
        if self.refuses_leases {
            return refusal(500, "InternalError");
        }
        if method == "GET" {
            return self.lease.clone().map_or_else(|| refusal(404, "NotFound"), |lease| (200, lease));
        }
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        if self.lease.as_ref().is_some_and(|lease| version(lease) != version(wanted)) {
            return refusal(409, "Conflict");
        }
        self.version += 1;
        let mut lease = wanted.clone();
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(lease.clone());
        (200, lease)
    }

    /// What is answered to anything else.
    fn other(&self, method: &str, path: &str) -> (u16, Value) {
        let kind = path.rsplit('/').next().unwrap_or_default();
        // Kinds end as plurals do; the version of a group that no cluster of ours has does not.
        match (method, kind) {
            ("GET", kind) if kind.ends_with('s') => {
                let items: Vec<Value> = match kind {
                    "kvsstores" => self.stores.iter().map(|name| store(name, self.version)).collect(),
                    _ => Vec::new(),
                };
                let metadata = json!({ "resourceVersion": self.version.to_string() });
                (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
            }
            ("GET", _) => refusal(404, "NotFound"),
            _ => refusal(500, "InternalError"),
        }
    }
}

/// A process of the operator, which is started again and again if need be.
pub struct OperatorProcess {
    name: &'static str,
    addr: SocketAddr,
    kubeconfig: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl OperatorProcess {
    /// Starts it before an API server and waits until it answers; its files lie in `folder`.
    pub fn start(name: &'static str, kubernetes: &Kubernetes, folder: &Path) -> Self {
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": format!("http://{}", kubernetes.addr) } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": NAMESPACE } }],
        });
        fs::write(&kubeconfig, config.to_string()).unwrap();
        let log = folder.join(format!("{name}.log"));
        let mut operator = Self { name, addr: own_address(), kubeconfig, log, child: None };
        operator.run();
        operator
    }

    /// Starts the process and waits until its watches are up.
    pub fn run(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(program("kvs-operator"));
        command
            .args(["run", "--admin-addr", &self.addr.to_string(), "--watch-namespace", NAMESPACE])
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KVS_LEASE_NAMESPACE", NAMESPACE)
            // A process that follows itself need not wait for its own Lease to run out.
            .envs([("POD_NAME", self.name), ("POD_UID", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
        until(&format!("the operator {} is ready", self.name), || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            get(self.addr, "/readyz").filter(|text| text == "ok\n")
        });
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) {
        let mut child = self.child.take().unwrap();
        until(&format!("the operator {} ends", self.name), || child.try_wait().unwrap());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn target(&self) -> Target {
        Target { job: "kvs-operator", pod: self.name.to_owned(), addr: self.addr }
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
