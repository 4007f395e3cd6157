//! Every metric that the server exports: name, kind, help, labels and buckets. Documentation, dashboards and tests
//! read this list.
//!
//! What must hold: base units in the name, `_total` for counters, closed sets of label values, and one meaning each.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets that begin at `first` and grow by `factor`.
    Histogram {
        /// The upper bound of the first bucket.
        first: f64,
        /// How much wider each next bucket is.
        factor: f64,
        /// How many buckets there are, beside the last without bound.
        count: usize,
    },
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Its labels, each with a closed set of values.
    pub labels: &'static [&'static str],
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], kind: Kind, help: &'static str) -> Metric {
    Metric { name, kind, help, labels }
}

/// Latencies of requests and jobs: 10 us to 5 s.
const LATENCY: Kind = Kind::Histogram { first: 10e-6, factor: 2.0, count: 20 };
/// Latencies of a disk: 50 us to 7 s.
const DISK: Kind = Kind::Histogram { first: 50e-6, factor: 2.0, count: 18 };
/// Compactions: 10 ms to 5 min.
const COMPACTION: Kind = Kind::Histogram { first: 10e-3, factor: 2.0, count: 16 };
/// Records in one group: 1 to 1,024.
const GROUP: Kind = Kind::Histogram { first: 1.0, factor: 2.0, count: 11 };

/// Declares the metrics and the list of all.
macro_rules! catalogue {
    ($($name:ident = $metric:expr;)+) => {
        $(pub(crate) const $name: Metric = $metric;)+

        /// Every metric of our own, in the order of the documentation. `process_*` comes from the operating system.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

catalogue! {
    REQUESTS = counter("kvs_requests_total", &["op", "code"], "Requests answered, by operation and error code (ok when there was none).");
    REQUEST_DURATION = histogram("kvs_request_duration_seconds", &["op"], LATENCY, "Time from a request's decoding to its answer's encoding.");

    CONNECTIONS = gauge("kvs_connections", &["listener"], "Open connections.");
    CONNECTION_LIMIT = gauge("kvs_connection_limit", &["listener"], "The most open connections; further clients wait in the system's backlog.");
    CONNECTIONS_ACCEPTED = counter("kvs_connections_accepted_total", &["listener"], "Connections accepted.");
    CONNECTIONS_CLOSED = counter("kvs_connections_closed_total", &["listener", "reason"], "Connections closed, by who or what ended them.");
    ACCEPT_ERRORS = counter("kvs_accept_errors_total", &["listener"], "Failed accepts, for want of file descriptors for example.");
    RECEIVED_BYTES = counter("kvs_network_received_bytes_total", &["listener"], "Bytes read from clients.");
    SENT_BYTES = counter("kvs_network_sent_bytes_total", &["listener"], "Bytes written to clients.");
    IN_FLIGHT_BYTES = gauge("kvs_in_flight_bytes", &[], "Bytes of large frames and answers that connections hold beyond their small allowances.");
    IN_FLIGHT_LIMIT = gauge("kvs_in_flight_limit_bytes", &[], "The most bytes in flight; beyond, requests are answered busy.");

    POOL_WORKERS = gauge("kvs_pool_workers", &["pool"], "Threads of the pool; 0 for inline, which has none of its own.");
    POOL_BUSY_WORKERS = gauge("kvs_pool_busy_workers", &["pool"], "Jobs that are being run.");
    POOL_BUSY_SECONDS = counter("kvs_pool_busy_seconds_total", &["pool"], "Time that jobs ran; its rate by workers is the utilisation.");
    POOL_QUEUED_JOBS = gauge("kvs_pool_queued_jobs", &["pool"], "Jobs that wait for a worker.");
    POOL_QUEUE_CAPACITY = gauge("kvs_pool_queue_capacity_jobs", &["pool"], "The most jobs that may wait; 0 for inline.");
    POOL_JOBS = counter("kvs_pool_jobs_total", &["pool", "result"], "Jobs that ended, by ok or panicked.");
    POOL_REJECTED_JOBS = counter("kvs_pool_rejected_jobs_total", &["pool"], "Jobs that were refused because the pool was full.");
    POOL_WAIT = histogram("kvs_pool_wait_duration_seconds", &["pool"], LATENCY, "Time that a job waited for a worker.");
    POOL_RUN = histogram("kvs_pool_job_duration_seconds", &["pool"], LATENCY, "Time that a job ran.");

    COMPACTION_RUNS = counter("kvs_compaction_runs_total", &["result"], "Compactions that ended, by ok or error.");
    COMPACTION_DURATION = histogram("kvs_compaction_duration_seconds", &[], COMPACTION, "Time that a compaction took.");
    COMPACTION_IN_PROGRESS = gauge("kvs_compaction_in_progress", &[], "1 while a compaction runs.");
    COMPACTION_READ_BYTES = counter("kvs_compaction_read_bytes_total", &[], "Bytes that compactions read.");
    COMPACTION_WRITTEN_BYTES = counter("kvs_compaction_written_bytes_total", &[], "Bytes that compactions wrote.");
    COMPACTION_RECLAIMED_BYTES = counter("kvs_compaction_reclaimed_bytes_total", &[], "Bytes that compactions gave back.");

    ENGINE_KEYS = gauge("kvs_engine_keys", &[], "Keys that have a value.");
    ENGINE_LOG_BYTES = gauge("kvs_engine_log_bytes", &["kind"], "Bytes of the log, by live (the index points at them) and dead (compaction can take them away).");
    ENGINE_DISK_BYTES = gauge("kvs_engine_disk_bytes", &[], "Bytes of the engine's files, zero-filled space included.");
    ENGINE_SEGMENTS = gauge("kvs_engine_segments", &[], "Files of the log.");
    ENGINE_INDEX_BYTES = gauge("kvs_engine_index_memory_bytes", &[], "Memory of the index.");
    ENGINE_READ_ONLY = gauge("kvs_engine_read_only", &[], "1 while writes are refused for want of space.");
    ENGINE_CHECKPOINTS = counter("kvs_engine_checkpoints_total", &[], "Checkpoints of the index that were written.");
    ENGINE_REPLAYED_BYTES = gauge("kvs_engine_replayed_bytes", &[], "Bytes of the log that were read to build the index when the store was opened.");
    ENGINE_TORN_BYTES = gauge("kvs_engine_torn_bytes", &[], "Bytes of an unfinished write that were cut off when the store was opened.");

    WAL_FSYNC_DURATION = histogram("kvs_wal_fsync_duration_seconds", &[], DISK, "Time that a sync of the log took.");
    WAL_FSYNCS = counter("kvs_wal_fsyncs_total", &[], "Syncs of the log.");
    WAL_GROUP_RECORDS = histogram("kvs_wal_group_commit_records", &[], GROUP, "Records that one sync made durable.");
    WAL_WRITTEN_BYTES = counter("kvs_wal_written_bytes_total", &[], "Bytes appended to the log.");

    READY = gauge("kvs_ready", &[], "1 while the server takes requests.");
    DRAINING = gauge("kvs_draining", &[], "1 while the server is shutting down.");
    BUILD_INFO = gauge("kvs_build_info", &["version"], "1, with the version of the server.");
    SERVER_INFO = gauge("kvs_server_info", &["engine", "pool", "sync"], "1, with what the server runs on.");
}
