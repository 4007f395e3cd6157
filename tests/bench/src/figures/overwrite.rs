//! Every key overwritten, in random order, in durable batches: how long a pass takes, how large the store gets on disk,
//! and how many bytes reach the device for each byte that the user wrote.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::{Kind, Random};
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::machine::{self, Highest};
use crate::measure::{Meter, Metrics, settle};
use crate::peer::{BATCH, Name};
use crate::row::{Better, Goal, Row};

/// How often the size on disk is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Keys that are looked up in the end: each must have the value of the last pass.
const LOOKED_UP: u64 = 1_000;
/// Passes over ours, and over a peer.
const PASSES: (u64, u64) = (3, 1);

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    passes: u64,
}

impl Work {
    /// Overwrites in passes and closes the store, which is part of what is written.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        settle()?;
        let orders: Vec<Vec<u64>> = (1..=self.passes).map(|pass| Random::new(pass).permutation(job.keys)).collect();
        let folder = job.folder.clone();
        let mut metrics = Metrics::new();
        let meter = Meter::start(&job.folder)?;
        let highest = Highest::watch(LOOK, move || machine::disk_bytes(&folder));
        let start = std::time::Instant::now();
        for (version, order) in (1..).zip(&orders) {
            for batch in order.chunks(BATCH) {
                store.batch_durable(&data, batch, version)?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        {
            let mut reader = store.reader()?;
            let mut random = Random::new(job.keys);
            for _ in 0..LOOKED_UP {
                let index = random.below(job.keys);
                let mut is_right = false;
                reader.get(&data.key(index), &mut |value| is_right = value == data.value(index, self.passes))?;
                if !is_right {
                    return Err(format!("key {index} has not the value of the last pass").into());
                }
            }
        }
        store.close()?;
        let highest = highest.end()?;
        meter.finish(job.keys * self.passes, &mut metrics)?;
        let space = highest as f64 / data.user_bytes(job.keys) as f64;
        metrics.insert("seconds_per_pass".to_owned(), seconds / self.passes as f64);
        metrics.insert("space".to_owned(), space);
        if let Some(bytes) = metrics.get("device_bytes").copied() {
            let amplification = bytes / data.user_bytes(1) as f64;
            metrics.insert("write_amplification".to_owned(), amplification);
            metrics.insert("product".to_owned(), amplification * space);
        }
        Ok(metrics)
    }
}

/// The figure.
pub struct Overwrite;

impl Figure for Overwrite {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn takes(&self, peer: Name) -> bool {
        peer.is_durable()
    }

    fn rounds(&self, _peer: Name) -> usize {
        1
    }

    fn round(&self, bench: &mut Bench, peer: Name, round: usize) -> Result<Metrics> {
        // A store that was overwritten before is another one.
        let folder = if round == 0 { bench.loaded(peer, Kind::Text)? } else { bench.load(peer, Kind::Text)?.0 };
        let passes = if peer == Name::Ours { PASSES.0 } else { PASSES.1 };
        Job::new(peer, &folder, Kind::Text, bench.loaded_keys(), Action::Overwrite(Work { passes })).run()
    }

    fn end(&self, bench: &mut Bench) -> Result<()> {
        Name::ALL.iter().try_for_each(|peer| bench.forget_loaded(*peer, Kind::Text))
    }

    fn rows(&self) -> Vec<Row> {
        let at_most = |bound| vec![Goal::AtMost(bound)];
        let lower = |name, unit, metric| Row::new(name, unit, metric, Better::Lower);
        vec![
            lower("overwrite", "s per pass", "seconds_per_pass")
                .goals(vec![Goal::TimesEvery(1.0)], vec![Goal::Times("fjall", 1.5)]),
            lower("overwrite-space", "highest disk/user bytes", "space").goals(at_most(1.8), at_most(1.6)),
            lower("overwrite-device", "device/user bytes", "write_amplification"),
            lower("overwrite-product", "space x device", "product").goals(at_most(6.0), at_most(5.0)),
        ]
    }
}
