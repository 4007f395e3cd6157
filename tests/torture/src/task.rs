//! What a workload is told to do: arguments on one side, fields on the other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kvs_engine::Options;

/// What a workload does after it has said what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Nothing but opening, and one write to see that the store takes it, then a close.
    Probe,
    /// One of every kind of work, in a fixed order on one thread: for faults at a chosen system call.
    Story,
    /// Random operations on shared keys by many threads, until it is killed or all are done.
    Mixed,
}

const SCRIPTS: [(&str, Script); 3] = [("probe", Script::Probe), ("story", Script::Story), ("mixed", Script::Mixed)];

/// What a workload is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The data folder.
    pub folder: PathBuf,
    /// What it does.
    pub script: Script,
    /// Makes the values of this run differ from those of all others.
    pub run: u64,
    /// Chooses keys and operations.
    pub seed: u64,
    /// Threads that write, in [`Script::Mixed`].
    pub writers: u64,
    /// How many keys there are.
    pub keys: usize,
    /// Operations of each thread.
    pub operations: u64,
    /// As [`Options::segment_bytes`].
    pub segment_bytes: u64,
    /// As [`Options::compaction_threshold_bytes`].
    pub threshold_bytes: u64,
    /// As [`Options::checkpoint_bytes`].
    pub checkpoint_bytes: u64,
}

impl Task {
    /// A small one on a folder.
    #[must_use]
    pub fn new(folder: &Path, script: Script) -> Self {
        Self {
            folder: folder.to_path_buf(),
            script,
            run: 1,
            seed: 1,
            writers: 1,
            keys: 12,
            operations: 0,
            segment_bytes: 4096,
            threshold_bytes: u64::MAX,
            checkpoint_bytes: 1,
        }
    }

    /// The same folder and keys in another run, only opened and probed.
    #[must_use]
    pub fn probe(&self, run: u64) -> Self {
        Self { script: Script::Probe, run, ..self.clone() }
    }

    /// How the store is opened.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            compaction_threshold_bytes: self.threshold_bytes,
            checkpoint_bytes: self.checkpoint_bytes,
            ..Options::default()
        }
    }

    /// The program's arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let script = SCRIPTS.iter().find(|(_, script)| *script == self.script).map_or("", |(name, _)| name);
        let numbers = [
            self.run,
            self.seed,
            self.writers,
            self.keys as u64,
            self.operations,
            self.segment_bytes,
            self.threshold_bytes,
            self.checkpoint_bytes,
        ];
        let mut arguments = vec![self.folder.clone().into_os_string(), script.into()];
        arguments.extend(numbers.iter().map(|number| number.to_string().into()));
        arguments
    }

    /// The task of a program's arguments; `None` when they are no task's.
    #[must_use]
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let [folder, script, numbers @ ..] = arguments else { return None };
        let (_, script) = SCRIPTS.iter().find(|(name, _)| script.to_str() == Some(name))?;
        let numbers: Option<Vec<u64>> = numbers.iter().map(|number| number.to_str()?.parse().ok()).collect();
        let [run, seed, writers, keys, operations, segment_bytes, threshold_bytes, checkpoint_bytes] = *numbers? else {
            return None;
        };
        Some(Self {
            folder: folder.into(),
            script: *script,
            run,
            seed,
            writers,
            keys: usize::try_from(keys).ok()?,
            operations,
            segment_bytes,
            threshold_bytes,
            checkpoint_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_the_whole_task() {
        let task = Task { seed: 7, threshold_bytes: 9000, ..Task::new(Path::new("/some/folder"), Script::Mixed) };
        assert_eq!(Task::parse(&task.arguments()), Some(task));
    }
}
