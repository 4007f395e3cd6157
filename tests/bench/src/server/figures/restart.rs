//! From the start of a server that was killed while it was written to, to its first answer to a get.

use std::time::Duration;

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};
use kvs_load::{Group, Load};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, mebibytes, metrics, names};

/// How long it is written to before it is killed, in the middle of it.
const WRITING: Duration = Duration::from_secs(1);

/// The figure.
pub struct Restart;

impl Figure for Restart {
    fn name(&self) -> String {
        "restart-killed".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::DURABLE)
    }

    fn rounds(&self) -> usize {
        5
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (keys, programs) = (bench.keys(), bench.programs.clone());
        let server = bench.loaded(Contestant::of(contestant)?)?;
        let load = Load::new(server.addr, server.wire(), WRITING, vec![Group::sets(8, 1, keys)]);
        let took = std::thread::scope(|scope| -> Result<Duration> {
            // It ends in trouble: its server dies.
            let writer = scope.spawn(move || load.run().map(|outcomes| outcomes[0].done));
            std::thread::sleep(WRITING / 2);
            let took = server.kill_and_restart(&programs);
            let written = writer.join().map_err(|_| "the writer panicked")??;
            if written == 0 { Err("nothing was written before the kill".into()) } else { took }
        })?;
        let processor = server.watched().processor_time()?;
        let resident = mebibytes(server.watched().resident_bytes()?);
        server.settle()?;
        // What it cost, as a whole: there is one operation.
        Ok(metrics([
            ("restart_ms", took.as_secs_f64() * 1e3),
            ("cpu_us", processor.as_secs_f64() * 1e6),
            ("resident_mib", resident),
        ]))
    }

    fn end(&self, bench: &mut Bench) -> Result<()> {
        bench.forget_loaded()
    }

    fn rows(&self) -> Vec<Row> {
        let redis = |factor| vec![Goal::Times("redis", factor)];
        vec![Row::new("restart-killed", "ms", "restart_ms", Better::Lower).goals(redis(5.0), redis(10.0))]
    }
}
