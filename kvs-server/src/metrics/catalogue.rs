//! Every metric that the server exports: name, kind, unit, labels, buckets, what it says and the question that it
//! answers. Registration, docs/metrics.md, the dashboards and the alert rules are made from this list or held against it.
//!
//! What must hold: [`Metric::check`] for each, and at most 600 series in all.

use kvs_protocol::metric::Unit::{Bytes, Count, Flag, Info, Seconds, Timestamp};
pub use kvs_protocol::metric::{Kind, Metric, Unit};

type Labels = &'static [&'static str];

const fn counter(name: &'static str, unit: Unit, labels: Labels, help: &'static str, question: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help, question }
}

const fn gauge(name: &'static str, unit: Unit, labels: Labels, help: &'static str, question: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, question }
}

const fn histogram(
    name: &'static str,
    (unit, kind): (Unit, Kind),
    labels: Labels,
    help: &'static str,
    question: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help, question }
}

/// Latencies of requests and jobs: 10 us to 5 s.
const LATENCY: (Unit, Kind) = (Seconds, Kind::Histogram { first: 10e-6, factor: 2.0, count: 20 });
/// Latencies of a disk: 50 us to 7 s.
const DISK: (Unit, Kind) = (Seconds, Kind::Histogram { first: 50e-6, factor: 2.0, count: 18 });
/// Compactions: 10 ms to 5 min.
const COMPACTION: (Unit, Kind) = (Seconds, Kind::Histogram { first: 10e-3, factor: 2.0, count: 16 });
/// Records in one group: 1 to 1,024.
const GROUP: (Unit, Kind) = (Count, Kind::Histogram { first: 1.0, factor: 2.0, count: 11 });

/// Declares the metrics and the list of all.
macro_rules! catalogue {
    ($($name:ident = $metric:expr;)+) => {
        $(pub(crate) const $name: Metric = $metric;)+

        /// Every metric of our own, in the order of the documentation. `process_*` comes from the operating system.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

catalogue! {
    REQUESTS = counter("kvs_requests_total", Count, &["op", "outcome"],
        "Requests answered, by operation and outcome: ok, refused (the client must act) or failed (the server could not).",
        "How much is asked, and how much of it goes wrong?");
    REQUEST_ERRORS = counter("kvs_request_errors_total", Count, &["code"],
        "Requests answered with an error, by its code.",
        "What goes wrong?");
    REQUEST_DURATION = histogram("kvs_request_duration_seconds", LATENCY, &["op"],
        "Time from a request's decoding to its answer's encoding, by operation; other is what does not touch a key.",
        "How long do clients wait inside the server?");
    READS = counter("kvs_reads_total", Count, &["result"],
        "Gets answered, by hit (the key has a value) or miss.",
        "Do clients ask for what is there?");
    SLOW_REQUESTS = counter("kvs_slow_requests_total", Count, &[],
        "Requests that took longer than limits.slowRequestMs; info slowlog has the last of them.",
        "Is it worth looking into the slow log?");
    FRAMES = counter("kvs_frames_received_total", Count, &["protocol"],
        "Whole requests that were read, by protocol, what could not be understood included.",
        "Which protocol do clients speak?");

    CONNECTIONS = gauge("kvs_connections", Count, &["listener"],
        "Open connections.", "How many clients are there?");
    CONNECTION_LIMIT = gauge("kvs_connection_limit", Count, &["listener"],
        "The most open connections; further clients wait in the system's backlog.",
        "How many more clients may come?");
    CONNECTIONS_ACCEPTED = counter("kvs_connections_accepted_total", Count, &["listener"],
        "Connections accepted.", "Do clients connect again and again?");
    CONNECTIONS_CLOSED = counter("kvs_connections_closed_total", Count, &["listener", "reason"],
        "Connections closed, by who or what ended them.", "Why do connections end?");
    ACCEPT_ERRORS = counter("kvs_accept_errors_total", Count, &["listener"],
        "Failed accepts, for want of file descriptors for example.", "Can clients connect at all?");
    RECEIVED_BYTES = counter("kvs_network_received_bytes_total", Bytes, &["listener"],
        "Bytes read from clients.", "How much do clients send?");
    SENT_BYTES = counter("kvs_network_sent_bytes_total", Bytes, &["listener"],
        "Bytes written to clients.", "How much do clients take?");
    TLS_HANDSHAKES = counter("kvs_tls_handshakes_total", Count, &["result"],
        "TLS handshakes, by ok or error; a client that speaks no TLS is an error.",
        "Do clients get through TLS?");
    TLS_CERTIFICATE_EXPIRY = gauge("kvs_tls_certificate_expiry_timestamp_seconds", Timestamp, &[],
        "When the server's certificate ends, in seconds since 1970; 0 without TLS.",
        "When must the certificate be renewed?");
    AUTH_FAILURES = counter("kvs_auth_failures_total", Count, &[],
        "Attempts to authenticate with a token that the server does not know.", "Is somebody guessing tokens?");
    AUTH_REFUSALS = counter("kvs_auth_refused_requests_total", Count, &[],
        "Requests refused for want of authentication or of a role.", "Does a client lack a right that it needs?");
    CONFIG_RELOAD_SUCCESSFUL = gauge("kvs_config_last_reload_successful", Flag, &[],
        "1 while the last reload of configuration, certificates or tokens went well.",
        "Does the server run with what was configured last?");
    CONFIG_RELOAD_SUCCESS_TIME = gauge("kvs_config_last_reload_success_timestamp_seconds", Timestamp, &[],
        "When configuration, certificates or tokens were last taken over, in seconds since 1970.",
        "Since when does the server run with what it has?");
    IN_FLIGHT_BYTES = gauge("kvs_in_flight_bytes", Bytes, &[],
        "Bytes of large frames and answers that connections hold beyond their small allowances.",
        "How much memory do large requests take?");
    IN_FLIGHT_LIMIT = gauge("kvs_in_flight_limit_bytes", Bytes, &[],
        "The most bytes in flight; beyond, requests are answered busy.", "How much more may be in flight?");

    POOL_WORKERS = gauge("kvs_pool_workers", Count, &["pool"],
        "Threads of the pool; 0 for inline, which has none of its own.", "How many jobs can run at once?");
    POOL_BUSY_WORKERS = gauge("kvs_pool_busy_workers", Count, &["pool"],
        "Jobs that are being run.", "How many workers are at work at this moment?");
    POOL_BUSY_SECONDS = counter("kvs_pool_busy_seconds_total", Seconds, &["pool"],
        "Time that jobs ran; its rate by workers is the utilisation.", "How much of the pool is used?");
    POOL_QUEUED_JOBS = gauge("kvs_pool_queued_jobs", Count, &["pool"],
        "Jobs that wait for a worker.", "Is there more to do than the pool can do?");
    POOL_QUEUE_CAPACITY = gauge("kvs_pool_queue_capacity_jobs", Count, &["pool"],
        "The most jobs that may wait; 0 for inline.", "How soon does the pool refuse work?");
    POOL_JOBS = counter("kvs_pool_jobs_total", Count, &["pool", "result"],
        "Jobs that ended, by ok or panicked.", "How many batches of requests are run, and do any meet a fault of ours?");
    POOL_REJECTED_JOBS = counter("kvs_pool_rejected_jobs_total", Count, &["pool"],
        "Jobs that were refused because the pool was full.", "Is work refused?");
    POOL_WAIT = histogram("kvs_pool_wait_duration_seconds", LATENCY, &["pool"],
        "Time that a job waited for a worker.", "How long do requests wait for a worker?");
    POOL_RUN = histogram("kvs_pool_job_duration_seconds", LATENCY, &["pool"],
        "Time that a job ran.", "How long does a batch of requests keep a worker?");

    COMPACTION_RUNS = counter("kvs_compaction_runs_total", Count, &["result"],
        "Compactions that ended, by ok or error.", "Does compaction work?");
    COMPACTION_DURATION = histogram("kvs_compaction_duration_seconds", COMPACTION, &[],
        "Time that a compaction took.", "How long does a compaction take?");
    COMPACTION_IN_PROGRESS = gauge("kvs_compaction_in_progress", Flag, &[],
        "1 while a compaction runs.", "Is compaction what the disk is busy with?");
    COMPACTION_READ_BYTES = counter("kvs_compaction_read_bytes_total", Bytes, &[],
        "Bytes that compactions read.", "How much does compaction read?");
    COMPACTION_WRITTEN_BYTES = counter("kvs_compaction_written_bytes_total", Bytes, &[],
        "Bytes that compactions wrote.", "How often is each byte written?");
    COMPACTION_RECLAIMED_BYTES = counter("kvs_compaction_reclaimed_bytes_total", Bytes, &[],
        "Bytes that compactions gave back.", "What does compaction gain?");
    COMPACTION_BACKLOG_BYTES = gauge("kvs_compaction_backlog_bytes", Bytes, &[],
        "Dead bytes beyond what starts a compaction.", "Does compaction keep up?");
    COMPACTION_THROTTLED = counter("kvs_compaction_throttled_seconds_total", Seconds, &[],
        "Time that compactions waited so as to keep to their rate.", "Is compaction held back by its own rate?");
    COMPACTION_SUCCESS_TIME = gauge("kvs_compaction_last_success_timestamp_seconds", Timestamp, &[],
        "When a compaction last ended well, in seconds since 1970; 0 before the first one.",
        "When did compaction last do something?");

    ENGINE_KEYS = gauge("kvs_engine_keys", Count, &[], "Keys that have a value.", "How much is in the store?");
    ENGINE_LOG_BYTES = gauge("kvs_engine_log_bytes", Bytes, &["kind"],
        "Bytes of the log, by live (the index points at them) and dead (compaction can take them away).",
        "How much of the log is data?");
    ENGINE_DISK_BYTES = gauge("kvs_engine_disk_bytes", Bytes, &[],
        "Bytes of the engine's files, zero-filled space included.", "How much of the volume does the store take?");
    ENGINE_DISK_CAPACITY_BYTES = gauge("kvs_engine_disk_capacity_bytes", Bytes, &[],
        "Size of the file system that the data lies on; 0 when it does not say.", "How large is the volume?");
    ENGINE_DISK_AVAILABLE_BYTES = gauge("kvs_engine_disk_available_bytes", Bytes, &[],
        "Bytes of that file system that can still be written.", "How long until the volume is full?");
    ENGINE_SEGMENTS = gauge("kvs_engine_segments", Count, &[], "Files of the log.", "How many files does the log have?");
    ENGINE_INDEX_BYTES = gauge("kvs_engine_index_memory_bytes", Bytes, &[],
        "Memory of the index.", "How much memory do the keys take?");
    ENGINE_READ_ONLY = gauge("kvs_engine_read_only", Flag, &[],
        "1 while writes are refused for want of space.", "Are writes refused?");
    ENGINE_POISONED = gauge("kvs_engine_poisoned", Flag, &[],
        "1 when nothing is acknowledged any more, because a sync or a write failed; the server ends then.",
        "Did the disk fail?");
    ENGINE_CHECKPOINTS = counter("kvs_engine_checkpoints_total", Count, &[],
        "Checkpoints of the index that were written.", "Will the next start be quick?");
    ENGINE_OPEN_DURATION = gauge("kvs_engine_open_duration_seconds", Seconds, &[],
        "Time that opening the store took.", "How long does a restart take?");
    ENGINE_REPLAYED_BYTES = gauge("kvs_engine_replayed_bytes", Bytes, &[],
        "Bytes of the log that were read to build the index when the store was opened.",
        "Why did the start take so long?");
    ENGINE_TORN_BYTES = gauge("kvs_engine_torn_bytes", Bytes, &[],
        "Bytes of an unfinished write that were cut off when the store was opened.",
        "Did the last run end in the middle of a write?");
    LAST_FAILURE_TIME = gauge("kvs_last_failure_timestamp_seconds", Timestamp, &[],
        "When a server of this folder last ended because its engine could not go on, in seconds since 1970; 0 when none did.",
        "Was the last restart the disk's fault?");

    WAL_APPEND_DURATION = histogram("kvs_wal_append_duration_seconds", DISK, &[],
        "Time that writing a group of records to the log's file took, before its sync.",
        "Is the page cache slow to take writes?");
    WAL_FSYNC_DURATION = histogram("kvs_wal_fsync_duration_seconds", DISK, &[],
        "Time that a sync of the log took.", "How fast is the disk for what must be durable?");
    WAL_FSYNCS = counter("kvs_wal_fsyncs_total", Count, &[], "Syncs of the log.", "How often is the disk asked?");
    WAL_GROUP_RECORDS = histogram("kvs_wal_group_commit_records", GROUP, &[],
        "Records that one sync made durable.", "How many writes share a sync?");
    WAL_WRITTEN_BYTES = counter("kvs_wal_written_bytes_total", Bytes, &[],
        "Bytes appended to the log.", "How much is written?");
    WAL_STALLS = counter("kvs_wal_stall_seconds_total", Seconds, &[],
        "Time that writers waited for room in the log's queue or for a segment to be prepared.",
        "Do writes come faster than the disk takes them?");

    READY = gauge("kvs_ready", Flag, &[], "1 while the server takes requests.", "Does it serve?");
    DRAINING = gauge("kvs_draining", Flag, &[], "1 while the server is shutting down.", "Is it ending?");
    BUILD_INFO = gauge("kvs_build_info", Info, &["version"],
        "1, with the version of the server.", "Which versions are running?");
    SERVER_INFO = gauge("kvs_server_info", Info, &["engine", "pool", "sync"],
        "1, with what the server runs on.", "Which engine, pool and sync policy does it run with?");
}
