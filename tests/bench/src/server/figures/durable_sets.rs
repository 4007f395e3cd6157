//! Durable sets per second by redis-benchmark, and the processor time that each costs the server.

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, metrics, names, with_cost};
use crate::redis_benchmark::{Shape, rate, run_for};

const SECONDS: f64 = 3.0;

/// The figure, for so many clients that send so many sets at once.
pub struct DurableSets {
    pub clients: u64,
    pub pipeline: u64,
}

impl Figure for DurableSets {
    fn name(&self) -> String {
        match self.pipeline {
            1 => format!("durable-sets-{}", self.clients),
            pipeline => format!("durable-sets-{}-pipeline-{pipeline}", self.clients),
        }
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::ALL)
    }

    fn rounds(&self) -> usize {
        5
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (seconds, keys, program) =
            (bench.scale.seconds(SECONDS), bench.keys(), bench.programs.redis_benchmark.clone());
        let server = bench.loaded(Contestant::of(contestant)?)?;
        let shape = Shape { test: "set", clients: self.clients, pipeline: self.pipeline };
        // The first run tells the rate, and is what warms up.
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
        let redis = |factor| vec![Goal::Times("redis", factor)];
        let (reach, aim) = match (self.clients, self.pipeline) {
            (1, _) => (redis(1.4), redis(1.8)),
            (8, _) => (redis(1.6), redis(2.0)),
            (_, 1) => (redis(1.5), redis(2.0)),
            _ => (vec![Goal::Times("valkey", 1.0)], vec![Goal::Times("valkey", 1.3)]),
        };
        let mut rows = vec![Row::new(&self.name(), "sets/s", "rate", Better::Higher).goals(reach, aim)];
        if (self.clients, self.pipeline) == (64, 1) {
            let row = Row::new("cpu-of-a-durable-set-64", "us", "cpu_us", Better::Lower);
            rows.push(row.goals(vec![Goal::AtMost(8.9)], vec![Goal::AtMost(5.0)]));
        }
        rows
    }
}
