//! Runs a program and meddles with a chosen one of its system calls: the process dies as it enters the call, or the
//! call fails, or it writes less than it was told.
//!
//! What must hold:
//! * calls are counted over all threads of the process, in the order in which they are entered, and only those that
//!   can change or sync something below one folder; so running again with the next number meets every call in turn
//!   until the program comes to its end;
//! * a call at whose entry the process dies has done nothing; one that fails has done nothing either;
//! * a way to change files that this tracer does not see (io_uring, a shared writable mapping) stops the test.
//!
//! It works by ptrace(2). A system call's number and arguments are read from registers, hence x86-64 only.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

pub use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
pub use nix::unistd::Pid;

#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(not(target_arch = "x86_64"))]
mod calls {
    //! Other machines name registers differently.
    compile_error!("kvs-torture reads system calls from the registers of x86-64; it can't be built for this machine");
}

/// What happens to the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed as it enters the call.
    Kill,
    /// A write takes half of its bytes, and the process is killed as it returns; another call kills at its entry.
    KillHalfway,
    /// The call fails with this error number, once.
    Once(Errno),
    /// This call and all later ones of its name fail.
    ForEver(Errno),
    /// A write takes half of its bytes, at least one; another call works.
    ShortWrite,
    /// This write and all later ones take half of their bytes, at least one; another call works.
    ShortWrites,
}

/// Which call, from 1, and what happens to it. Number 0 is no call: everything works, and calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The number of the call.
    pub call: u64,
    /// What happens to it.
    pub fault: Fault,
}

impl Plan {
    /// Everything works.
    pub const NOTHING: Self = Self { call: 0, fault: Fault::Kill };
}

/// A program to run.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its file.
    pub file: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Calls on files below here count.
    pub folder: &'a Path,
    /// Takes its standard output.
    pub output: &'a Path,
    /// Takes its standard error.
    pub errors: &'a Path,
    /// How long it may take before it counts as hung and is killed.
    pub time_limit: Duration,
    /// Is told the process's number.
    pub started: Option<Sender<Pid>>,
}

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Its name, such as `fdatasync`.
    pub name: &'static str,
    /// The name of the file that it is about; empty for the folder itself.
    pub file: String,
    /// The name of the thread that made it.
    pub thread: String,
}

/// A call that was meddled with.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The call.
    pub call: Call,
    /// Bytes of standard output that were written before.
    pub output_bytes: u64,
    /// When it was.
    pub at: Instant,
    /// How often the fault struck, with [`Fault::ForEver`].
    pub times: u64,
}

/// How a program's run went.
#[derive(Debug)]
pub struct Run {
    /// Calls that counted.
    pub calls: u64,
    /// The chosen call, if the run came that far.
    pub hit: Option<Hit>,
    /// The exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// When it ended.
    pub ended: Instant,
    /// It did not end in time and was killed.
    pub hung: bool,
}

/// Runs a program to its end.
///
/// # Errors
/// When it can't be started or traced.
pub fn run(program: &Program<'_>, plan: Plan) -> io::Result<Run> {
    // The shell waits until it is traced; then it becomes the program.
    let mut child = Command::new("sh")
        .args(["-c", "read go && exec \"$@\"", "sh"])
        .arg(program.file)
        .args(&program.arguments)
        .stdin(Stdio::piped())
        .stdout(File::create(program.output)?)
        .stderr(File::create(program.errors)?)
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    if let Err(error) = ptrace::seize(pid, options).and_then(|()| ptrace::interrupt(pid)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.into());
    }
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"go\n")?;
    }
    if let Some(started) = &program.started {
        let _ = started.send(pid);
    }
    let (ended, watch) = channel::<()>();
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let hung = watch.recv_timeout(program.time_limit) == Err(RecvTimeoutError::Timeout);
            if hung {
                let _ = kill(pid, Signal::SIGKILL);
            }
            hung
        });
        let mut tracer = Tracer { program, plan, pid, inside: HashMap::new(), calls: 0, hit: None };
        let result = tracer.follow();
        if result.is_err() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        drop(ended);
        let hung = watchdog.join().unwrap_or(true);
        Ok(Run { calls: tracer.calls, hit: tracer.hit, code: result?, ended: Instant::now(), hung })
    })
}

/// What is to be done when a call that was entered returns.
#[derive(Debug, Clone, Copy)]
enum AtExit {
    Nothing,
    Fail(Errno),
    /// The count that the program had given, which it may look at again.
    RestoreCount(u64),
    Kill,
}

struct Tracer<'a> {
    program: &'a Program<'a>,
    plan: Plan,
    pid: Pid,
    /// Threads inside of a call.
    inside: HashMap<Pid, AtExit>,
    calls: u64,
    hit: Option<Hit>,
}

impl Tracer<'_> {
    /// Follows the process to its end; gives its exit code.
    fn follow(&mut self) -> io::Result<Option<i32>> {
        loop {
            // Only what this thread traces: others run programs of their own.
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::EINTR) => continue,
                status => status?,
            };
            let (thread, signal) = match status {
                WaitStatus::Exited(thread, code) if thread == self.pid => return Ok(Some(code)),
                WaitStatus::Signaled(thread, ..) if thread == self.pid => return Ok(None),
                WaitStatus::PtraceSyscall(thread) => {
                    // A thread that is gone meanwhile was killed; its end is reported next.
                    ignore_gone(self.system_call(thread))?;
                    (thread, None)
                }
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                _ => continue,
            };
            ignore_gone(ptrace::syscall(thread, signal).map_err(io::Error::from))?;
        }
    }

    /// A thread enters a call, or returns from one.
    fn system_call(&mut self, thread: Pid) -> io::Result<()> {
        let mut registers = ptrace::getregs(thread)?;
        if let Some(at_exit) = self.inside.remove(&thread) {
            match at_exit {
                AtExit::Nothing => return Ok(()),
                AtExit::Fail(errno) => calls::set_result(&mut registers, errno),
                AtExit::RestoreCount(count) => calls::set_count(&mut registers, count),
                AtExit::Kill => return Ok(kill(self.pid, Signal::SIGKILL)?),
            }
            return Ok(ptrace::setregs(thread, registers)?);
        }
        if !calls::is_entry(&registers) {
            return Ok(());
        }
        self.inside.insert(thread, AtExit::Nothing);
        let Some((name, paths)) = calls::changes_files(self.pid, &registers) else { return Ok(()) };
        let Some(path) = paths.iter().find(|path| path.starts_with(self.program.folder)) else { return Ok(()) };
        if name == calls::UNSEEN {
            return Err(io::Error::other(format!(
                "{} is changed in a way that this tracer does not see",
                path.display()
            )));
        }
        self.calls += 1;
        if !self.strikes(name) {
            return Ok(());
        }
        self.note(thread, name, path)?;
        match self.plan.fault {
            Fault::Kill => Ok(kill(self.pid, Signal::SIGKILL)?),
            Fault::Once(errno) | Fault::ForEver(errno) => {
                calls::skip(&mut registers);
                self.inside.insert(thread, AtExit::Fail(errno));
                Ok(ptrace::setregs(thread, registers)?)
            }
            Fault::ShortWrite | Fault::ShortWrites | Fault::KillHalfway => {
                let dies = self.plan.fault == Fault::KillHalfway;
                let Some(count) = calls::count_of_write(&registers).filter(|count| *count > 1) else {
                    return if dies { Ok(kill(self.pid, Signal::SIGKILL)?) } else { Ok(()) };
                };
                calls::set_count(&mut registers, count / 2);
                self.inside.insert(thread, if dies { AtExit::Kill } else { AtExit::RestoreCount(count) });
                Ok(ptrace::setregs(thread, registers)?)
            }
        }
    }

    /// Whether the call that is entered now is meddled with.
    fn strikes(&self, name: &str) -> bool {
        if self.calls == self.plan.call {
            return true;
        }
        let again = matches!(self.plan.fault, Fault::ForEver(_) | Fault::ShortWrites);
        again && self.hit.as_ref().is_some_and(|hit| hit.call.name == name)
    }

    fn note(&mut self, thread: Pid, name: &'static str, path: &Path) -> io::Result<()> {
        if let Some(hit) = &mut self.hit {
            hit.times += 1;
            return Ok(());
        }
        let is_folder = path == self.program.folder;
        let file = if is_folder { None } else { path.file_name() };
        let file = file.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{}/task/{thread}/comm", self.pid)).unwrap_or_default();
        let call = Call { name, file, thread: comm.trim().to_owned() };
        let output_bytes = std::fs::metadata(self.program.output)?.len();
        self.hit = Some(Hit { call, output_bytes, at: Instant::now(), times: 1 });
        Ok(())
    }
}

/// A thread that was killed meanwhile is no error.
fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(()),
        other => other,
    }
}
