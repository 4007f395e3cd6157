//! Gets per second of 64 clients by redis-benchmark.

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, metrics, names, with_cost};
use crate::redis_benchmark::{Shape, rate, run_for};

const CLIENTS: u64 = 64;
const SECONDS: f64 = 2.0;

/// The figure, for clients that send so many gets at once.
pub struct Gets {
    pub pipeline: u64,
}

impl Figure for Gets {
    fn name(&self) -> String {
        if self.pipeline == 1 {
            format!("gets-{CLIENTS}")
        } else {
            format!("gets-{CLIENTS}-pipeline-{}", self.pipeline)
        }
    }

    fn contestants(&self) -> Vec<&'static str> {
        // How Redis writes makes no difference to reads alone.
        names(&Contestant::DURABLE)
    }

    fn rounds(&self) -> usize {
        5
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (seconds, keys, program) =
            (bench.scale.seconds(SECONDS), bench.keys(), bench.programs.redis_benchmark.clone());
        let server = bench.loaded(Contestant::of(contestant)?)?;
        let shape = Shape { test: "get", clients: CLIENTS, pipeline: self.pipeline };
        let rate = rate(&program, server.addr, shape, keys)?;
        let mut cost = Metrics::new();
        let answer = with_cost(server, "", &mut cost, || {
            let answer = run_for(&program, server.addr, shape, keys, seconds, rate)?;
            Ok((answer, answer.requests))
        })?;
        cost.extend(metrics([("rate", answer.per_second), ("p50_us", answer.p50_us), ("p99_us", answer.p99_us)]));
        Ok(cost)
    }

    fn rows(&self) -> Vec<Row> {
        let times = |peer, factor| vec![Goal::Times(peer, factor)];
        let aim = if self.pipeline == 1 { times("redis", 1.1) } else { times("valkey", 1.0) };
        vec![Row::new(&self.name(), "gets/s", "rate", Better::Higher).goals(times("redis", 1.0), aim)]
    }
}
