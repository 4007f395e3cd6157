//! The phases of redb's own benchmark, which others measure with too: random binary keys of 24 bytes and values of 150,
//! a bulk load, a thousand durable writes, a hundred durable batches of a thousand, random reads, the removal of half.
//! With a million keys instead of five, so that every store has its turn within minutes.

use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::Kind;
use crate::figure::{Bench, Figure};
use crate::figures::random_get::read_random;
use crate::job::{Action, Job};
use crate::machine::{self, Probe};
use crate::measure::Metrics;
use crate::peer::{BATCH, Name};
use crate::row::{Better, Row};

const KEYS: u64 = 1_000_000;
const WRITES: u64 = 1_000;
const BATCHES: u64 = 100;
const READS: u64 = 1_000_000;
const PROBES: usize = 200;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    writes: u64,
    batches: u64,
    reads: u64,
}

impl Work {
    /// All phases, one after the other.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        let mut probe = Probe::new(job.probe_folder())?;
        probe.run(PROBES)?;
        let mut metrics = Metrics::new();
        let mut phase = |name: &str, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
            let start = Instant::now();
            work()?;
            metrics.insert(name.to_owned(), start.elapsed().as_secs_f64() * 1e3);
            Ok(())
        };
        phase("bulk", &mut || store.bulk_load(&data, 0..job.keys))?;
        phase("individual", &mut || {
            for index in job.keys..job.keys + self.writes {
                store.set_durable(&data.key(index), data.value(index, 0))?;
            }
            Ok(())
        })?;
        phase("batches", &mut || {
            let first = job.keys + self.writes;
            let indexes: Vec<u64> = (first..first + self.batches * BATCH as u64).collect();
            indexes.chunks(BATCH).try_for_each(|batch| store.batch_durable(&data, batch, 0))
        })?;
        phase("reads", &mut || {
            read_random(store.as_ref(), &data, job.keys, 5, |gets, _| gets < self.reads).map(|_| ())
        })?;
        phase("removals", &mut || store.remove_durable(&data, 0..job.keys / 2))?;
        store.close()?;
        metrics.insert("disk_mib".to_owned(), machine::disk_bytes(&job.folder) as f64 / f64::from(1 << 20));
        metrics.insert("probe_us".to_owned(), probe.median_us());
        Ok(metrics)
    }
}

/// The figure.
pub struct RedbShape;

impl Figure for RedbShape {
    fn name(&self) -> &'static str {
        "redb-shape"
    }

    fn takes(&self, peer: Name) -> bool {
        peer.is_durable() && peer.is_binary()
    }

    fn rounds(&self, _peer: Name) -> usize {
        1
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let folder = bench.fresh(peer, "shape")?;
        let count = |count| bench.scale.count(count);
        let work = Work { writes: count(WRITES), batches: count(BATCHES), reads: count(READS) };
        let metrics = Job::new(peer, &folder, Kind::Binary, count(KEYS), Action::RedbShape(work)).run();
        fs::remove_dir_all(&folder)?;
        metrics
    }

    fn rows(&self) -> Vec<Row> {
        let phases = ["bulk", "individual", "batches", "reads", "removals"];
        let mut rows: Vec<Row> =
            phases.map(|phase| Row::new(&format!("redb-shape-{phase}"), "ms", phase, Better::Lower)).into();
        rows.push(Row::new("redb-shape-size", "MiB", "disk_mib", Better::Lower));
        rows
    }
}
