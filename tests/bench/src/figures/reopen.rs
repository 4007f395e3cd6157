//! How long a store takes from being opened to its first answer, after it was closed cleanly and after its process was
//! killed while it wrote. The files lie in the page cache.

use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::{Kind, Random};
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::machine;
use crate::measure::Metrics;
use crate::peer::Name;
use crate::row::{Better, Goal, Row};

/// Keys that are looked up after the clock was stopped: what was loaded must be there.
const LOOKED_UP: u64 = 1_000;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {}

impl Work {
    /// Opens the store and reads one key; then looks many up.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let anonymous_bytes = machine::anonymous_bytes()?;
        let processor = machine::processor_time()?;
        let key = data.key(job.keys / 2);
        let start = Instant::now();
        let store = job.peer.open(&job.folder)?;
        let is_there = store.reader()?.get(&key, &mut |_| ())?;
        let seconds = start.elapsed().as_secs_f64();
        let processor = machine::processor_time()?.saturating_sub(processor);
        let grown = machine::anonymous_bytes()?.saturating_sub(anonymous_bytes);
        let mut missing = u64::from(!is_there);
        let mut random = Random::new(job.keys);
        {
            let mut reader = store.reader()?;
            for _ in 0..LOOKED_UP {
                let index = random.below(job.keys);
                let mut is_right = false;
                reader.get(&data.key(index), &mut |value| is_right = value == data.value(index, 0))?;
                missing += u64::from(!is_right);
            }
        }
        store.close()?;
        if missing > 0 {
            return Err(format!("{missing} of {LOOKED_UP} keys that were durable are lost").into());
        }
        Ok(Metrics::from([
            ("open_seconds".to_owned(), seconds),
            ("cpu_us".to_owned(), processor.as_secs_f64() * 1e6),
            ("anonymous_bytes_per_key".to_owned(), grown as f64 / job.keys as f64),
        ]))
    }
}

/// The figure.
pub struct Reopen {
    /// Whether the store's process was killed.
    pub is_killed: bool,
}

impl Figure for Reopen {
    fn name(&self) -> &'static str {
        if self.is_killed { "reopen-killed" } else { "reopen-clean" }
    }

    fn takes(&self, _peer: Name) -> bool {
        true
    }

    fn rounds(&self, _peer: Name) -> usize {
        3
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let folder = if self.is_killed { bench.killed(peer)? } else { bench.loaded(peer, Kind::Text)? };
        let metrics = Job::new(peer, &folder, Kind::Text, bench.loaded_keys(), Action::Open(Work {})).run();
        if self.is_killed {
            fs::remove_dir_all(&folder)?;
        }
        metrics
    }

    fn end(&self, bench: &mut Bench) -> Result<()> {
        bench.forget_killed()
    }

    fn rows(&self) -> Vec<Row> {
        let (reach, aim) = if self.is_killed { (0.2, 0.1) } else { (0.1, 0.03) };
        let row = Row::new(self.name(), "s", "open_seconds", Better::Lower);
        vec![row.goals(vec![Goal::AtMost(reach)], vec![Goal::AtMost(aim)])]
    }
}
