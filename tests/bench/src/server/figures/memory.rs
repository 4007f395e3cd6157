//! Anonymous memory with one and with ten million keys.

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, mebibytes, names, with_cost};
use crate::running::Options;

const STEPS: [(&str, u64); 2] = [("1M.", 1_000_000), ("10M.", 10_000_000)];

/// The figure.
pub struct Memory;

impl Figure for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::DURABLE)
    }

    fn rounds(&self) -> usize {
        1
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let server = bench.fresh(Contestant::of(contestant)?, "memory", Options::default())?;
        let mut all = Metrics::new();
        let mut stored = 0;
        for (prefix, keys) in STEPS {
            let wanted = bench.scale.count(keys);
            with_cost(&server, prefix, &mut all, || Ok(((), server.load(stored, wanted).map(|()| wanted - stored)?)))?;
            stored = wanted;
            server.settle()?;
            let watched = server.watched();
            all.insert(format!("{prefix}anonymous_mib"), mebibytes(watched.anonymous_bytes()?));
            all.insert(format!("{prefix}resident_mib"), mebibytes(watched.resident_bytes()?));
        }
        let folder = server.folder.clone();
        drop(server);
        std::fs::remove_dir_all(folder)?;
        Ok(all)
    }

    fn rows(&self) -> Vec<Row> {
        let redis = |factor| vec![Goal::Times("redis", factor)];
        let row = |name, part| {
            let row = Row::new(name, "MiB", "anonymous_mib", Better::Lower).of_part(part);
            row.goals(redis(8.0), redis(15.0))
        };
        vec![row("anonymous-memory-1M-keys", STEPS[0].0), row("anonymous-memory-10M-keys", STEPS[1].0)]
    }
}
