//! Loading keys in random order in the store's fastest way, all durable in the end. Other figures load their stores
//! with the same work.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::Kind;
use crate::figure::{Bench, Figure};
use crate::job::{Job, answer};
use crate::machine;
use crate::measure::{Meter, Metrics};
use crate::peer::Name;
use crate::row::{Better, Goal, Row};

/// What the child does after it has loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// Closes the store.
    Close,
    /// Goes on with single durable sets until it is killed.
    WriteUntilKilled,
}

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// After the load.
    pub then: Then,
}

impl Work {
    /// Loads the job's keys.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let anonymous_bytes = machine::anonymous_bytes()?;
        let store = job.peer.open(&job.folder)?;
        let mut metrics = Metrics::new();
        let meter = Meter::start(&job.folder)?;
        store.bulk_load(&data, 0..job.keys)?;
        meter.finish(job.keys, &mut metrics)?;
        let grown = machine::anonymous_bytes()?.saturating_sub(anonymous_bytes);
        metrics.insert("anonymous_bytes_per_key".to_owned(), grown as f64 / job.keys as f64);
        if self.then == Then::WriteUntilKilled {
            answer(&metrics)?;
            for index in job.keys.. {
                store.set_durable(&data.key(index), data.value(index, 0))?;
            }
        }
        let start = Instant::now();
        store.close()?;
        metrics.insert("close_seconds".to_owned(), start.elapsed().as_secs_f64());
        metrics.insert(
            "disk_by_user".to_owned(),
            machine::disk_bytes(&job.folder) as f64 / data.user_bytes(job.keys) as f64,
        );
        Ok(metrics)
    }
}

/// The figure.
pub struct BulkLoad {
    /// The data's kind.
    pub kind: Kind,
}

impl Figure for BulkLoad {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "bulk-load",
            Kind::Binary => "bulk-load-binary",
        }
    }

    fn takes(&self, peer: Name) -> bool {
        self.kind == Kind::Text || peer.is_binary()
    }

    fn rounds(&self, peer: Name) -> usize {
        // sled takes ten times as long as the others.
        if self.kind == Kind::Text && peer.as_str() != "sled" { 3 } else { 1 }
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        // The last round's store serves the figures that follow.
        bench.load(peer, self.kind).map(|(_, metrics)| metrics)
    }

    fn rows(&self) -> Vec<Row> {
        let name = self.name();
        let row = Row::new(name, "s", "seconds", Better::Lower);
        let row = match self.kind {
            Kind::Text => row.goals(vec![Goal::Times("heed", 1.5)], vec![Goal::Times("naive", 1.0)]),
            Kind::Binary => row,
        };
        vec![row, Row::new(&format!("{name}-disk"), "disk/user bytes", "disk_by_user", Better::Lower)]
    }
}
