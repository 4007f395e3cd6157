//! `ControlGroup`: a memory limit around a process, and what is charged to it. Both versions of the kernel's interface.
//!
//! What must hold: it goes when it is dropped, whatever happened to the process; only root can make one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the groups of memory are in the first version, and all groups in the second.
const FIRST_ROOT: &str = "/sys/fs/cgroup/memory";
const SECOND_ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to empty a group whose process has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A group of processes with a memory limit.
#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
    is_second: bool,
}

impl ControlGroup {
    /// A group without processes. The name must be this process's own.
    ///
    /// # Errors
    /// Without root, or where the kernel has no such groups.
    pub fn new(name: &str, limit_bytes: Option<u64>) -> io::Result<Self> {
        let is_second = Path::new(SECOND_ROOT).join("cgroup.controllers").exists();
        let root = Path::new(if is_second { SECOND_ROOT } else { FIRST_ROOT });
        if is_second {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        }
        let folder = root.join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Self { folder, is_second };
        if let Some(bytes) = limit_bytes {
            group.write(if is_second { "memory.max" } else { "memory.limit_in_bytes" }, &bytes.to_string())?;
            if is_second {
                // Past the limit a process must fail, not swap.
                let _ = group.write("memory.swap.max", "0");
            }
        }
        Ok(group)
    }

    /// The file into which a process writes its number, or `0`, to become a member.
    #[must_use]
    pub fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Anonymous memory that is charged to the group now, in bytes, pages that a fork copied included.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        self.number("memory.stat", if self.is_second { "anon" } else { "total_rss" })
    }

    /// How often the kernel killed a process of the group for want of memory.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn kills(&self) -> io::Result<u64> {
        self.number(if self.is_second { "memory.events" } else { "memory.oom_control" }, "oom_kill")
    }

    /// The most memory that was ever charged to the group, in bytes, the page cache included.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn highest_bytes(&self) -> io::Result<u64> {
        let name = if self.is_second { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.folder.join(name))?;
        text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, text))
    }

    fn number(&self, file: &str, name: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {name} in {file}: {text}")))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), text)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let began = Instant::now();
        // A process that was killed leaves its group a moment later.
        while fs::remove_dir(&self.folder).is_err() && self.folder.exists() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
