//! What the tests share: servers whose disk can be made to fail, operators, and load in the background.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test file uses its part, and ends at the unexpected"
)]

pub mod kubernetes;

use std::any::Any;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvs_load::{Group, Load, Wire};
use kvs_monitoring::prometheus::Target;
use kvs_operator::metrics::Metrics;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

/// How long a test waits for what must happen soon, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Prints a line of figures, which the test runner would keep to itself if the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// Polls until there is something, or fails the test.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program of ours, beside the test's own.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name(name);
    assert!(program.exists(), "{} is missing; build it first: cargo build -p {name}", program.display());
    program
}

/// An address for a server that starts later, and again: no client's connection takes a port below 32768 meanwhile.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let mut tries = (0..1_000).map(|_| SocketAddr::from(([127, 0, 0, 1], first + NEXT.fetch_add(1, Ordering::SeqCst))));
    tries.find(|addr| TcpListener::bind(addr).is_ok()).expect("one of a thousand ports is free")
}

/// The library that makes a disk fail, built once into a folder.
pub fn disk_library(folder: &Path) -> PathBuf {
    let library = folder.join("disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/disk.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).output();
    let built = built.expect("cc is there; install it with: apt-get install gcc libc6-dev");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// How a server is started, again and again if need be.
pub struct Server {
    /// What the labels say.
    pub name: &'static str,
    pub addr: SocketAddr,
    pub admin_addr: SocketAddr,
    arguments: Vec<String>,
    library: Option<PathBuf>,
    folder: PathBuf,
    data: PathBuf,
    child: Option<Child>,
    /// What serves instead of a process.
    inside: Option<Box<dyn Any>>,
    _scratch: TempDir,
}

impl Server {
    /// Starts a server with this name. Its data lies in `data_dir`, or in a folder of its own.
    pub fn start(name: &'static str, data_dir: Option<&Path>, library: Option<&Path>, arguments: &[&str]) -> Self {
        let scratch = TempDir::new().unwrap();
        let folder = scratch.path().to_owned();
        // A restart must be found where the first one was.
        let [addr, admin_addr] = [(); 2].map(|()| own_address());
        let data_dir = data_dir.map_or_else(|| folder.join("data"), Path::to_owned);
        let mut all = vec!["--addr".to_owned(), addr.to_string(), "--admin-addr".to_owned(), admin_addr.to_string()];
        all.extend(["--data-dir".to_owned(), data_dir.display().to_string()]);
        all.extend(arguments.iter().map(|argument| argument.replace("{folder}", &folder.display().to_string())));
        let mut server = Self {
            name,
            addr,
            admin_addr,
            arguments: all,
            library: library.map(Path::to_owned),
            folder,
            data: data_dir,
            child: None,
            inside: None,
            _scratch: scratch,
        };
        server.fault("");
        server
    }

    /// What serves already within this process, and ends when `inside` is dropped.
    pub fn of_thread(name: &'static str, addr: SocketAddr, admin_addr: SocketAddr, inside: Box<dyn Any>) -> Self {
        let mut server = Self::start(name, None, None, &[]);
        (server.addr, server.admin_addr, server.inside) = (addr, admin_addr, Some(inside));
        server
    }

    /// No server: metrics that say always the same.
    pub fn of_text(name: &'static str, text: &'static str) -> Self {
        let answers = Arc::new(AtomicBool::new(true));
        let addr = serve_text(Arc::clone(&answers), move || text.to_owned());
        Self::of_thread(name, addr, addr, Box::new(answers))
    }

    /// Starts the process and waits until it serves.
    pub fn run(&mut self) {
        if self.inside.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(program("kvs-server"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KVS_")) {
            command.env_remove(name);
        }
        if let Some(library) = &self.library {
            command.env("LD_PRELOAD", library).env("DISK_FAULT", self.folder.join("fault"));
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until(&format!("{} serves", self.name), || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}", self.name, self.log());
            get(self.admin_addr, "/readyz").filter(|text| text.contains("ready\n"))
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A number of its metrics, by the beginning of its line.
    pub fn metric(&self, series: &str) -> f64 {
        let text = get(self.admin_addr, "/metrics").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0.0)
    }

    /// How many file descriptors it has open.
    pub fn open_descriptors(&self) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
    }

    /// From now on it may have so many file descriptors and no more.
    pub fn allow_descriptors(&self, most: u64) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    /// What its disk does from now on; see disk.c.
    pub fn fault(&mut self, text: &str) {
        // In one step: a sync that looks meanwhile must not see half of it.
        fs::write(self.folder.join("fault.new"), text).unwrap();
        fs::rename(self.folder.join("fault.new"), self.folder.join("fault")).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) {
        let mut child = self.child.take().unwrap();
        until(&format!("{} ends", self.name), || child.try_wait().unwrap());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn target(&self) -> Target {
        Target { job: "kvs-server", pod: self.name.to_owned(), addr: self.admin_addr }
    }

    /// Sends lines and reads as many.
    pub fn ask(&self, lines: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(lines.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The body of one answer of an admin port, if it answers.
pub fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// Load in the background until it is dropped, whatever the server answers.
pub struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub fn start(addr: SocketAddr, wire: Wire, groups: Vec<Group>) -> Self {
        Self::run(addr, wire, None, groups)
    }

    /// The same with values of so many bytes.
    pub fn with_values(addr: SocketAddr, wire: Wire, value_bytes: usize, groups: Vec<Group>) -> Self {
        Self::run(addr, wire, Some(value_bytes), groups)
    }

    fn run(addr: SocketAddr, wire: Wire, value_bytes: Option<usize>, groups: Vec<Group>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                // A server that ends, or refuses, is what tests are about.
                let mut load = Load::new(addr, wire, Duration::from_millis(500), groups.clone());
                load.value_bytes = value_bytes.unwrap_or(load.value_bytes);
                if load.run().is_err() {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The metrics of an operator on a port of their own: its own registry and words, without a cluster.
pub struct Operator {
    pub metrics: Arc<Metrics>,
    pub addr: SocketAddr,
    answers: Arc<AtomicBool>,
}

impl Operator {
    pub fn start() -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.leader.set(1);
        let answers = Arc::new(AtomicBool::new(true));
        let shared = Arc::clone(&metrics);
        let addr = serve_text(Arc::clone(&answers), move || String::from_utf8(shared.text().unwrap()).unwrap());
        Self { metrics, addr, answers }
    }

    /// From now on it closes every connection without an answer.
    pub fn goes_away(&self) {
        self.answers.store(false, Ordering::SeqCst);
    }

    pub fn target(&self) -> Target {
        Target { job: "kvs-operator", pod: "operator".into(), addr: self.addr }
    }
}

/// Answers every request with a text, as long as `answers` says so; says where.
fn serve_text(answers: Arc<AtomicBool>, text: impl Fn() -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if !answers.load(Ordering::SeqCst) {
                continue;
            }
            let body = text();
            // One that connects and asks nothing must not keep the others waiting.
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            });
        }
    });
    addr
}
