//! Engine: the log, its syncs, compaction, the index and the volume.

use super::Scale::{ByteRate, Bytes, Count, Rate, Seconds, Share};
use super::{Dashboard, Panel, heat_map, lines};

/// The engine and its compaction.
pub(super) const ENGINE: Dashboard = Dashboard {
    name: "engine",
    title: "Aryavarth KVS / Engine and compaction",
    description: "How fast are writes durable, what does compaction do, and how long does the space last?",
    job: "kvs-server",
    labels: &["namespace", "kvsstore", "pod"],
    lists: "kvs_build_info",
    panels: PANELS,
};

const PANELS: &[Panel] = &[
    heat_map(
        "Syncs of the log",
        &[("sum by (le) (increase(kvs_wal_fsync_duration_seconds_bucket{S}[R]))", "{{le}}")],
        "How long does the disk take to make writes durable, and how wide does it spread?",
    ),
    lines(
        "Sync and write, p99",
        Seconds,
        &[
            ("histogram_quantile(0.99, sum by (le) (rate(kvs_wal_fsync_duration_seconds_bucket{S}[R])))", "sync"),
            (
                "histogram_quantile(0.99, sum by (le) (rate(kvs_wal_append_duration_seconds_bucket{S}[R])))",
                "write before it",
            ),
        ],
        "Is it the disk or the page cache that is slow?",
    ),
    lines(
        "Syncs and records",
        Rate,
        &[
            ("sum(rate(kvs_wal_fsyncs_total{S}[R]))", "syncs"),
            ("sum(rate(kvs_wal_group_commit_records_sum{S}[R]))", "records"),
        ],
        "How many writes become durable, by how many syncs?",
    ),
    lines(
        "Records of a sync",
        Count,
        &[(
            "sum(rate(kvs_wal_group_commit_records_sum{S}[R])) / sum(rate(kvs_wal_group_commit_records_count{S}[R]))",
            "mean",
        )],
        "How many writes share a sync?",
    ),
    lines(
        "Bytes written",
        ByteRate,
        &[
            ("sum(rate(kvs_wal_written_bytes_total{S}[R]))", "log"),
            ("sum(rate(kvs_compaction_written_bytes_total{S}[R]))", "compaction"),
        ],
        "What is written by clients, and what by compaction?",
    ),
    lines(
        "Write amplification",
        Count,
        &[(
            "(sum(rate(kvs_wal_written_bytes_total{S}[R])) + sum(rate(kvs_compaction_written_bytes_total{S}[R]))) / \
             (sum(rate(kvs_wal_written_bytes_total{S}[R])) > 0)",
            "bytes written for each byte of the log",
        )],
        "How often is each byte written?",
    ),
    lines(
        "Live and dead bytes of the log",
        Bytes,
        &[
            ("sum by (kind) (kvs_engine_log_bytes{S})", "{{kind}}"),
            ("sum(kvs_compaction_backlog_bytes{S})", "dead beyond what starts a compaction"),
        ],
        "How much of the log is data, and does compaction keep up?",
    ),
    lines(
        "Compactions",
        Rate,
        &[
            ("sum by (result) (rate(kvs_compaction_runs_total{S}[R]))", "{{result}}"),
            ("sum(kvs_compaction_in_progress{S})", "in progress"),
        ],
        "Does compaction run, and does it work?",
    ),
    lines(
        "Compaction's bytes",
        ByteRate,
        &[
            ("sum(rate(kvs_compaction_read_bytes_total{S}[R]))", "read"),
            ("sum(rate(kvs_compaction_written_bytes_total{S}[R]))", "written"),
            ("sum(rate(kvs_compaction_reclaimed_bytes_total{S}[R]))", "given back"),
        ],
        "What does compaction cost, and what does it gain?",
    ),
    lines(
        "Compaction's time",
        Seconds,
        &[
            (
                "sum(rate(kvs_compaction_duration_seconds_sum{S}[R])) / (sum(rate(kvs_compaction_duration_seconds_count{S}[R])) > 0)",
                "mean of one",
            ),
            ("sum(rate(kvs_compaction_throttled_seconds_total{S}[R]))", "waiting for its rate, of each second"),
        ],
        "How long does a compaction take, and is it held back by its own rate?",
    ),
    lines(
        "Since the last compaction",
        Seconds,
        &[("time() - max by (pod) (kvs_compaction_last_success_timestamp_seconds{S} > 0)", "{{pod}}")],
        "When did compaction last end well?",
    ),
    lines(
        "Stalls of writers",
        Share,
        &[("sum by (pod) (rate(kvs_wal_stall_seconds_total{S}[R]))", "{{pod}}")],
        "Do writes come faster than the disk takes them?",
    ),
    lines("Keys", Count, &[("sum by (pod) (kvs_engine_keys{S})", "{{pod}}")], "How many keys have a value?"),
    lines(
        "Memory of the index",
        Bytes,
        &[("sum by (pod) (kvs_engine_index_memory_bytes{S})", "{{pod}}")],
        "How much memory do the keys take?",
    ),
    lines(
        "Volume",
        Bytes,
        &[
            ("sum by (pod) (kvs_engine_disk_bytes{S})", "the store's files: {{pod}}"),
            ("min by (pod) (kvs_engine_disk_available_bytes{S})", "free: {{pod}}"),
            ("max by (pod) (kvs_engine_disk_capacity_bytes{S})", "size: {{pod}}"),
        ],
        "How long until the volume is full?",
    ),
    lines(
        "Files and checkpoints",
        Count,
        &[
            ("sum by (pod) (kvs_engine_segments{S})", "files of the log: {{pod}}"),
            ("sum by (pod) (increase(kvs_engine_checkpoints_total{S}[R]))", "checkpoints: {{pod}}"),
        ],
        "How many files does the log have, and will the next start be quick?",
    ),
    lines(
        "The last start",
        Seconds,
        &[("max by (pod) (kvs_engine_open_duration_seconds{S})", "{{pod}}")],
        "How long did opening the store take?",
    ),
    lines(
        "Read by the last start",
        Bytes,
        &[
            ("max by (pod) (kvs_engine_replayed_bytes{S})", "replayed: {{pod}}"),
            ("max by (pod) (kvs_engine_torn_bytes{S})", "cut off: {{pod}}"),
        ],
        "Why did the start take so long, and did the run before it end in the middle of a write?",
    ),
    lines(
        "What has gone wrong",
        Count,
        &[
            ("max by (pod) (kvs_engine_read_only{S})", "read-only: {{pod}}"),
            ("max by (pod) (kvs_engine_poisoned{S})", "poisoned: {{pod}}"),
            ("max by (pod) (kvs_last_failure_timestamp_seconds{S} > bool 0)", "failed once: {{pod}}"),
        ],
        "Did the disk fail, or is it full?",
    ),
];
