//! Ten million keys: how long the store takes to open, and how much memory it takes for each key. One load serves all:
//! its process is killed, the store is opened, closed, and opened again.

use std::fs;

use crate::Result;
use crate::data::{KEY_BYTES, Kind, VALUE_BYTES};
use crate::figure::{Bench, Figure};
use crate::figures::bulk_load;
use crate::figures::reopen;
use crate::job::{Action, Job};
use crate::measure::Metrics;
use crate::peer::Name;
use crate::row::{Better, Goal, Row};

const KEYS: u64 = 10_000_000;
/// A key that nobody would want to keep in memory.
const LONG_KEY_BYTES: usize = 128;
/// A value beside it that keeps the load short.
const SHORT_VALUE_BYTES: usize = 16;

/// The figure.
pub struct ManyKeys {
    /// Whether keys are long and values short.
    pub is_long: bool,
}

impl Figure for ManyKeys {
    fn name(&self) -> &'static str {
        if self.is_long { "many-long-keys" } else { "many-keys" }
    }

    fn takes(&self, peer: Name) -> bool {
        // The others' memory is a cache whose size one chooses, and their loads take minutes.
        matches!(peer.as_str(), "ours" | "naive") || (!self.is_long && matches!(peer.as_str(), "rocksdb" | "fjall"))
    }

    fn rounds(&self, _peer: Name) -> usize {
        1
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let folder = bench.fresh(peer, "many")?;
        let job = |action| Job {
            peer,
            folder: folder.clone(),
            kind: Kind::Text,
            key_bytes: if self.is_long { LONG_KEY_BYTES } else { KEY_BYTES },
            value_bytes: if self.is_long { SHORT_VALUE_BYTES } else { VALUE_BYTES },
            keys: bench.scale.count(KEYS),
            action,
        };
        let measure = || -> Result<Metrics> {
            let load = bulk_load::Work { then: bulk_load::Then::WriteUntilKilled };
            let loaded = job(Action::Load(load)).run_and_kill()?;
            let killed = job(Action::Open(reopen::Work {})).run()?;
            let clean = job(Action::Open(reopen::Work {})).run()?;
            Ok(Metrics::from([
                ("load_seconds".to_owned(), loaded["seconds"]),
                ("loaded_bytes_per_key".to_owned(), loaded["anonymous_bytes_per_key"]),
                ("killed_seconds".to_owned(), killed["open_seconds"]),
                ("clean_seconds".to_owned(), clean["open_seconds"]),
                ("bytes_per_key".to_owned(), clean["anonymous_bytes_per_key"]),
            ]))
        };
        let metrics = measure();
        fs::remove_dir_all(&folder)?;
        metrics
    }

    fn rows(&self) -> Vec<Row> {
        let at_most = |bound| vec![Goal::AtMost(bound)];
        let lower = |name, unit, metric| Row::new(name, unit, metric, Better::Lower);
        if self.is_long {
            let long = lower("memory-per-long-key", "B/key", "bytes_per_key");
            return vec![long.goals(at_most(24.0), at_most(16.0))];
        }
        vec![
            lower("open-10m-clean", "s", "clean_seconds").goals(at_most(0.5), at_most(0.3)),
            lower("open-10m-killed", "s", "killed_seconds").goals(at_most(1.0), at_most(0.6)),
            lower("memory-per-key", "B/key", "bytes_per_key").goals(at_most(24.0), at_most(16.0)),
            lower("memory-per-key-after-load", "B/key", "loaded_bytes_per_key").goals(at_most(24.0), at_most(16.0)),
            lower("load-10m", "s", "load_seconds"),
        ]
    }
}
