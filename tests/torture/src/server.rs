//! `Server`: a `kvs-server` process under test, started through a shell that can put limits around it.
//!
//! What must hold: it is killed when its owner lets go of it, and what it logged can be read meanwhile.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kvs_load::Watched;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// How long a server may take until it listens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    /// Where clients connect.
    pub addr: SocketAddr,
}

impl Server {
    /// Starts the program on a folder, on a free port, and waits until it listens. `limits` is what a shell does first,
    /// such as `ulimit -n 128`; it may be empty.
    ///
    /// # Errors
    /// When it does not listen in time; the error has its log.
    pub fn start(program: &Path, folder: &Path, limits: &str, arguments: &[&str]) -> io::Result<Self> {
        if !program.exists() {
            let profile = program.parent().and_then(Path::file_name).unwrap_or_default();
            // The folder of the profile `dev` has another name.
            let profile = if profile == "debug" { "dev".as_ref() } else { profile };
            let build = format!("cargo build --profile {} -p kvs-server", profile.display());
            let message = format!("{} is missing; build it first: {build}", program.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let log = folder.join("server.log");
        let mut command = Command::new("sh");
        let script =
            if limits.is_empty() { "exec \"$0\" \"$@\"".to_owned() } else { format!("{limits} && exec \"$0\" \"$@\"") };
        command.arg("-c").arg(script).arg(program).args(["--addr", "127.0.0.1:0", "--data-dir"]);
        command.arg(folder.join("data")).args(arguments);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KVS_")) {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let mut server = Self { child, log, addr: ([127, 0, 0, 1], 0).into() };
        server.addr = server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> io::Result<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("is listening"));
            let event = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(addr) = event.as_ref().and_then(|event| event["addr"].as_str()?.parse().ok()) {
                return Ok(addr);
            }
            if self.has_ended()? || Instant::now() > deadline {
                return Err(io::Error::other(format!("the server does not listen: {log}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it logged until now.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process, seen from outside.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched { pid: self.child.id() }
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn descriptors(&self) -> io::Result<u64> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count() as u64)
    }

    /// Allows it so many descriptors, and that it may be allowed up to `maximum` later.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn allow_descriptors(&self, count: u64, maximum: u64) -> io::Result<()> {
        let allowed = Rlimit { current: Some(count), maximum: Some(maximum) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, allowed)?;
        Ok(())
    }

    /// Whether the process has ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
