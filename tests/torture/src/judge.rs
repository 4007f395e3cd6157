//! Runs a workload, traced or not, and has the oracle hear what it said.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use kvs_engine::backup::restore;
use tempfile::TempDir;

use crate::oracle::Oracle;
use crate::process::Process;
use crate::report::Report;
use crate::task::Task;
use crate::tracer::{self, Plan, Program, Run};

/// How long a small workload may take under the tracer, on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The folder beside the data where the story makes its backup.
pub const BACKUP: &str = "backup";
/// What the names of scratch folders begin with.
const PREFIX: &str = "kvs-torture-";
/// Where Linux keeps files in memory.
const MEMORY_FOLDER: &str = "/dev/shm";

/// A scratch folder with a data folder in it, which the workload creates, and room for what programs say.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

/// A traced run, and what it said.
#[derive(Debug)]
pub struct Heard {
    /// How it went.
    pub run: Run,
    /// What it said, and where the line of each report ends in its output.
    pub reports: Vec<(u64, Report)>,
    /// What it wrote to standard error.
    pub errors: String,
}

impl Scratch {
    /// An empty one on disk, where syncs take their time.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn on_disk() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// An empty one in memory, if this machine has such a folder: where what was handed to the operating system counts,
    /// and not what it does with it, thousands of workloads are much faster so.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub fn in_memory() -> io::Result<Self> {
        Self::below(Path::new(MEMORY_FOLDER)).or_else(|_| Self::on_disk())
    }

    fn below(parent: &Path) -> io::Result<Self> {
        // The number of the process tells a later one whether this folder is still somebody's.
        let prefix = format!("{PREFIX}{}-", std::process::id());
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| [&std::env::temp_dir(), Path::new(MEMORY_FOLDER)].into_iter().for_each(sweep));
        Ok(Self { folder: TempDir::with_prefix_in(prefix, parent)? })
    }

    /// The data folder, two levels down so that its own creation is among the calls that count.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("watched").join("data")
    }

    /// The same files once more, in another scratch folder.
    ///
    /// # Errors
    /// When they can't be copied.
    pub fn copy(&self) -> io::Result<Self> {
        let copy = Self::in_memory()?;
        if !self.data().exists() {
            return Ok(copy);
        }
        std::fs::create_dir_all(copy.data())?;
        for entry in std::fs::read_dir(self.data())? {
            let entry = entry?;
            std::fs::copy(entry.path(), copy.data().join(entry.file_name()))?;
        }
        Ok(copy)
    }

    /// Runs a workload whose system calls are meddled with.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn trace(&self, program: &Path, task: &Task, plan: Plan) -> io::Result<Heard> {
        let watched = self.folder.path().join("watched");
        std::fs::create_dir_all(&watched)?;
        let (output, errors) = (self.folder.path().join("output"), self.folder.path().join("errors"));
        let program = Program {
            file: program,
            arguments: task.arguments(),
            folder: &watched,
            output: &output,
            errors: &errors,
            time_limit: TIME_LIMIT,
            started: None,
        };
        let run = tracer::run(&program, plan)?;
        let mut reports = Vec::new();
        let mut end = 0;
        for line in std::fs::read_to_string(&output)?.split_inclusive('\n') {
            end += line.len() as u64;
            reports.extend(Report::parse(line.trim_end()).filter(|_| line.ends_with('\n')).map(|report| (end, report)));
        }
        Ok(Heard { run, reports, errors: std::fs::read_to_string(&errors)? })
    }
}

/// Removes what tests left behind that were killed themselves.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).map(str::parse::<u32>);
        if let Some(Ok(owner)) = owner
            && !Path::new("/proc").join(owner.to_string()).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens a folder without any fault and judges what is in it, and whether it takes a write. Gives the bytes of the torn
/// tail that were cut.
///
/// # Errors
/// What must never be.
pub fn probe(program: &Path, task: &Task, oracle: &mut Oracle) -> Result<u64, String> {
    let mut process = Process::start(program, task).map_err(|error| error.to_string())?;
    oracle.begin(task.run);
    let (mut last, mut torn_bytes) = (None, 0);
    while let Some(report) = process.next_report() {
        oracle.hear(&report)?;
        if let Report::Opened(bytes) = report {
            torn_bytes += bytes;
        }
        last = Some(report);
    }
    let (code, errors) = process.finish().map_err(|error| error.to_string())?;
    match (code, &last) {
        (Some(0), Some(Report::End(how))) if how == "well" => Ok(torn_bytes),
        _ => Err(format!("the store did not open and close well: exit code {code:?}, {last:?}, {errors}")),
    }
}

/// Judges the backup that a story made or was at: one that was reported as made gives a store with all that was there;
/// another one gives that or is refused. Nothing to judge where the story went on to write after it.
///
/// # Errors
/// What must never be.
pub fn judge_backup(program: &Path, task: &Task, heard: &Heard, oracle: &Oracle) -> Result<(), String> {
    let reports = || heard.reports.iter().map(|(_, report)| report);
    let Some(begun) = reports().position(|report| *report == Report::Phase("backup".to_owned())) else { return Ok(()) };
    let failed = reports().any(|report| matches!(report, Report::Trouble(text) if text.starts_with("making a backup")));
    let ended = reports().skip(begun + 1).any(|report| matches!(report, Report::Phase(_)));
    if reports().skip(begun).any(|report| matches!(report, Report::Intent(..))) {
        return Ok(());
    }
    let restored = task.folder.with_file_name("restored");
    match restore(task.folder.with_file_name(BACKUP), &restored) {
        Ok(_) => {
            let task = Task { folder: restored, ..task.probe(9) };
            probe(program, &task, &mut oracle.clone())
                .map(|_| ())
                .map_err(|wrong| format!("restored from the backup: {wrong}"))
        }
        Err(error) if ended && !failed => Err(format!("a backup that was made can't be restored: {error}")),
        Err(_) => Ok(()),
    }
}

/// Has the oracle hear a run.
///
/// # Errors
/// What must never be.
pub fn hear_all(oracle: &mut Oracle, run: u64, reports: &[(u64, Report)]) -> Result<(), String> {
    oracle.begin(run);
    reports.iter().try_for_each(|(_, report)| oracle.hear(report))
}
