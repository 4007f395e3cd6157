//! How long one thread waits for a durable set, as a multiple of the sync probe, which takes turns with it because a
//! disk's speed changes within seconds.

use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::Kind;
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::machine::Probe;
use crate::measure::{Meter, Metrics, nanoseconds, quantile, settle};
use crate::peer::Name;
use crate::row::{Better, Goal, Row};

const SETS: u64 = 3_000;
/// Sets, and half as many runs of the probe, in one turn.
const TURN: u64 = 20;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    sets: u64,
    /// The index of the first key to set: one that is not there.
    first: u64,
}

impl Work {
    /// Sets and probes in turns.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        settle()?;
        let mut probe = Probe::new(job.probe_folder())?;
        let mut key = Vec::new();
        let mut times = Vec::new();
        let mut index = self.first;
        // The first turn warms up everything that is made at the first write.
        for turn in 0..=self.sets.div_ceil(TURN) {
            if turn == 1 {
                probe = Probe::new(job.probe_folder())?;
                times.clear();
            }
            probe.run(usize::try_from(TURN / 2)?)?;
            for _ in 0..TURN {
                data.key_into(index, &mut key);
                let value = data.value(index, 0);
                let start = Instant::now();
                store.set_durable(&key, value)?;
                times.push(nanoseconds(&start.elapsed()));
                index += 1;
            }
        }
        // Processor time and device bytes without the probe's share.
        let mut metrics = Metrics::new();
        let meter = Meter::start(&job.folder)?;
        for _ in 0..TURN * 10 {
            data.key_into(index, &mut key);
            store.set_durable(&key, data.value(index, 0))?;
            index += 1;
        }
        meter.finish(TURN * 10, &mut metrics)?;
        store.close()?;
        let median_us = quantile(times.clone(), 0.5) / 1e3;
        metrics.insert("p50_us".to_owned(), median_us);
        metrics.insert("p99_us".to_owned(), quantile(times, 0.99) / 1e3);
        metrics.insert("probe_us".to_owned(), probe.median_us());
        metrics.insert("p50_by_probe".to_owned(), median_us / probe.median_us());
        Ok(metrics)
    }
}

/// The figure: into an empty store, or into a loaded one that was closed and opened again.
pub struct DurableOne {
    /// Whether the store is a loaded one.
    pub is_reopened: bool,
}

impl Figure for DurableOne {
    fn name(&self) -> &'static str {
        if self.is_reopened { "durable-set-1-reopened" } else { "durable-set-1-empty" }
    }

    fn takes(&self, peer: Name) -> bool {
        peer.is_durable()
    }

    fn rounds(&self, peer: Name) -> usize {
        // Our goal here is a number of our own, so its spread is worth more rounds.
        if peer == Name::Ours { 5 } else { 3 }
    }

    fn round(&self, bench: &mut Bench, peer: Name, round: usize) -> Result<Metrics> {
        let sets = bench.scale.count(SETS);
        let job =
            |folder, keys, first| Job::new(peer, folder, Kind::Text, keys, Action::DurableOne(Work { sets, first }));
        if self.is_reopened {
            let (folder, keys) = (bench.loaded(peer, Kind::Text)?, bench.loaded_keys());
            return job(&folder, keys, keys + ((round as u64 + 1) << 32)).run();
        }
        let folder = bench.fresh(peer, "durable")?;
        let metrics = job(&folder, 0, 0).run();
        fs::remove_dir_all(&folder)?;
        metrics
    }

    fn rows(&self) -> Vec<Row> {
        let name = self.name();
        vec![
            Row::new(name, "p50 / probe", "p50_by_probe", Better::Lower)
                .goals(vec![Goal::AtMost(1.15)], vec![Goal::AtMost(1.0)]),
            Row::new(&format!("{name}-p50"), "us", "p50_us", Better::Lower),
            Row::new(&format!("{name}-p99"), "us", "p99_us", Better::Lower),
        ]
    }
}
