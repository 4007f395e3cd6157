//! Latencies at a rate that every server can do: requests come when they come, whether or not earlier ones are answered.

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Row};
use kvs_load::{Group, Pace};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, load_of, metrics, names, with_cost};

const SECONDS: f64 = 4.0;
const GETS_PER_SECOND: f64 = 20_000.0;
const SETS_PER_SECOND: f64 = 2_000.0;
const CLIENTS: usize = 32;
/// Requests of one client under way at most.
const DEPTH: usize = 1_024;

/// The figure.
pub struct OpenLoop;

impl Figure for OpenLoop {
    fn name(&self) -> String {
        "open-loop".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::ALL)
    }

    fn rounds(&self) -> usize {
        3
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (seconds, keys) = (bench.scale.seconds(SECONDS), bench.keys());
        let server = bench.loaded(Contestant::of(contestant)?)?;
        let gets = Group::gets(CLIENTS, DEPTH, keys).at(Pace::PerSecond(GETS_PER_SECOND));
        let sets = Group::sets(CLIENTS, DEPTH, keys).at(Pace::PerSecond(SETS_PER_SECOND));
        let load = load_of(server, seconds, vec![gets, sets]);
        let mut all = Metrics::new();
        let outcomes = with_cost(server, "", &mut all, || {
            let outcomes = drive(&load)?;
            let done = outcomes.iter().map(|outcome| outcome.done).sum();
            Ok((outcomes, done))
        })?;
        let [gets, sets] = [&outcomes[0], &outcomes[1]];
        all.extend(metrics([
            ("get_p50_us", gets.latency_us(0.5)),
            ("get_p99_us", gets.latency_us(0.99)),
            ("get_p999_us", gets.latency_us(0.999)),
            ("set_p50_us", sets.latency_us(0.5)),
            ("set_p99_us", sets.latency_us(0.99)),
            ("set_p999_us", sets.latency_us(0.999)),
        ]));
        Ok(all)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name, metric| Row::new(name, "us", metric, Better::Lower);
        vec![
            row("open-loop-get-p50", "get_p50_us"),
            row("open-loop-get-p99", "get_p99_us"),
            row("open-loop-get-p999", "get_p999_us"),
            row("open-loop-set-p50", "set_p50_us"),
            row("open-loop-set-p99", "set_p99_us"),
            row("open-loop-set-p999", "set_p999_us"),
        ]
    }
}
