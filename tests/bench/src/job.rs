//! One measurement in a process of its own: what the parent asks and how the child answers.
//!
//! What must hold: the child ends with its parent, however that ends; what it measures of itself (processor time,
//! memory) is the work of the one store that it opened.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::{Data, Kind};
use crate::figures;
use crate::measure::Metrics;
use crate::peer::Name;

/// How long a child goes on writing between saying that it is ready and being killed.
const WRITING: Duration = Duration::from_millis(300);

/// What a child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Action {
    /// Many threads, each setting one value after another.
    DurableMany(figures::durable_many::Work),
    /// One thread that sets one value after another, in turns with the probe.
    DurableOne(figures::durable_one::Work),
    /// Loads a store.
    Load(figures::bulk_load::Work),
    /// Random reads.
    Get(figures::random_get::Work),
    /// Opens a store.
    Open(figures::reopen::Work),
    /// Overwrites every key.
    Overwrite(figures::overwrite::Work),
    /// Sets and gets beside a compaction.
    Compact(figures::compaction::Work),
    /// What redb's own benchmark does.
    RedbShape(figures::redb_shape::Work),
}

/// A store and what is to be done with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The store.
    pub peer: Name,
    /// Its folder.
    pub folder: PathBuf,
    /// The data's kind.
    pub kind: Kind,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How many keys the store holds, or is to hold.
    pub keys: u64,
    /// What is to be done.
    pub action: Action,
}

impl Job {
    /// A job on a store with keys and values of the usual sizes.
    pub fn new(peer: Name, folder: &Path, kind: Kind, keys: u64, action: Action) -> Self {
        Self {
            peer,
            folder: folder.to_owned(),
            kind,
            key_bytes: crate::data::KEY_BYTES,
            value_bytes: crate::data::VALUE_BYTES,
            keys,
            action,
        }
    }

    /// The job's keys and values.
    pub fn data(&self) -> Data {
        Data::with_sizes(self.kind, self.key_bytes, self.value_bytes)
    }

    /// Where the job's probe writes: beside the store, on the same file system.
    pub fn probe_folder(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// Runs the job in a child and returns what it measured.
    pub fn run(&self) -> Result<Metrics> {
        let mut child = Running::start(self)?;
        let metrics = child.metrics()?;
        child.end()?;
        Ok(metrics)
    }

    /// Runs the job in a child that is killed, without a chance to close anything, a moment after it
    /// has answered and while it is writing.
    pub fn run_and_kill(&self) -> Result<Metrics> {
        let mut child = Running::start(self)?;
        let metrics = child.metrics()?;
        std::thread::sleep(WRITING);
        child.kill()?;
        Ok(metrics)
    }

    /// What the child does.
    pub fn work(&self) -> Result<Metrics> {
        match &self.action {
            Action::DurableMany(work) => work.run(self),
            Action::DurableOne(work) => work.run(self),
            Action::Load(work) => work.run(self),
            Action::Get(work) => work.run(self),
            Action::Open(work) => work.run(self),
            Action::Overwrite(work) => work.run(self),
            Action::Compact(work) => work.run(self),
            Action::RedbShape(work) => work.run(self),
        }
    }
}

/// Tells the parent what was measured.
pub fn answer(metrics: &Metrics) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(metrics)?)?;
    Ok(output.flush()?)
}

/// A child, which does not outlive this.
struct Running {
    child: Child,
    description: String,
}

impl Running {
    fn start(job: &Job) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("child")
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child, description: format!("{} {:?}", job.peer, job.action) })
    }

    fn metrics(&mut self) -> Result<Metrics> {
        let output = self.child.stdout.take().ok_or("a child is read once")?;
        let mut line = String::new();
        if BufReader::new(output).read_line(&mut line)? == 0 {
            return Err(format!("{}: the child ended without an answer", self.description).into());
        }
        serde_json::from_str(&line).map_err(|error| format!("the child's answer {line:?}: {error}").into())
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.description).into()) }
    }

    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ends a child whose answer could not be had; one that has ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
