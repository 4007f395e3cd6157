//! A file system of its own on a loop device, which a test fills up, or shuts down under a running process.
//!
//! What must hold: mount and device go whatever happens to the test. They live in a mount namespace that belongs to a
//! shell, which ends when its standard input closes; with the namespace goes the mount, and with the mount the device.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// What ends a command's output in the shell's answers.
const END_MARK: &str = "::ended ";

/// A kind of file system, with how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4 as it is mounted everywhere: data is written before the metadata that points at it.
    Ext4Ordered,
    /// ext4 that writes data whenever it likes.
    Ext4Writeback,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ext4Ordered, Self::Ext4Writeback, Self::Xfs];

    /// How people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4Ordered => "ext4 ordered",
            Self::Ext4Writeback => "ext4 writeback",
            Self::Xfs => "xfs",
        }
    }

    const fn make(self) -> &'static str {
        match self {
            Self::Ext4Ordered | Self::Ext4Writeback => "mkfs.ext4 -q -F -m 0",
            Self::Xfs => "mkfs.xfs -q -f",
        }
    }

    const fn options(self) -> &'static str {
        match self {
            Self::Ext4Ordered => "loop,data=ordered",
            Self::Ext4Writeback => "loop,data=writeback",
            Self::Xfs => "loop",
        }
    }

    /// The smallest image that this kind accepts, in MiB, or what is comfortable.
    const fn least_mib(self) -> u64 {
        match self {
            Self::Ext4Ordered | Self::Ext4Writeback => 1,
            Self::Xfs => 320,
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct LoopMount {
    kind: FileSystem,
    shell: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Holds the image and the mount point. Dropped last.
    scratch: TempDir,
}

impl LoopMount {
    /// Makes a file system of at least so many MiB and mounts it.
    ///
    /// # Panics
    /// Without root, or without the programs that it takes; the message says what to do.
    ///
    /// # Errors
    /// What the shell's commands said.
    pub fn new(kind: FileSystem, mib: u64) -> io::Result<Self> {
        check_rights(kind);
        let scratch = TempDir::new()?;
        std::fs::create_dir(scratch.path().join("mount"))?;
        File::create(scratch.path().join("image"))?.set_len(mib.max(kind.least_mib()) << 20)?;
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh"])
            .current_dir(scratch.path())
            .env("PATH", path_with_sbin())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?);
        let mut mount = Self { kind, shell, commands, answers, scratch };
        mount.run(&format!("{} image", kind.make()))?;
        mount.mount()?;
        Ok(mount)
    }

    /// The mounted folder, as every process sees it: through the shell's namespace.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let inside = self.scratch.path().join("mount");
        let inside = inside.strip_prefix("/").unwrap_or(&inside);
        Path::new("/proc").join(self.shell.id().to_string()).join("root").join(inside)
    }

    /// Mounts it again, after [`unmount`](Self::unmount).
    ///
    /// # Errors
    /// What `mount` said.
    pub fn mount(&mut self) -> io::Result<()> {
        self.run(&format!("mount -t {} -o {} image mount", self.kind_word(), self.kind.options()))
    }

    fn kind_word(&self) -> &'static str {
        if self.kind == FileSystem::Xfs { "xfs" } else { "ext4" }
    }

    /// Unmounts it; nobody may have a file of it open.
    ///
    /// # Errors
    /// What `umount` said.
    pub fn unmount(&mut self) -> io::Result<()> {
        self.run("umount mount")
    }

    /// Cuts the power: from this moment nothing more reaches the device, neither the journal nor what waits in memory.
    ///
    /// # Errors
    /// What `xfs_io` said.
    pub fn cut_power(&mut self) -> io::Result<()> {
        // The request has the same number for ext4. Without -f, what the journal holds in memory is lost as well.
        self.run("xfs_io -x -c shutdown mount")
    }

    /// Runs a command beside the mount point.
    fn run(&mut self, command: &str) -> io::Result<()> {
        let commands = self.commands.as_mut().ok_or_else(|| io::Error::other("the shell has ended"))?;
        writeln!(commands, "{command} 2>&1 </dev/null; echo \"{END_MARK}$?\"")?;
        commands.flush()?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("the shell ended at: {command}: {said}")));
            }
            match line.trim_end().split_once(END_MARK) {
                Some((_, "0")) => return Ok(()),
                Some((before, status)) => {
                    return Err(io::Error::other(format!("{command}: status {status}: {said}{before}")));
                }
                None => said.push_str(&line),
            }
        }
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        let _ = self.run("umount mount");
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}

/// Refuses to run without what it takes: a test that skips itself says nothing.
fn check_rights(kind: FileSystem) {
    let packages: &[(&str, &str)] = match kind {
        FileSystem::Xfs => &[("mkfs.xfs", "xfsprogs"), ("xfs_io", "xfsprogs")],
        FileSystem::Ext4Ordered | FileSystem::Ext4Writeback => &[("mkfs.ext4", "e2fsprogs"), ("xfs_io", "xfsprogs")],
    };
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts file systems of its own, which needs root; run it with: sudo --preserve-env=PATH,HOME cargo test -p kvs-torture"
    );
    for (program, package) in [("unshare", "util-linux"), ("mount", "mount")].iter().chain(packages) {
        let found = path_with_sbin().split(':').any(|folder| Path::new(folder).join(program).exists());
        assert!(found, "this test needs the program {program}; install it with: apt-get install {package}");
    }
}

/// Root's shell may lack the folders where programs for file systems are.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", std::env::var("PATH").unwrap_or_default())
}
