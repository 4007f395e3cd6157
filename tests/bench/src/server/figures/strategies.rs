//! All pool strategies on both engines: 1, 8, 64 and 1,000 connections that read, write durably, or do both.
//!
//! What must hold: in a round every strategy meets the same load on a store with the same keys, one after another.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, OURS, Row};
use kvs_load::Group;

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, load_of, with_cost};
use crate::running::{Options, Running};

/// What every row of this figure is called first.
pub const PREFIX: &str = "strategy";
/// The strategies; the default stands under our name.
pub const STRATEGIES: [(&str, &str); 4] =
    [(OURS, "inline"), ("naive", "naive"), ("sharedQueue", "sharedQueue"), ("rayon", "rayon")];
pub const ENGINES: [&str; 2] = ["kvs", "sled"];
pub const CONNECTIONS: [usize; 4] = [1, 8, 64, 1_000];
/// What is done, and how many of a hundred requests are sets.
pub const WORKS: [(&str, u64); 3] = [("reads", 0), ("sets", 100), ("mixed", 10)];
const KEYS: u64 = 100_000;
const SECONDS: f64 = 0.8;

/// The figure.
pub struct Strategies {
    /// Every combination's server, started when it is first wanted.
    servers: Mutex<BTreeMap<(String, &'static str), Running>>,
}

impl Strategies {
    pub fn new() -> Self {
        Self { servers: Mutex::default() }
    }
}

/// The part of a round that one cell is.
pub fn cell(engine: &str, work: &str, connections: usize) -> String {
    format!("{engine}-{work}-{connections}")
}

impl Figure for Strategies {
    fn name(&self) -> String {
        "strategies".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        STRATEGIES.iter().map(|(name, _)| *name).collect()
    }

    fn rounds(&self) -> usize {
        3
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (_, strategy) = STRATEGIES.iter().find(|(name, _)| *name == contestant).ok_or("a strategy has a name")?;
        let (keys, seconds) = (bench.scale.count(KEYS), bench.scale.seconds(SECONDS));
        let mut servers = self.servers.lock().map_err(|_| "an earlier round panicked")?;
        let mut all = Metrics::new();
        for engine in ENGINES {
            let place = (contestant.to_owned(), engine);
            if !servers.contains_key(&place) {
                let flags = ["--pool", strategy, "--engine", engine].map(str::to_owned).to_vec();
                let options = Options { flags, ..Options::default() };
                let server = bench.fresh(Contestant::Ours, &format!("{strategy}-{engine}"), options)?;
                server.load(0, keys)?;
                servers.insert(place.clone(), server);
            }
            let server = &servers[&place];
            server.settle()?;
            for (work, set_percent) in WORKS {
                for connections in CONNECTIONS {
                    let group = Group { set_percent, ..Group::gets(connections, 1, keys) };
                    let part = format!("{}.", cell(engine, work, connections));
                    let rate = with_cost(server, &part, &mut all, || {
                        let outcome = drive(&load_of(server, seconds, vec![group]))?.remove(0);
                        Ok((outcome.rate(), outcome.done))
                    })?;
                    all.insert(format!("{part}rate"), rate);
                }
            }
        }
        Ok(all)
    }

    fn end(&self, _bench: &mut Bench) -> Result<()> {
        self.servers.lock().map_err(|_| "an earlier round panicked")?.clear();
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for engine in ENGINES {
            for (work, _) in WORKS {
                for connections in CONNECTIONS {
                    let cell = cell(engine, work, connections);
                    let row = Row::new(&format!("{PREFIX}-{cell}"), "ops/s", "rate", Better::Higher);
                    rows.push(row.of_part(&format!("{cell}.")));
                }
            }
        }
        rows
    }
}
