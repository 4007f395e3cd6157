//! `About`: what a server tells of itself to whoever asks with `info`.
//!
//! What must hold: no key, no value, no secret and no path stands in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kvs_engine::Stats;
use kvs_protocol::Info;
use serde_json::{Value, json};

use crate::metrics::{Labels, Metrics};

/// What does not change while the server runs, and where to look for what does.
pub(crate) struct About {
    labels: Labels,
    started: Instant,
    metrics: Arc<Metrics>,
    /// Of the pool, as they are configured; `naive` and `inline` have none of their own.
    threads: u32,
}

impl About {
    pub(crate) fn new(labels: Labels, started: Instant, metrics: Arc<Metrics>, threads: u32) -> Self {
        Self { labels, started, metrics, threads }
    }

    /// The sections: `server`, `clients`, and `store` with the figures of the engine.
    pub(crate) fn info(&self, stats: &Stats) -> Info {
        let Labels { engine, pool, sync } = self.labels;
        let server = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "engine": engine,
            "pool": pool,
            "sync": sync,
            "uptimeSeconds": self.started.elapsed().as_secs(),
        });
        let clients = json!({ "connectedClients": self.metrics.clients.open.get() });
        let store = serde_json::to_value(stats).expect("numbers have a JSON form");
        let sections = [("clients", clients), ("server", server), ("store", store)];
        Info { sections: sections.into_iter().map(|(name, fields)| (name.to_owned(), fields_of(fields))).collect() }
    }

    /// The section `load`: what a client needs to see rates, and what the pool has.
    pub(crate) fn load(&self) -> Value {
        let mut load = self.metrics.load();
        load["threads"] = self.threads.into();
        load
    }

    /// One section by itself.
    pub(crate) fn section(name: &str, fields: Value) -> Info {
        Info { sections: [(name.to_owned(), fields_of(fields))].into() }
    }
}

fn fields_of(object: Value) -> BTreeMap<String, Value> {
    match object {
        Value::Object(fields) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
