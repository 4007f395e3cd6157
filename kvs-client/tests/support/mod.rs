//! What the tests share: the client and the server as processes, and waiting with a deadline.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test file uses its part, and ends at the unexpected"
)]

pub mod cluster;
pub mod console;
pub mod fake;
pub mod terminal;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen soon, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until there is something, or fails the test.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Polls until there is something, or patience ends.
pub fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            found => return found,
        }
    }
}

/// Whether `KVS_TORTURE=full` asks for the long versions, which `make torture-server` runs with a release build.
pub fn is_full() -> bool {
    match std::env::var("KVS_TORTURE").as_deref() {
        Err(_) => false,
        Ok("full") => true,
        Ok(other) => panic!("KVS_TORTURE is {other:?}; say KVS_TORTURE=full, or leave it out"),
    }
}

/// A figure that a test measured, for whoever reads the log of a long run.
pub fn figure(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// A command that sees no `KVS_*` variable and no kubeconfig of whoever runs the tests.
fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVS_") {
            command.env_remove(name);
        }
    }
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub output: Vec<u8>,
    pub errors: String,
}

impl Outcome {
    /// The standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }

    /// Asserts success with this standard output and nothing on standard error.
    #[track_caller]
    pub fn assert_prints(&self, output: &str) {
        assert_eq!((self.code, self.text(), self.errors.as_str()), (Some(0), output, ""));
    }

    /// Asserts this exit code with this standard output and nothing on standard error.
    #[track_caller]
    pub fn assert_says(&self, code: i32, output: &str) {
        assert_eq!((self.code, self.text(), self.errors.as_str()), (Some(code), output, ""));
    }

    /// Asserts this exit code, no standard output and one line on standard error; returns the line.
    #[track_caller]
    pub fn assert_fails(&self, code: i32) -> &str {
        assert_eq!((self.code, self.text()), (Some(code), ""), "{}", self.errors);
        let line = self.errors.strip_suffix('\n').expect("standard error ends its line");
        assert!(!line.is_empty() && !line.contains('\n'), "one line: {line:?}");
        line
    }
}

/// `kvs-client` with these arguments.
pub fn client<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = clean_command(env!("CARGO_BIN_EXE_kvs-client"));
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    Outcome { code: output.status.code(), output: output.stdout, errors }
}

/// The folder of the programs, the server's among them.
pub fn programs() -> &'static Path {
    server_program().parent().unwrap()
}

/// The server's program beside the client's. It is another package's, so Cargo does not build it for these tests. A
/// release build is measured, so it must not be an old one; in a debug build of the whole workspace it is a new one.
fn server_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_kvs-client")).with_file_name("kvs-server");
        let is_release = !cfg!(debug_assertions);
        if is_release || !program.is_file() {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--package", "kvs-server", "--bin", "kvs-server", "--target-dir"]);
            build.arg(program.parent().and_then(Path::parent).unwrap());
            if is_release {
                build.arg("--release");
            }
            let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
            assert!(built.success(), "these tests need the server: cargo build -p kvs-server");
        }
        program
    })
}

/// A running `kvs-server`, killed when the test ends.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
}

impl Server {
    /// Starts a server on a free port with its data in this folder, and waits until it listens.
    pub fn start(folder: &Path) -> Self {
        Self::start_at(folder, "127.0.0.1:0")
    }

    /// As [`start`](Self::start), at this address.
    pub fn start_at(folder: &Path, addr: &str) -> Self {
        Self::start_with(folder, &["--addr", addr])
    }

    /// As [`start`](Self::start), with these flags.
    pub fn start_with<A: AsRef<OsStr>>(folder: &Path, flags: &[A]) -> Self {
        let mut command = clean_command(server_program());
        if !flags.iter().any(|flag| flag.as_ref() == "--addr") {
            command.args(["--addr", "127.0.0.1:0"]);
        }
        command.args(flags).arg("--data-dir").arg(folder);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let addr = listening_address(&mut log);
        // Somebody must read the log, or the server would wait for it.
        thread::spawn(move || log.lines().for_each(drop));
        Self { child, addr }
    }

    /// `kvs-client` with these arguments, and the address of this server.
    pub fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = client(arguments);
        command.env("KVS_ADDR", self.addr.to_string());
        command
    }

    /// Runs `kvs-client` with these arguments against this server.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.client(arguments))
    }

    /// Ends the server as a power switch would, as far as the process is concerned.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the server's log up to the line that says where it listens.
fn listening_address(log: &mut BufReader<ChildStderr>) -> SocketAddr {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert!(log.read_line(&mut seen).unwrap() > 0, "the server ended: {seen}");
        let event: serde_json::Value = serde_json::from_str(&seen[start..]).expect("off a terminal, the log is JSON");
        if let Some(addr) = event["addr"].as_str() {
            return addr.parse().unwrap();
        }
    }
}
