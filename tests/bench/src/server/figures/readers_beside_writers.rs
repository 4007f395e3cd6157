//! 50 clients that get beside 8 that set durably; once as the disk is, once with 5 ms added to every fdatasync.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};
use kvs_load::Group;

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, load_of, metrics, names, with_cost};
use crate::running::{Options, Running};
use crate::shim;

const READERS: usize = 50;
const WRITERS: usize = 8;
const SECONDS: f64 = 3.0;

/// Servers with the shim, which no other figure wants. One thread uses them.
static SLOW: Mutex<BTreeMap<Contestant, Running>> = Mutex::new(BTreeMap::new());

/// The figure.
pub struct ReadersBesideWriters {
    /// With the shim.
    pub slow_disk: bool,
}

impl ReadersBesideWriters {
    fn measure(server: &Running, keys: u64, seconds: f64) -> Result<Metrics> {
        let readers = Group::gets(READERS, 1, keys);
        let mut all = Metrics::new();
        let alone = with_cost(server, "alone.", &mut all, || {
            let outcome = drive(&load_of(server, seconds, vec![readers.clone()]))?.remove(0);
            let done = outcome.done;
            Ok((outcome, done))
        })?;
        let writers = Group::sets(WRITERS, 1, keys);
        let both = with_cost(server, "", &mut all, || {
            let outcomes = drive(&load_of(server, seconds, vec![readers, writers]))?;
            let done = outcomes.iter().map(|outcome| outcome.done).sum();
            Ok((outcomes, done))
        })?;
        all.extend(metrics([
            ("alone.rate", alone.rate()),
            ("alone.p99_us", alone.latency_us(0.99)),
            ("rate", both[0].rate()),
            ("p99_us", both[0].latency_us(0.99)),
            ("sets", both[1].rate()),
        ]));
        Ok(all)
    }

    fn start_slow(bench: &Bench, contestant: Contestant) -> Result<Running> {
        let options = Options { preload: Some(shim::build(&bench.folder)?), ..Options::default() };
        let server = bench.fresh(contestant, "slow", options)?;
        server.load(0, bench.keys())?;
        server.settle()?;
        shim::check(&server)?;
        Ok(server)
    }
}

impl Figure for ReadersBesideWriters {
    fn name(&self) -> String {
        if self.slow_disk { "readers-beside-writers-slow-disk" } else { "readers-beside-writers" }.to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::DURABLE)
    }

    fn rounds(&self) -> usize {
        5
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (seconds, keys, contestant) = (bench.scale.seconds(SECONDS), bench.keys(), Contestant::of(contestant)?);
        if !self.slow_disk {
            return Self::measure(bench.loaded(contestant)?, keys, seconds);
        }
        let mut slow = SLOW.lock().map_err(|_| "an earlier round panicked")?;
        let server = match slow.entry(contestant) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Self::start_slow(bench, contestant)?),
        };
        Self::measure(server, keys, seconds)
    }

    fn end(&self, _bench: &mut Bench) -> Result<()> {
        SLOW.lock().map_err(|_| "an earlier round panicked")?.clear();
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let name = self.name();
        let redis = |factor| vec![Goal::Times("redis", factor)];
        let (rate, p99) = if self.slow_disk {
            ((redis(10.0), Vec::new()), (redis(10.0), Vec::new()))
        } else {
            ((redis(1.5), redis(2.0)), (redis(2.0), redis(3.0)))
        };
        vec![
            Row::new(&name, "gets/s", "rate", Better::Higher).goals(rate.0, rate.1),
            Row::new(&format!("{name}-p99"), "us", "p99_us", Better::Lower).goals(p99.0, p99.1),
            Row::new(&format!("{name}-sets"), "sets/s", "sets", Better::Higher),
            Row::new(&format!("{name}-alone"), "gets/s", "rate", Better::Higher).of_part("alone."),
            Row::new(&format!("{name}-alone-p99"), "us", "p99_us", Better::Lower).of_part("alone."),
        ]
    }
}
