//! `OperatorProcess`: the operator as a process of this machine, which a test may kill, stop and start again.
//!
//! What must hold: it ends with this value; only processes that were started here are signalled, by a descriptor that no
//! other process can inherit; of what it says the last lines are kept.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::waiting::{NotYet, until};

/// Lines of its log that are kept.
const MOST_LINES: usize = 200;
/// The longest wait for its first line.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running operator.
pub struct OperatorProcess {
    child: Child,
    handle: Arc<OwnedFd>,
    lines: Arc<Mutex<VecDeque<String>>>,
}

/// How an operator is started.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where its cluster is.
    pub kubeconfig: &'a Path,
    /// The namespace that it serves, and that its Lease is in.
    pub namespace: &'a str,
    /// Who it is in the election. A process of the same name goes on where its dead predecessor ended.
    pub identity: &'a str,
}

impl OperatorProcess {
    /// Starts it; it may not have said anything yet.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(options: Options<'_>) -> Result<Self, Failure> {
        let Options { program, kubeconfig, namespace, identity } = options;
        let mut command = Command::new(program);
        command
            .args(["run", "--admin-addr", "127.0.0.1:0", "--watch-namespace", namespace])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            // A variable, not a flag: the operator of an earlier version knows of no Lease.
            .env("KVS_LEASE_NAMESPACE", namespace)
            .envs([("POD_NAME", identity), ("POD_UID", "0"), ("RUST_LOG", "info,kube=warn")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(Failure::io(format!("starting {}", program.display())))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::Unexpected("the operator has no process".into()))?;
        let handle = pidfd_open(pid, PidfdFlags::empty());
        let handle = Arc::new(handle.map_err(|error| Failure::io("holding the operator's process")(error.into()))?);
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stderr) = child.stderr.take() {
            let lines = Arc::clone(&lines);
            tokio::spawn(async move {
                let mut reader = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = reader.next_line().await {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if lines.len() == MOST_LINES {
                        lines.pop_front();
                    }
                    lines.push_back(line);
                }
            });
        }
        Ok(Self { child, handle, lines })
    }

    /// Something that sends it SIGKILL, from anywhere.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        let handle = Arc::clone(&self.handle);
        move || {
            // It may have ended by itself.
            let _ = pidfd_send_signal(&*handle, Signal::KILL);
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        pidfd_send_signal(&*self.handle, signal).map_err(|error| Failure::io("signalling the operator")(error.into()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end(&mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.map_err(Failure::io("waiting for the operator")),
            Err(_elapsed) => Err(Failure::Unexpected(format!("the operator does not end:\n{}", self.log()))),
        }
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(Failure::io("asking for the operator's end"))
    }

    /// Waits until it has logged a line with these words.
    ///
    /// # Errors
    /// When it does not in time, with what it said.
    pub async fn says(&self, words: &str, limit: Duration) -> Result<String, Failure> {
        until(format!("the operator says '{words}'"), limit, async || {
            let log = self.log();
            let found = log.lines().find(|line| line.contains(words)).map(str::to_owned);
            found.ok_or(NotYet(log))
        })
        .await
    }

    /// Where its health and its metrics are.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub async fn admin_address(&self) -> Result<SocketAddr, Failure> {
        let line = self.says("kvs-operator starts", START_LIMIT).await?;
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = line["admin_addr"].as_str().and_then(|address| address.parse().ok());
        address.ok_or_else(|| Failure::Unexpected(format!("no address in {line}")))
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The last lines that it said.
    #[must_use]
    pub fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
