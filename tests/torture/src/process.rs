//! A running workload and what it says.
//!
//! What must hold: it is killed when its owner lets go of it, and nothing that it said before its death is lost.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::report::Report;
use crate::task::Task;

/// How long a workload may say nothing before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// Reports that were read and not yet judged.
const MAX_REPORTS: usize = 4096;

/// A running workload.
#[derive(Debug)]
pub struct Process {
    child: Child,
    reports: Receiver<Report>,
    reader: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts the program `workload` on a task.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(program: &Path, task: &Task) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(task.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (output, mut errors) = (child.stdout.take(), child.stderr.take());
        let (sender, reports) = sync_channel(MAX_REPORTS);
        let reader = std::thread::spawn(move || {
            let Some(output) = output else { return };
            for line in BufReader::with_capacity(64 * 1024, output).lines().map_while(Result::ok) {
                // The last line may be cut off; then what it was about to say was not said.
                let Some(report) = Report::parse(&line) else { continue };
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(errors) = &mut errors {
                let _ = errors.read_to_string(&mut text);
            }
            text
        });
        Ok(Self { child, reports, reader: Some(reader), complaints: Some(complaints) })
    }

    /// The next report; `None` when the process has ended.
    ///
    /// # Panics
    /// When nothing comes for a minute.
    pub fn next_report(&mut self) -> Option<Report> {
        match self.reports.recv_timeout(PATIENCE) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the workload says nothing any more: it hangs"),
        }
    }

    /// What it says within a time; `None` when it says nothing until then, or has ended.
    pub fn next_within(&mut self, time: Duration) -> Option<Report> {
        self.reports.recv_timeout(time).ok()
    }

    /// Kills it with SIGKILL. What it said before is still to be heard.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for its end; gives its exit code, `None` when it was killed, and what it wrote to standard error. Reports
    /// that nobody heard are lost.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn finish(mut self) -> io::Result<(Option<i32>, String)> {
        while self.next_report().is_some() {}
        let code = self.child.wait()?.code();
        let text = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((code, text))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
        while self.reports.recv_timeout(PATIENCE).is_ok() {}
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
