//! What the tests share: a server process or a server in this process, a line client, and waiting with a deadline.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test file uses its part, and ends at the unexpected"
)]

pub mod certificates;
pub mod document;
pub mod resp;
pub mod secure;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvs_engine::KvsEngine;
use kvs_protocol::config::ServerConfig;
use kvs_protocol::names::{EngineName, PoolStrategy};
use kvs_server::{Server, ServerError, Settings, Stop};
use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for what must happen soon, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether `KVS_TORTURE=full` asks for the long version of a test.
pub fn is_full() -> bool {
    match std::env::var("KVS_TORTURE").as_deref() {
        Err(_) | Ok("") => false,
        Ok("full") => true,
        Ok(other) => panic!("KVS_TORTURE is {other:?}; say KVS_TORTURE=full, or leave it out"),
    }
}

/// Prints one line of figures, which the test runner would keep to itself if the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// Says that a story is over, also when it ends by a failure: its other threads would go on for ever.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls until there is something, or fails the test.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command that sees no `KVS_*` variable of whoever runs the tests.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-server"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVS_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end; gives exit code, standard output and standard error.
pub fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A running `kvs-server`, killed when the test ends.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    pub addr: SocketAddr,
    pub admin_addr: Option<SocketAddr>,
}

impl Process {
    /// Starts a server in a folder, on free ports, and waits until it listens.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = command();
        command.current_dir(folder).args(["--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]).args(arguments);
        Self::spawn(&mut command)
    }

    /// Starts a server in a folder at this address, and waits until it listens.
    pub fn start_at(folder: &Path, addr: &str) -> Self {
        Self::spawn(command().current_dir(folder).args(["--addr", addr]))
    }

    /// Starts a command that is a server, and waits until it listens.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in lines.lines() {
                let mut log = sink.lock().unwrap();
                log.push_str(&line.unwrap());
                log.push('\n');
            }
        });
        let unknown = ([0, 0, 0, 0], 0).into();
        let mut process = Self { child, log, reader: Some(reader), addr: unknown, admin_addr: None };
        let (addr, admin_addr) = until("the server listens", || {
            assert!(process.child.try_wait().unwrap().is_none(), "the server ended: {}", process.log());
            let log = process.log();
            let line = log.lines().find(|line| line.contains("is listening"))?;
            let event: serde_json::Value = serde_json::from_str(line).expect("off a terminal, the log is JSON");
            let addr = |name: &str| event[name].as_str().map(|text| text.parse().unwrap());
            Some((addr("addr").unwrap(), addr("admin_addr")))
        });
        (process.addr, process.admin_addr) = (addr, admin_addr);
        process
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end; gives status and the whole log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = until("the server ends", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }

    /// Ends the server in good order.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// Ends the server as a power switch would, as far as the process is concerned.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// The resident memory of the server, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// One answer of the admin port: code and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        http_get(self.admin_addr.unwrap(), path)
    }

    /// The value of one series of the metrics.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.admin("/metrics");
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its end is all that matters here; it may have come already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One GET on a connection of its own: code and body.
pub fn http_get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A server inside the test's process, around an engine that the test made.
pub struct Embedded {
    pub addr: SocketAddr,
    pub admin_addr: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Embedded {
    pub fn start(engine: impl KvsEngine, pool: PoolStrategy) -> Self {
        Self::start_with(engine, ServerConfig { pool: Some(pool), threads: Some(2), ..ServerConfig::default() })
    }

    pub fn start_with(engine: impl KvsEngine, config: ServerConfig) -> Self {
        let free = Some(([127, 0, 0, 1], 0).into());
        let settings = Settings::from_config(ServerConfig { addr: free, admin_addr: free, ..config }).unwrap();
        let server = Server::bind(settings, EngineName::Kvs, Path::new("of-a-test")).unwrap();
        let (addr, admin_addr, stop) = (server.addr(), server.admin_addr().unwrap(), Stop::default());
        let asked = stop.clone();
        let thread = Some(std::thread::spawn(move || server.serve(engine, &asked)));
        Self { addr, admin_addr, stop, thread }
    }

    /// Waits for the end of a server that ends by itself.
    pub fn wait(mut self) -> Result<(), ServerError> {
        let thread = self.thread.take().unwrap();
        until("the server ends", || thread.is_finished().then_some(()));
        thread.join().unwrap()
    }

    pub fn stop(self) -> Result<(), ServerError> {
        self.stop.request();
        self.wait()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.request();
    }
}

/// A client that sends bytes and reads lines.
pub struct Wire {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next line, without its end; `None` when the server has closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches('\n').to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line came: {error}"),
        }
    }

    /// Sends one line and gives its answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line().expect("the server answers")
    }
}

/// The code in an error's line.
pub fn code_of(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {line}")).to_owned()
}
