//! Durable sets per second of 64 threads that each wait for their own, into an empty store.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::Kind;
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::machine::Probe;
use crate::measure::{Meter, Metrics};
use crate::peer::Name;
use crate::row::{Better, Goal, Row};

const THREADS: u64 = 64;
const SECONDS: f64 = 3.0;
/// Runs of the probe before and after, each.
const PROBES: usize = 300;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    threads: u64,
    seconds: f64,
}

impl Work {
    /// Sets in all threads until the time is over.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        let mut probe = Probe::new(job.probe_folder())?;
        probe.run(PROBES)?;
        let (is_over, sets) = (AtomicBool::new(false), AtomicU64::new(0));
        let barrier = Barrier::new(usize::try_from(self.threads)? + 1);
        let mut metrics = Metrics::new();
        let seconds = std::thread::scope(|scope| -> Result<f64> {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let (data, store, barrier, is_over, sets) = (&data, &store, &barrier, &is_over, &sets);
                    scope.spawn(move || -> Result<()> {
                        let mut key = Vec::new();
                        barrier.wait();
                        for count in 0.. {
                            if is_over.load(Ordering::Relaxed) {
                                break;
                            }
                            let index = (thread << 40) | count;
                            data.key_into(index, &mut key);
                            store.set_durable(&key, data.value(index, 0))?;
                            sets.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            let meter = Meter::start(&job.folder)?;
            barrier.wait();
            std::thread::sleep(Duration::from_secs_f64(self.seconds));
            is_over.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().map_err(|_| "a thread that sets panicked")??;
            }
            meter.finish(sets.load(Ordering::Relaxed), &mut metrics)
        })?;
        probe.run(PROBES)?;
        store.close()?;
        let sets_per_second = sets.load(Ordering::Relaxed) as f64 / seconds;
        metrics.insert("sets_per_second".to_owned(), sets_per_second);
        metrics.insert("probe_us".to_owned(), probe.median_us());
        metrics.insert("sets_per_probe".to_owned(), sets_per_second * probe.median_us() / 1e6);
        Ok(metrics)
    }
}

/// The figure.
pub struct DurableMany;

impl Figure for DurableMany {
    fn name(&self) -> &'static str {
        "durable-sets-64"
    }

    fn takes(&self, peer: Name) -> bool {
        peer.is_durable()
    }

    fn rounds(&self, _peer: Name) -> usize {
        3
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let folder = bench.fresh(peer, "durable")?;
        let work = Work { threads: THREADS, seconds: bench.scale.seconds(SECONDS) };
        let metrics = Job::new(peer, &folder, Kind::Text, 0, Action::DurableMany(work)).run();
        fs::remove_dir_all(&folder)?;
        metrics
    }

    fn rows(&self) -> Vec<Row> {
        let times = |peer, factor| Goal::Times(peer, factor);
        let reach = vec![
            times("rocksdb", 2.0),
            times("redb", 20.0),
            times("heed", 20.0),
            times("fjall", 10.0),
            times("sled", 5.0),
        ];
        let aim = vec![times("rocksdb", 3.0)];
        vec![
            Row::new("durable-sets-64", "sets/s", "sets_per_second", Better::Higher).goals(reach, aim),
            Row::new("durable-sets-64-by-probe", "sets per probe time", "sets_per_probe", Better::Higher),
        ]
    }
}
