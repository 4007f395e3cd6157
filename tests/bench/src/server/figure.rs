//! What a figure is, the servers that figures share, and how rounds are run.
//!
//! What must hold: in each round every server has its turn, and none has the same place in every round; while one is
//! measured the others are idle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kvs_bench::measure::Metrics;
use kvs_bench::row::{Measured, OURS, Row};
use kvs_bench::scale::Scale;
use kvs_bench::{Result, machine};
use kvs_load::{Group, Load, Outcome};

use crate::contestant::{Contestant, Programs};
use crate::running::{Options, Running};

/// Keys of a loaded server.
const LOADED_KEYS: u64 = 1_000_000;

/// What figures share.
pub struct Bench {
    pub folder: PathBuf,
    pub scale: Scale,
    pub programs: Programs,
    /// Servers with all keys.
    loaded: BTreeMap<Contestant, Running>,
}

impl Bench {
    /// Works in a folder, which is emptied first and taken away in the end.
    pub fn new(folder: &Path, scale: Scale, programs: Programs) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.canonicalize()?, scale, programs, loaded: BTreeMap::new() })
    }

    /// How many keys a [`loaded`](Self::loaded) server has.
    pub fn keys(&self) -> u64 {
        self.scale.count(LOADED_KEYS)
    }

    /// A server with all keys, started and loaded when it is first wanted.
    pub fn loaded(&mut self, contestant: Contestant) -> Result<&mut Running> {
        if !self.loaded.contains_key(&contestant) {
            let running = self.fresh(contestant, "loaded", Options::default())?;
            running.load(0, self.keys())?;
            running.settle()?;
            self.loaded.insert(contestant, running);
        }
        Ok(self.loaded.get_mut(&contestant).expect("it was put there"))
    }

    /// A server on an empty folder.
    pub fn fresh(&self, contestant: Contestant, purpose: &str, options: Options) -> Result<Running> {
        let folder = self.folder.join(format!("{}-{purpose}", contestant.as_str()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        Running::start(&self.programs, contestant, &folder, options)
    }

    /// Ends the loaded servers, whose memory and disk others need.
    pub fn forget_loaded(&mut self) -> Result<()> {
        while let Some((_, running)) = self.loaded.pop_first() {
            let folder = running.folder.clone();
            drop(running);
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.loaded.clear();
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}

/// One figure: a way to measure, and the rows that it yields.
pub trait Figure {
    /// The word for `--only`.
    fn name(&self) -> String;

    /// Who takes part, ours under the name that rows look for.
    fn contestants(&self) -> Vec<&'static str>;

    /// Rounds of a whole run.
    fn rounds(&self) -> usize;

    /// Measures one of them once.
    fn round(&self, bench: &mut Bench, contestant: &str, round: usize) -> Result<Metrics>;

    /// Takes away what only this figure needs.
    fn end(&self, _bench: &mut Bench) -> Result<()> {
        Ok(())
    }

    /// What is reported.
    fn rows(&self) -> Vec<Row>;
}

/// The names of some servers.
pub fn names(contestants: &[Contestant]) -> Vec<&'static str> {
    contestants.iter().map(|contestant| contestant.as_str()).collect()
}

/// Runs all rounds of a figure with ours and, if any are named, only these peers.
pub fn run(figure: &dyn Figure, bench: &mut Bench, peers: &[String]) -> Measured {
    let mut measured = Measured::default();
    let mut contestants = figure.contestants();
    contestants.retain(|name| *name == OURS || peers.is_empty() || peers.iter().any(|peer| peer == name));
    for round in 0..bench.scale.rounds(figure.rounds()) {
        let mut turn = contestants.clone();
        turn.rotate_left(round % contestants.len().max(1));
        for name in turn {
            // Who failed once is left out from then on: its rounds would not be those of the others.
            if measured.failures.iter().any(|line| line.starts_with(&format!("{name}: "))) {
                continue;
            }
            let start = Instant::now();
            match figure.round(bench, name, round) {
                Ok(mut metrics) => {
                    metrics.insert("load".to_owned(), machine::load());
                    let seconds = start.elapsed().as_secs_f64();
                    eprintln!("  {} round {}: {name} ({seconds:.1} s)", figure.name(), round + 1);
                    measured.metrics.entry(name.to_owned()).or_default().push(metrics);
                }
                Err(error) => {
                    eprintln!("  {} round {}: {name} FAILED: {error}", figure.name(), round + 1);
                    measured.failures.push(format!("{name}: {}: {error}", figure.name()));
                }
            }
        }
    }
    if let Err(error) = figure.end(bench) {
        measured.failures.push(format!("{}: {error}", figure.name()));
    }
    measured
}

/// Metrics with names that are made at run time.
pub fn metrics<const COUNT: usize>(named: [(&str, f64); COUNT]) -> Metrics {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Does something to a server that yields a number of operations, and notes what it cost: `{prefix}cpu_us` for each
/// operation, and `{prefix}resident_mib`.
pub fn with_cost<T>(
    server: &Running,
    prefix: &str,
    metrics: &mut Metrics,
    work: impl FnOnce() -> Result<(T, u64)>,
) -> Result<T> {
    let watched = server.watched();
    let before = watched.processor_time()?;
    let (done, operations) = work()?;
    let spent = watched.processor_time()?.saturating_sub(before);
    metrics.insert(format!("{prefix}cpu_us"), spent.as_secs_f64() * 1e6 / operations.max(1) as f64);
    metrics.insert(format!("{prefix}resident_mib"), mebibytes(watched.resident_bytes()?));
    Ok(done)
}

/// Runs a load that must go without trouble, on the generator's own core.
pub fn drive(load: &Load) -> Result<Vec<Outcome>> {
    let outcomes = load.run()?;
    match outcomes.iter().find_map(Outcome::trouble) {
        Some(trouble) => Err(trouble.into()),
        None => Ok(outcomes),
    }
}

/// A load from a core of its own for some seconds.
pub fn load_of(server: &Running, seconds: f64, groups: Vec<Group>) -> Load {
    let time = std::time::Duration::from_secs_f64(seconds);
    Load { spin: true, ..Load::new(server.addr, server.wire(), time, groups) }
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
