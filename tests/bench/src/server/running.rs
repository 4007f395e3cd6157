//! `Running`: a server's process on its core, from start to end.
//!
//! What must hold: it ends with the benchmark, however that ends; every server listens on loopback only.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kvs_bench::Result;
use kvs_load::{ControlGroup, Group, Load, Reply, Watched, Wire};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ask;
use crate::contestant::{Contestant, Programs};

/// The core of the server; the benchmark itself is started on another one.
const SERVER_CORE: &str = "0";
/// How long a server may take until it answers, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// What a server is started with beside its program.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Flags of ours.
    pub flags: Vec<String>,
    /// A library that is loaded first.
    pub preload: Option<PathBuf>,
    /// It may use every core: what it does in the background must not take the time of what it does for clients.
    pub on_every_core: bool,
    /// Its memory is accounted for together with that of its children.
    pub in_a_group: bool,
}

/// A running server.
pub struct Running {
    pub contestant: Contestant,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub folder: PathBuf,
    pub options: Options,
    pub group: Option<ControlGroup>,
    child: Child,
}

impl Running {
    /// Starts a server on a folder, which may hold data, and waits until it answers.
    pub fn start(programs: &Programs, contestant: Contestant, folder: &Path, options: Options) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (addr, admin) = (free_address()?, free_address()?);
        let group = options.in_a_group.then(|| ControlGroup::new("kvs-bench", None)).transpose()?;
        let child = launch(programs, contestant, folder, &options, [addr, admin], group.as_ref())?;
        let mut running = Self { contestant, addr, admin, folder: folder.to_owned(), options, group, child };
        running.wait_until(|running| {
            let (wire, ping) = contestant.ping();
            matches!(ask::ask(running.addr, wire, ping), Ok(Reply::Done | Reply::Value))
        })?;
        Ok(running)
    }

    /// What a load speaks to it.
    pub const fn wire(&self) -> Wire {
        Wire::Resp
    }

    pub fn watched(&self) -> Watched {
        Watched { pid: self.child.id() }
    }

    /// Stores a range of keys.
    pub fn load(&self, from: u64, to: u64) -> Result<()> {
        if self.contestant == Contestant::Ours {
            return ask::load_in_batches(self.addr, from, to);
        }
        let group = Group { once_from: Some(from), ..Group::sets(50, 200, to) };
        let load = Load { spin: true, ..Load::new(self.addr, self.wire(), PATIENCE * 4, vec![group]) };
        let outcome = load.run()?.remove(0);
        match outcome.trouble() {
            None if outcome.done == to - from => Ok(()),
            trouble => Err(format!("loading stored {} of {} keys: {trouble:?}", outcome.done, to - from).into()),
        }
    }

    /// Returns when the process has done nearly nothing for a while, or after some time all the same.
    pub fn settle(&self) -> Result<()> {
        const QUIET: Duration = Duration::from_millis(500);
        const LONGEST: Duration = Duration::from_secs(30);
        let began = Instant::now();
        let mut before = self.watched().processor_time()?;
        while began.elapsed() < LONGEST {
            std::thread::sleep(QUIET);
            let now = self.watched().processor_time()?;
            // Two ticks of the kernel's account.
            if now.saturating_sub(before) <= Duration::from_millis(20) {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Ends it as a power switch would end the process, and starts it again at once on the same folder; gives the time
    /// from the start to the first answer to a get.
    pub fn kill_and_restart(&mut self, programs: &Programs) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        let addresses = [self.addr, self.admin];
        self.child = launch(programs, self.contestant, &self.folder, &self.options, addresses, self.group.as_ref())?;
        let wire = self.wire();
        self.wait_until(|running| matches!(ask::get(running.addr, wire, 0), Ok(Reply::Value)))?;
        Ok(began.elapsed())
    }

    /// Asks it to end in good order, and waits.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(format!("{} does not end", self.contestant.as_str()).into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn wait_until(&mut self, is_there: impl Fn(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        while !is_there(self) {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("{} does not answer; its log: {log}", self.contestant.as_str()).into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its end is all that matters here; it may have come already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(
    programs: &Programs,
    contestant: Contestant,
    folder: &Path,
    options: &Options,
    [addr, admin]: [SocketAddr; 2],
    group: Option<&ControlGroup>,
) -> Result<Child> {
    let mut script = String::new();
    if let Some(group) = group {
        script.push_str(&format!("echo 0 >{} && ", group.door().display()));
    }
    // It dies with the benchmark.
    script.push_str("exec setpriv --pdeathsig KILL ");
    let cores = if options.on_every_core { format!("0-{}", cores() - 1) } else { SERVER_CORE.to_owned() };
    script.push_str(&format!("taskset --cpu-list {cores} "));
    if let Some(library) = &options.preload {
        script.push_str(&format!("env LD_PRELOAD={} ", library.display()));
    }
    script.push_str("\"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(programs.of(contestant));
    match contestant {
        Contestant::Ours => {
            command.args(["--addr", &addr.to_string(), "--admin-addr", &admin.to_string(), "--log-level", "warn"]);
            command.arg("--data-dir").arg(folder.join("data")).args(&options.flags);
        }
        Contestant::Redis | Contestant::RedisEverysec | Contestant::Valkey => {
            let sync = if contestant == Contestant::RedisEverysec { "everysec" } else { "always" };
            command.args([
                "--port",
                &addr.port().to_string(),
                "--bind",
                "127.0.0.1",
                "--daemonize",
                "no",
                "--save",
                "",
            ]);
            command.args(["--appendonly", "yes", "--appendfsync", sync, "--no-appendfsync-on-rewrite", "no"]);
            // No rewrite begins by itself: it would come in the middle of some figure.
            command.args(["--auto-aof-rewrite-percentage", "0", "--loglevel", "warning", "--dir"]).arg(folder);
        }
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KVS_")) {
        command.env_remove(name);
    }
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
}

/// All cores of the machine; this process itself is kept to one of them.
fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// An address on loopback that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
