//! What a figure is, and how its rounds are run.
//!
//! What must hold: in each round every peer has its turn, and no peer has the same place in every round.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::data::Kind;
use crate::figures::bulk_load;
use crate::job::{Action, Job};
use crate::measure::Metrics;
use crate::peer::Name;
use crate::row::{Measured, Row};
use crate::scale::Scale;
use crate::{Result, machine};

/// What figures share: the folder, the scale, and stores that more than one of them uses.
pub struct Bench {
    /// Where stores lie while they are measured.
    pub folder: PathBuf,
    /// How much is done.
    pub scale: Scale,
    /// Stores that were loaded and closed cleanly, until somebody needs them no more.
    loaded: BTreeMap<(Name, Kind), PathBuf>,
    /// Stores that were loaded and then killed while they were written; never opened, only copied.
    killed: BTreeMap<Name, PathBuf>,
}

/// Keys of the figures that share a loaded store.
const LOADED_KEYS: u64 = 2_000_000;

impl Bench {
    /// Works in a folder, which is emptied first and taken away in the end.
    pub fn new(folder: &Path, scale: Scale) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.canonicalize()?, scale, loaded: BTreeMap::new(), killed: BTreeMap::new() })
    }

    /// The folder of a store that does not exist yet.
    pub fn fresh(&self, peer: Name, purpose: &str) -> Result<PathBuf> {
        let folder = self.folder.join(format!("{peer}-{purpose}"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(folder)
    }

    /// How many keys a [`loaded`](Self::loaded) store has.
    pub fn loaded_keys(&self) -> u64 {
        self.scale.count(LOADED_KEYS)
    }

    /// A store with [`loaded_keys`](Self::loaded_keys) keys, closed cleanly.
    pub fn loaded(&mut self, peer: Name, kind: Kind) -> Result<PathBuf> {
        match self.loaded.get(&(peer, kind)) {
            Some(folder) => Ok(folder.clone()),
            None => self.load(peer, kind).map(|(folder, _)| folder),
        }
    }

    /// Loads the store of [`loaded`](Self::loaded) anew; its folder and what was measured.
    pub fn load(&mut self, peer: Name, kind: Kind) -> Result<(PathBuf, Metrics)> {
        self.loaded.remove(&(peer, kind));
        let folder = self.fresh(peer, if kind == Kind::Text { "text" } else { "binary" })?;
        let work = bulk_load::Work { then: bulk_load::Then::Close };
        let metrics = Job::new(peer, &folder, kind, self.loaded_keys(), Action::Load(work)).run()?;
        self.loaded.insert((peer, kind), folder.clone());
        Ok((folder, metrics))
    }

    /// A copy of a store with [`loaded_keys`](Self::loaded_keys) text keys whose process was killed.
    pub fn killed(&mut self, peer: Name) -> Result<PathBuf> {
        let original = match self.killed.get(&peer) {
            Some(folder) => folder.clone(),
            None => {
                let folder = self.fresh(peer, "killed")?;
                let work = bulk_load::Work { then: bulk_load::Then::WriteUntilKilled };
                Job::new(peer, &folder, Kind::Text, self.loaded_keys(), Action::Load(work)).run_and_kill()?;
                self.killed.insert(peer, folder.clone());
                folder
            }
        };
        let copy = self.fresh(peer, "copy")?;
        copy_folder(&original, &copy)?;
        machine::sync_file_system(&copy)?;
        Ok(copy)
    }

    /// Removes the stores that [`killed`](Self::killed) copies.
    pub fn forget_killed(&mut self) -> Result<()> {
        while let Some((_, folder)) = self.killed.pop_first() {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    /// Removes a loaded store that is not any more what the next figure expects.
    pub fn forget_loaded(&mut self, peer: Name, kind: Kind) -> Result<()> {
        match self.loaded.remove(&(peer, kind)) {
            Some(folder) => Ok(fs::remove_dir_all(folder)?),
            None => Ok(()),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}

/// One figure: a way to measure, and the rows that it yields.
pub trait Figure {
    /// The word for `--only`.
    fn name(&self) -> &'static str;

    /// Whether a store can take part.
    fn takes(&self, peer: Name) -> bool;

    /// Rounds that a store gets in a whole run.
    fn rounds(&self, peer: Name) -> usize;

    /// Measures one store once.
    fn round(&self, bench: &mut Bench, peer: Name, round: usize) -> Result<Metrics>;

    /// Takes away what only this figure needs.
    fn end(&self, _bench: &mut Bench) -> Result<()> {
        Ok(())
    }

    /// What is reported.
    fn rows(&self) -> Vec<Row>;
}

/// Runs all rounds of a figure.
pub fn run(figure: &dyn Figure, bench: &mut Bench, peers: &[Name]) -> Measured {
    let mut measured = Measured::default();
    let peers: Vec<Name> = peers.iter().copied().filter(|peer| figure.takes(*peer)).collect();
    let rounds_of = |bench: &Bench, peer| bench.scale.rounds(figure.rounds(peer));
    let rounds = peers.iter().map(|peer| rounds_of(bench, *peer)).max().unwrap_or(0);
    for round in 0..rounds {
        let mut turn = peers.clone();
        turn.rotate_left(round % peers.len().max(1));
        for peer in turn {
            if round >= rounds_of(bench, peer) || measured.failures.iter().any(|line| line.starts_with(peer.as_str())) {
                continue;
            }
            let start = Instant::now();
            match figure.round(bench, peer, round) {
                Ok(mut metrics) => {
                    metrics.insert("load".to_owned(), machine::load());
                    eprintln!(
                        "  {} round {}: {peer} ({:.1} s)",
                        figure.name(),
                        round + 1,
                        start.elapsed().as_secs_f64()
                    );
                    measured.metrics.entry(peer.as_str().to_owned()).or_default().push(metrics);
                }
                Err(error) => {
                    eprintln!("  {} round {}: {peer} FAILED: {error}", figure.name(), round + 1);
                    measured.failures.push(format!("{peer}: {}: {error}", figure.name()));
                }
            }
        }
    }
    if let Err(error) = figure.end(bench) {
        measured.failures.push(format!("{}: {error}", figure.name()));
    }
    measured
}
