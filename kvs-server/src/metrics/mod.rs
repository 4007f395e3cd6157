//! `Metrics`: what the server counts, from the catalogue, and its text for Prometheus.
//!
//! What must hold: on the way of a request nothing is looked up by a label's text; figures that the engine and the
//! pool keep themselves are copied when somebody asks for the text.

pub mod catalogue;
mod engine;
mod load;
mod pool;
mod registry;
mod reload;
mod requests;
mod tls;

use std::collections::BTreeSet;
use std::sync::Mutex;

use kvs_engine::Stats;
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};
use prometheus::{IntCounter, IntCounterVec, IntGauge, TextEncoder};

use crate::admin::ADMIN_ENDINGS;
use crate::connection::Ending;
use crate::health::{Health, State};
use crate::limits::MAX_ADMIN_CONNECTIONS;
use crate::pool::PoolFigures;
use kvs_engine::Repeated;
use registry::Builder;

pub(crate) use engine::EngineMetrics;
pub(crate) use pool::PoolMetrics;
pub(crate) use reload::ReloadMetrics;
pub(crate) use requests::{RequestMetrics, is_failure};
pub(crate) use tls::TlsMetrics;

/// Everything that the server exports.
pub(crate) struct Metrics {
    registry: prometheus::Registry,
    pub(crate) requests: RequestMetrics,
    pub(crate) clients: ListenerMetrics,
    pub(crate) admin: ListenerMetrics,
    /// From clients.
    pub(crate) received_bytes: IntCounter,
    /// To clients.
    pub(crate) sent_bytes: IntCounter,
    pub(crate) pool: PoolMetrics,
    pub(crate) engine: EngineMetrics,
    pub(crate) tls: TlsMetrics,
    pub(crate) reload: ReloadMetrics,
    /// Failed attempts to authenticate.
    pub(crate) auth_failures: IntCounter,
    /// Requests refused for want of authentication or of a role.
    pub(crate) auth_refusals: IntCounter,
    in_flight_bytes: IntGauge,
    in_flight_limit: IntGauge,
    disk_capacity_bytes: IntGauge,
    disk_available_bytes: IntGauge,
    poisoned: IntGauge,
    last_failure: IntGauge,
    ready: IntGauge,
    draining: IntGauge,
    /// Held while figures are copied and the text is made, so that two scrapes don't mix.
    scrape: Mutex<()>,
    /// The names of all that is exported, those without a series so far included.
    names: BTreeSet<&'static str>,
}

/// The names of all that a server exports, for whoever holds them against the catalogue.
#[must_use]
pub fn registered_metrics() -> BTreeSet<&'static str> {
    let labels = Labels { engine: EngineName::Kvs, pool: PoolStrategy::Inline, sync: SyncMode::Always };
    Metrics::new(labels, 1).names
}

/// What the server runs on, as labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels {
    pub(crate) engine: EngineName,
    pub(crate) pool: PoolStrategy,
    pub(crate) sync: SyncMode,
}

/// Figures that others keep, at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) engine: Stats,
    pub(crate) pool: PoolFigures,
    pub(crate) in_flight_bytes: usize,
    pub(crate) in_flight_limit_bytes: usize,
    /// Of the file system that the data lies on.
    pub(crate) disk_capacity_bytes: u64,
    pub(crate) disk_available_bytes: u64,
    /// Whether the engine can't go on.
    pub(crate) is_poisoned: bool,
}

/// What is counted at one listener.
pub(crate) struct ListenerMetrics {
    pub(crate) open: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) accept_errors: IntCounter,
    /// Failed accepts, for the log.
    pub(crate) failed: Repeated,
    closed: IntCounterVec,
    name: &'static str,
}

impl ListenerMetrics {
    /// A connection was closed for this reason, one of a closed set.
    pub(crate) fn closed(&self, reason: &'static str) {
        self.open.dec();
        self.closed.with_label_values(&[self.name, reason]).inc();
    }
}

impl Metrics {
    pub(crate) fn new(labels: Labels, max_connections: usize) -> Self {
        let builder = Builder::default();
        let (open, limit) = (builder.gauges(&catalogue::CONNECTIONS), builder.gauges(&catalogue::CONNECTION_LIMIT));
        let accepted = builder.counters(&catalogue::CONNECTIONS_ACCEPTED);
        let accept_errors = builder.counters(&catalogue::ACCEPT_ERRORS);
        let closed = builder.counters(&catalogue::CONNECTIONS_CLOSED);
        let listener = |name: &'static str, most: usize, endings: &[&'static str]| {
            // From the first scrape on, so that a rate sees the first of them too.
            endings.iter().for_each(|ending| drop(closed.with_label_values(&[name, ending])));
            limit.with_label_values(&[name]).set(int(most));
            ListenerMetrics {
                open: open.with_label_values(&[name]),
                accepted: accepted.with_label_values(&[name]),
                accept_errors: accept_errors.with_label_values(&[name]),
                failed: Repeated::default(),
                closed: closed.clone(),
                name,
            }
        };
        let clients = listener("client", max_connections, &Ending::ALL.map(Ending::as_str));
        let admin = listener("admin", MAX_ADMIN_CONNECTIONS, &ADMIN_ENDINGS);
        builder.gauges(&catalogue::BUILD_INFO).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let running_on = [labels.engine.as_str(), labels.pool.as_str(), labels.sync.as_str()];
        builder.gauges(&catalogue::SERVER_INFO).with_label_values(&running_on).set(1);
        Self {
            requests: RequestMetrics::new(&builder),
            clients,
            admin,
            received_bytes: builder.counters(&catalogue::RECEIVED_BYTES).with_label_values(&["client"]),
            sent_bytes: builder.counters(&catalogue::SENT_BYTES).with_label_values(&["client"]),
            pool: PoolMetrics::new(&builder, labels.pool),
            engine: EngineMetrics::new(&builder),
            tls: TlsMetrics::new(&builder),
            reload: ReloadMetrics::new(&builder),
            auth_failures: builder.counter(&catalogue::AUTH_FAILURES),
            auth_refusals: builder.counter(&catalogue::AUTH_REFUSALS),
            in_flight_bytes: builder.gauge(&catalogue::IN_FLIGHT_BYTES),
            in_flight_limit: builder.gauge(&catalogue::IN_FLIGHT_LIMIT),
            disk_capacity_bytes: builder.gauge(&catalogue::ENGINE_DISK_CAPACITY_BYTES),
            disk_available_bytes: builder.gauge(&catalogue::ENGINE_DISK_AVAILABLE_BYTES),
            poisoned: builder.gauge(&catalogue::ENGINE_POISONED),
            last_failure: builder.gauge(&catalogue::LAST_FAILURE_TIME),
            ready: builder.gauge(&catalogue::READY),
            draining: builder.gauge(&catalogue::DRAINING),
            scrape: Mutex::new(()),
            names: builder.names(),
            registry: builder.finish(),
        }
    }

    /// A server of this folder ended because its engine could not go on, in seconds since 1970.
    pub(crate) fn has_failed_at(&self, at_s: u64) {
        self.last_failure.set(int(at_s));
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self, figures: &Figures, health: &Health) -> String {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.engine.copy(&figures.engine);
        self.pool.copy(&figures.pool);
        self.in_flight_bytes.set(int(figures.in_flight_bytes));
        self.in_flight_limit.set(int(figures.in_flight_limit_bytes));
        self.disk_capacity_bytes.set(int(figures.disk_capacity_bytes));
        self.disk_available_bytes.set(int(figures.disk_available_bytes));
        self.poisoned.set(i64::from(figures.is_poisoned));
        self.ready.set(i64::from(health.state() == State::Ready));
        self.draining.set(i64::from(health.state() == State::Draining));
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("metrics that were registered have names, and memory takes their text")
    }
}

/// A figure as a gauge takes it; figures beyond 2^63 do not occur.
fn int(figure: impl TryInto<i64>) -> i64 {
    figure.try_into().unwrap_or(i64::MAX)
}

/// Raises a counter to a figure that is counted elsewhere.
fn raise(counter: &IntCounter, figure: u64) {
    counter.inc_by(figure.saturating_sub(counter.get()));
}
