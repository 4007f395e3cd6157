//! Every alert.

use super::{Alert, By, Severity, Story};
use By::{All, Installation, Job, Operator, Pool, Server, Store};
use Severity::{Page, Ticket};

/// What is often slow or refused where a server is overloaded or its disk is slow.
const OVERLOAD: &[&str] = &[
    "KvsLatencyBudgetBurn",
    "KvsLatencyBudgetSlowBurn",
    "KvsPoolSaturated",
    "KvsPoolRejectingWork",
    "KvsErrorBudgetBurn",
    "KvsErrorBudgetSlowBurn",
    "KvsWriteStalls",
];
/// What comes with syncs that are slow.
const SLOW_DISK: &[&str] =
    &["KvsFsyncSlow", "KvsFsyncVerySlow", "KvsLatencyBudgetBurn", "KvsLatencyBudgetSlowBurn", "KvsWriteStalls"];
/// What comes with a volume that fills up.
const FULL_DISK: &[&str] = &[
    "KvsReadOnly",
    "KvsDiskSpaceLow",
    "KvsDiskWillFill",
    // A server that looks for space is slow to answer.
    "KvsLatencyBudgetBurn",
    "KvsLatencyBudgetSlowBurn",
    "KvsErrorBudgetBurn",
    "KvsErrorBudgetSlowBurn",
    "KvsCompactionFailing",
    "KvsCompactionStuck",
];
/// What comes with a server that ends again and again.
const RESTARTS: &[&str] =
    &["KvsDown", "KvsRestarting", "KvsStoreFailed", "KvsNotReady", "KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn"];

/// Every alert, in the order of the runbooks.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "KvsDown",
        severity: Page,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (up{job=\"kvs-server\"}) == 0",
        wait: "1m",
        summary: "A server does not answer its scrapes.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} of the store {{ $labels.kvsstore }} has not answered a scrape for a minute.",
        with: RESTARTS,
        fires: Story::new("5m", &[("up{S}", "1x2 0x10")]),
        quiet: Story::new("5m", &[("up{S}", "1x3 0 1x10")]),
    },
    Alert {
        name: "KvsMetricsAbsent",
        severity: Ticket,
        by: Job,
        expression: "absent(up{job=\"kvs-server\"})",
        wait: "10m",
        summary: "No server is being scraped.",
        description: "Prometheus knows no target of the job {{ $labels.job }}: it watches nothing.",
        with: &[],
        fires: Story { labels: &[("job", "kvs-server")], ..Story::new("15m", &[("up{S}", "")]) },
        quiet: Story::new("15m", &[]),
    },
    Alert {
        name: "KvsNotReady",
        severity: Page,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_ready) == 0",
        wait: "5m",
        summary: "A server runs and does not serve.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} of the store {{ $labels.kvsstore }} has been up and not ready for five minutes.",
        with: RESTARTS,
        fires: Story::new("10m", &[("kvs_ready{S}", "0x20")]),
        quiet: Story::new("10m", &[("kvs_ready{S}", "0x4 1x20")]),
    },
    Alert {
        name: "KvsErrorBudgetBurn",
        severity: Page,
        by: Store,
        expression: "(kvs:requests_failed:ratio_rate1h > 14.4 * 0.001 and kvs:requests_failed:ratio_rate5m > 14.4 * 0.001) \
                     or (kvs:requests_failed:ratio_rate6h > 6 * 0.001 and kvs:requests_failed:ratio_rate30m > 6 * 0.001)",
        wait: "2m",
        summary: "A store fails so many requests that a month's error budget lasts days.",
        description: "{{ $labels.namespace }}/{{ $labels.kvsstore }} fails far more than one request in a thousand.",
        with: &["KvsErrorBudgetSlowBurn", "KvsPoolRejectingWork", "KvsInternalErrors", "KvsCorruption"],
        fires: Story::new(
            "70m",
            &[
                ("kvs_requests_total{S,outcome=\"ok\"}", "0+980x200"),
                ("kvs_requests_total{S,outcome=\"failed\"}", "0+20x200"),
            ],
        ),
        quiet: Story::new(
            "70m",
            &[
                ("kvs_requests_total{S,outcome=\"ok\"}", "0+1000x200"),
                ("kvs_requests_total{S,outcome=\"failed\"}", "0+1x200"),
            ],
        ),
    },
    Alert {
        name: "KvsErrorBudgetSlowBurn",
        severity: Ticket,
        by: Store,
        expression: "kvs:requests_failed:ratio_rate3d > 0.001 and kvs:requests_failed:ratio_rate6h > 0.001",
        wait: "1h",
        summary: "A store uses up its error budget within a month.",
        description: "{{ $labels.namespace }}/{{ $labels.kvsstore }} has failed more than one request in a thousand for days.",
        with: &["KvsErrorBudgetBurn"],
        fires: Story::new(
            "2h",
            &[
                ("kvs_requests_total{S,outcome=\"ok\"}", "0+998x800"),
                ("kvs_requests_total{S,outcome=\"failed\"}", "0+2x800"),
            ],
        ),
        quiet: Story::new(
            "2h",
            &[
                ("kvs_requests_total{S,outcome=\"ok\"}", "0+2000x800"),
                ("kvs_requests_total{S,outcome=\"failed\"}", "0+1x800"),
            ],
        ),
    },
    Alert {
        name: "KvsLatencyBudgetBurn",
        severity: Page,
        by: Store,
        expression: "(kvs:requests_slow:ratio_rate1h > 14.4 * 0.01 and kvs:requests_slow:ratio_rate5m > 14.4 * 0.01) \
                     or (kvs:requests_slow:ratio_rate6h > 6 * 0.01 and kvs:requests_slow:ratio_rate30m > 6 * 0.01)",
        wait: "2m",
        summary: "A store is so slow that a month's latency budget lasts days.",
        description: "Far more than one request in a hundred to {{ $labels.namespace }}/{{ $labels.kvsstore }} takes longer than 82 ms.",
        with: &["KvsLatencyBudgetSlowBurn"],
        fires: Story::new(
            "70m",
            &[
                ("kvs_request_duration_seconds_bucket{S,op=\"set\",le=\"0.08192\"}", "0+70x200"),
                ("kvs_request_duration_seconds_count{S,op=\"set\"}", "0+100x200"),
            ],
        ),
        quiet: Story::new(
            "70m",
            &[
                ("kvs_request_duration_seconds_bucket{S,op=\"set\",le=\"0.08192\"}", "0+95x200"),
                ("kvs_request_duration_seconds_count{S,op=\"set\"}", "0+100x200"),
            ],
        ),
    },
    Alert {
        name: "KvsLatencyBudgetSlowBurn",
        severity: Ticket,
        by: Store,
        expression: "kvs:requests_slow:ratio_rate3d > 0.01 and kvs:requests_slow:ratio_rate6h > 0.01",
        wait: "1h",
        summary: "A store uses up its latency budget within a month.",
        description: "More than one request in a hundred to {{ $labels.namespace }}/{{ $labels.kvsstore }} has taken longer than 82 ms for days.",
        with: &["KvsLatencyBudgetBurn"],
        fires: Story::new(
            "2h",
            &[
                ("kvs_request_duration_seconds_bucket{S,op=\"get\",le=\"0.08192\"}", "0+980x800"),
                ("kvs_request_duration_seconds_count{S,op=\"get\"}", "0+1000x800"),
            ],
        ),
        quiet: Story::new(
            "2h",
            &[
                ("kvs_request_duration_seconds_bucket{S,op=\"get\",le=\"0.08192\"}", "0+995x800"),
                ("kvs_request_duration_seconds_count{S,op=\"get\"}", "0+1000x800"),
                // What walks through the store may take its time.
                ("kvs_request_duration_seconds_count{S,op=\"scan\"}", "0+1000x800"),
            ],
        ),
    },
    Alert {
        name: "KvsFsyncSlow",
        severity: Ticket,
        by: Server,
        expression: "histogram_quantile(0.99, sum by (namespace, kvsstore, pod, le) (rate(kvs_wal_fsync_duration_seconds_bucket[@5m]))) > 0.1",
        wait: "10m",
        summary: "The disk takes long to make writes durable.",
        description: "One sync in a hundred of {{ $labels.namespace }}/{{ $labels.pod }} takes longer than 100 ms.",
        with: SLOW_DISK,
        fires: Story::new(
            "20m",
            &[
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"0.1024\"}", "0+90x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"0.2048\"}", "0+100x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"+Inf\"}", "0+100x60"),
            ],
        ),
        quiet: Story::new(
            "20m",
            &[
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"0.0512\"}", "0+100x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"+Inf\"}", "0+100x60"),
            ],
        ),
    },
    Alert {
        name: "KvsFsyncVerySlow",
        severity: Page,
        by: Server,
        expression: "histogram_quantile(0.99, sum by (namespace, kvsstore, pod, le) (rate(kvs_wal_fsync_duration_seconds_bucket[@5m]))) > 0.5",
        wait: "5m",
        summary: "The disk hardly makes writes durable any more.",
        description: "One sync in a hundred of {{ $labels.namespace }}/{{ $labels.pod }} takes longer than half a second.",
        with: SLOW_DISK,
        fires: Story::new(
            "20m",
            &[
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"0.8192\"}", "0+10x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"1.6384\"}", "0+100x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"+Inf\"}", "0+100x60"),
            ],
        ),
        quiet: Story::new(
            "20m",
            &[
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"0.4096\"}", "0+100x60"),
                ("kvs_wal_fsync_duration_seconds_bucket{S,le=\"+Inf\"}", "0+100x60"),
            ],
        ),
    },
    Alert {
        name: "KvsWriteStalls",
        severity: Ticket,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (rate(kvs_wal_stall_seconds_total[@5m])) > 0.2",
        wait: "10m",
        summary: "Writes come faster than the disk takes them.",
        description: "Writers of {{ $labels.namespace }}/{{ $labels.pod }} wait for room in the log more than a fifth of the time.",
        with: SLOW_DISK,
        fires: Story::new("20m", &[("kvs_wal_stall_seconds_total{S}", "0+30x60")]),
        quiet: Story::new("20m", &[("kvs_wal_stall_seconds_total{S}", "0+6x60")]),
    },
    Alert {
        name: "KvsStoreFailed",
        severity: Page,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_engine_poisoned) == 1 or max by (namespace, kvsstore, pod) \
                     (time() - (kvs_last_failure_timestamp_seconds > 0)) < #3600",
        wait: "0m",
        summary: "A server ended because its disk failed it.",
        description: "A write or a sync of {{ $labels.namespace }}/{{ $labels.pod }} failed within the last hour; nothing is acknowledged after that, and the server starts again.",
        with: RESTARTS,
        fires: Story::new("5m", &[("kvs_engine_poisoned{S}", "0x3 1x10")]),
        quiet: Story::new(
            "70m",
            &[("kvs_engine_poisoned{S}", "0x100"), ("kvs_last_failure_timestamp_seconds{S}", "0x3 60x100")],
        ),
    },
    Alert {
        name: "KvsCorruption",
        severity: Page,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (increase(kvs_request_errors_total{code=\"corruption\"}[@15m])) > 0",
        wait: "0m",
        summary: "A record that was acknowledged is damaged on disk.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} met a record whose checksum does not fit.",
        with: &["KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn", "KvsCompactionFailing"],
        fires: Story::new("10m", &[("kvs_request_errors_total{S,code=\"corruption\"}", "0x5 1x60")]),
        quiet: Story::new("30m", &[("kvs_request_errors_total{S,code=\"corruption\"}", "0x5 1x60")]),
    },
    Alert {
        name: "KvsInternalErrors",
        severity: Ticket,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (increase(kvs_request_errors_total{code=\"internal\"}[@15m])) > 0",
        wait: "0m",
        summary: "A server met a fault of its own.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} answered a request with an internal error; its log says which.",
        with: &["KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn", "KvsPoolPanics"],
        fires: Story::new("10m", &[("kvs_request_errors_total{S,code=\"internal\"}", "0x5 1x60")]),
        quiet: Story::new("10m", &[("kvs_request_errors_total{S,code=\"busy\"}", "0+1x60")]),
    },
    Alert {
        name: "KvsReadOnly",
        severity: Page,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_engine_read_only) == 1",
        wait: "1m",
        summary: "A store refuses writes for want of space.",
        description: "The volume of {{ $labels.namespace }}/{{ $labels.pod }} is full: writes are refused, reads and removals go on.",
        with: FULL_DISK,
        fires: Story::new("10m", &[("kvs_engine_read_only{S}", "0x5 1x20")]),
        quiet: Story::new("10m", &[("kvs_engine_read_only{S}", "0x8 1 0x20")]),
    },
    Alert {
        name: "KvsDiskSpaceLow",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_engine_disk_available_bytes / (kvs_engine_disk_capacity_bytes > 0)) < 0.15",
        wait: "10m",
        summary: "A volume is nearly full.",
        description: "Less than 15 % of the volume of {{ $labels.namespace }}/{{ $labels.pod }} is free.",
        with: FULL_DISK,
        fires: Story::new(
            "20m",
            &[("kvs_engine_disk_available_bytes{S}", "10x60"), ("kvs_engine_disk_capacity_bytes{S}", "100x60")],
        ),
        quiet: Story::new(
            "20m",
            &[("kvs_engine_disk_available_bytes{S}", "20x60"), ("kvs_engine_disk_capacity_bytes{S}", "100x60")],
        ),
    },
    Alert {
        name: "KvsDiskWillFill",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (predict_linear(kvs_engine_disk_available_bytes[@1h], #14400)) < 0 \
                     and max by (namespace, kvsstore, pod) (kvs_engine_disk_available_bytes / (kvs_engine_disk_capacity_bytes > 0)) < 0.5",
        wait: "30m",
        summary: "A volume will be full within four hours.",
        description: "At the rate of the last hour, the volume of {{ $labels.namespace }}/{{ $labels.pod }} is full within four hours.",
        with: FULL_DISK,
        fires: Story::new(
            "60m",
            &[
                ("kvs_engine_disk_available_bytes{S}", "4000-20x200"),
                ("kvs_engine_disk_capacity_bytes{S}", "10000x200"),
            ],
        ),
        quiet: Story::new(
            "60m",
            &[("kvs_engine_disk_available_bytes{S}", "4000-5x200"), ("kvs_engine_disk_capacity_bytes{S}", "10000x200")],
        ),
    },
    Alert {
        name: "KvsCompactionFailing",
        severity: Ticket,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (increase(kvs_compaction_runs_total{result=\"error\"}[@15m])) > 0",
        wait: "15m",
        summary: "Compaction fails again and again.",
        description: "Compactions of {{ $labels.namespace }}/{{ $labels.pod }} have failed for a quarter of an hour; the log grows.",
        with: &[
            "KvsCompactionStuck",
            "KvsSpaceAmplification",
            "KvsReadOnly",
            "KvsDiskSpaceLow",
            "KvsDiskWillFill",
            "KvsCorruption",
        ],
        fires: Story::new("30m", &[("kvs_compaction_runs_total{S,result=\"error\"}", "0+1x60")]),
        quiet: Story::new("30m", &[("kvs_compaction_runs_total{S,result=\"error\"}", "0x5 1x60")]),
    },
    Alert {
        name: "KvsCompactionStuck",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (min_over_time(kvs_compaction_backlog_bytes[@15m])) > 0 and sum by \
                     (namespace, kvsstore, pod) (increase(kvs_compaction_runs_total{result=\"ok\"}[@15m])) == 0",
        wait: "15m",
        summary: "There is much to compact, and nothing is compacted.",
        description: "More is dead in the log of {{ $labels.namespace }}/{{ $labels.pod }} than starts a compaction, and none has ended for a quarter of an hour.",
        with: &["KvsCompactionFailing", "KvsSpaceAmplification", "KvsReadOnly", "KvsDiskSpaceLow", "KvsDiskWillFill"],
        fires: Story::new(
            "40m",
            &[("kvs_compaction_backlog_bytes{S}", "5000x60"), ("kvs_compaction_runs_total{S,result=\"ok\"}", "7x60")],
        ),
        quiet: Story::new(
            "40m",
            &[
                ("kvs_compaction_backlog_bytes{S}", "5000x60"),
                ("kvs_compaction_runs_total{S,result=\"ok\"}", "0x9 1x9 2x9 3x9 4x60"),
            ],
        ),
    },
    Alert {
        name: "KvsSpaceAmplification",
        severity: Ticket,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (kvs_engine_log_bytes{kind=\"dead\"}) / sum by (namespace, kvsstore, pod) \
                     (kvs_engine_log_bytes) > 0.7 and sum by (namespace, kvsstore, pod) (kvs_engine_log_bytes{kind=\"dead\"}) > 268435456",
        wait: "30m",
        summary: "Most of a log is dead.",
        description: "More than 70 % of the log of {{ $labels.namespace }}/{{ $labels.pod }} is dead: compaction does not keep up.",
        with: &["KvsCompactionStuck", "KvsCompactionFailing"],
        fires: Story::new(
            "60m",
            &[
                ("kvs_engine_log_bytes{S,kind=\"dead\"}", "900000000x100"),
                ("kvs_engine_log_bytes{S,kind=\"live\"}", "100000000x100"),
            ],
        ),
        quiet: Story::new(
            "60m",
            &[
                // A small log may be mostly dead for a while.
                ("kvs_engine_log_bytes{S,kind=\"dead\"}", "9000000x100"),
                ("kvs_engine_log_bytes{S,kind=\"live\"}", "1000000x100"),
            ],
        ),
    },
    Alert {
        name: "KvsPoolSaturated",
        severity: Ticket,
        by: Pool,
        expression: "sum by (namespace, kvsstore, pod, pool) (rate(kvs_pool_busy_seconds_total[@5m])) / (sum by (namespace, kvsstore, \
                     pod, pool) (kvs_pool_workers) > 0) > 0.9 and histogram_quantile(0.99, sum by (namespace, kvsstore, pod, pool, le) \
                     (rate(kvs_pool_wait_duration_seconds_bucket[@5m]))) > 0.05",
        wait: "10m",
        summary: "A pool is busy all the time, and requests wait for it.",
        description: "The pool {{ $labels.pool }} of {{ $labels.namespace }}/{{ $labels.pod }} works more than 90 % of the time, and one job in a hundred waits longer than 50 ms.",
        with: OVERLOAD,
        fires: Story {
            labels: &[("pool", "sharedQueue")],
            ..Story::new(
                "20m",
                &[
                    ("kvs_pool_busy_seconds_total{S,pool=\"sharedQueue\"}", "0+118x60"),
                    ("kvs_pool_workers{S,pool=\"sharedQueue\"}", "2x60"),
                    ("kvs_pool_wait_duration_seconds_bucket{S,pool=\"sharedQueue\",le=\"0.08192\"}", "0+50x60"),
                    ("kvs_pool_wait_duration_seconds_bucket{S,pool=\"sharedQueue\",le=\"0.16384\"}", "0+100x60"),
                    ("kvs_pool_wait_duration_seconds_bucket{S,pool=\"sharedQueue\",le=\"+Inf\"}", "0+100x60"),
                ],
            )
        },
        quiet: Story::new(
            "20m",
            &[
                // Busy, and nobody waits.
                ("kvs_pool_busy_seconds_total{S,pool=\"sharedQueue\"}", "0+118x60"),
                ("kvs_pool_workers{S,pool=\"sharedQueue\"}", "2x60"),
                ("kvs_pool_wait_duration_seconds_bucket{S,pool=\"sharedQueue\",le=\"0.00512\"}", "0+100x60"),
                ("kvs_pool_wait_duration_seconds_bucket{S,pool=\"sharedQueue\",le=\"+Inf\"}", "0+100x60"),
            ],
        ),
    },
    Alert {
        name: "KvsPoolRejectingWork",
        severity: Ticket,
        by: Pool,
        expression: "sum by (namespace, kvsstore, pod, pool) (rate(kvs_pool_rejected_jobs_total[@5m])) > 0.1",
        wait: "5m",
        summary: "A pool is full and refuses work.",
        description: "The pool {{ $labels.pool }} of {{ $labels.namespace }}/{{ $labels.pod }} answers requests busy.",
        with: OVERLOAD,
        fires: Story {
            labels: &[("pool", "rayon")],
            ..Story::new("20m", &[("kvs_pool_rejected_jobs_total{S,pool=\"rayon\"}", "0+60x60")])
        },
        quiet: Story::new("20m", &[("kvs_pool_rejected_jobs_total{S,pool=\"rayon\"}", "0x5 3x60")]),
    },
    Alert {
        name: "KvsPoolPanics",
        severity: Ticket,
        by: Pool,
        expression: "sum by (namespace, kvsstore, pod, pool) (increase(kvs_pool_jobs_total{result=\"panicked\"}[@15m])) > 0",
        wait: "0m",
        summary: "A job met a fault of ours.",
        description: "A job of the pool {{ $labels.pool }} of {{ $labels.namespace }}/{{ $labels.pod }} ended by a panic; the log says where.",
        with: &["KvsInternalErrors", "KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn"],
        fires: Story {
            labels: &[("pool", "inline")],
            ..Story::new("10m", &[("kvs_pool_jobs_total{S,pool=\"inline\",result=\"panicked\"}", "0x5 1x60")])
        },
        quiet: Story::new("10m", &[("kvs_pool_jobs_total{S,pool=\"inline\",result=\"ok\"}", "0+9x60")]),
    },
    Alert {
        name: "KvsConnectionsNearLimit",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_connections{listener=\"client\"} / kvs_connection_limit) > 0.85",
        wait: "5m",
        summary: "Soon no further client can connect.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} has more than 85 % of its connections in use; further clients will wait.",
        with: &["KvsDescriptorsLow"],
        fires: Story::new(
            "15m",
            &[
                ("kvs_connections{S,listener=\"client\"}", "90x60"),
                ("kvs_connection_limit{S,listener=\"client\"}", "100x60"),
            ],
        ),
        quiet: Story::new(
            "15m",
            &[
                ("kvs_connections{S,listener=\"client\"}", "80x60"),
                ("kvs_connection_limit{S,listener=\"client\"}", "100x60"),
            ],
        ),
    },
    Alert {
        name: "KvsAcceptErrors",
        severity: Page,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (rate(kvs_accept_errors_total[@5m])) > 0.1",
        wait: "5m",
        summary: "Clients can't connect.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} can't accept connections, for want of file descriptors as a rule.",
        with: &["KvsDescriptorsLow"],
        fires: Story::new("15m", &[("kvs_accept_errors_total{S,listener=\"client\"}", "0+60x60")]),
        quiet: Story::new("15m", &[("kvs_accept_errors_total{S,listener=\"client\"}", "0x8 2x60")]),
    },
    Alert {
        name: "KvsDescriptorsLow",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (process_open_fds{job=\"kvs-server\"} / process_max_fds) > 0.9",
        wait: "5m",
        summary: "A server has hardly any file descriptors left.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} uses more than 90 % of the descriptors that it may have.",
        with: &["KvsAcceptErrors", "KvsConnectionsNearLimit"],
        fires: Story::new("15m", &[("process_open_fds{S}", "950x60"), ("process_max_fds{S}", "1000x60")]),
        quiet: Story::new("15m", &[("process_open_fds{S}", "850x60"), ("process_max_fds{S}", "1000x60")]),
    },
    Alert {
        name: "KvsLargeRequestsFillMemory",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_in_flight_bytes / (kvs_in_flight_limit_bytes > 0)) > 0.9",
        wait: "5m",
        summary: "Large requests take all the memory that they may.",
        description: "The bytes in flight of {{ $labels.namespace }}/{{ $labels.pod }} are near their limit; beyond it requests are answered busy.",
        with: &["KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn"],
        fires: Story::new("15m", &[("kvs_in_flight_bytes{S}", "95x60"), ("kvs_in_flight_limit_bytes{S}", "100x60")]),
        quiet: Story::new("15m", &[("kvs_in_flight_bytes{S}", "85x60"), ("kvs_in_flight_limit_bytes{S}", "100x60")]),
    },
    Alert {
        name: "KvsAuthFailures",
        severity: Ticket,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (rate(kvs_auth_failures_total[@5m])) > 0.2",
        wait: "10m",
        summary: "Somebody tries tokens that the server does not know.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} has refused more than one token in five seconds for ten minutes.",
        with: &[],
        fires: Story::new("20m", &[("kvs_auth_failures_total{S}", "0+60x60")]),
        quiet: Story::new("20m", &[("kvs_auth_failures_total{S}", "0+6x60")]),
    },
    Alert {
        name: "KvsCertificateExpiresSoon",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) ((kvs_tls_certificate_expiry_timestamp_seconds > 0) - time()) < 14 * 86400",
        wait: "15m",
        summary: "A server's certificate ends within two weeks.",
        description: "The certificate of {{ $labels.namespace }}/{{ $labels.pod }} ends within two weeks and was not replaced.",
        with: &["KvsCertificateExpires"],
        fires: Story::new("30m", &[("kvs_tls_certificate_expiry_timestamp_seconds{S}", "864000x60")]),
        quiet: Story::new("30m", &[("kvs_tls_certificate_expiry_timestamp_seconds{S}", "1728000x60")]),
    },
    Alert {
        name: "KvsCertificateExpires",
        severity: Page,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) ((kvs_tls_certificate_expiry_timestamp_seconds > 0) - time()) < 2 * 86400",
        wait: "5m",
        summary: "A server's certificate ends within two days, or has ended.",
        description: "The certificate of {{ $labels.namespace }}/{{ $labels.pod }} ends within two days, and clients will refuse it.",
        with: &["KvsCertificateExpiresSoon"],
        fires: Story::new("30m", &[("kvs_tls_certificate_expiry_timestamp_seconds{S}", "86400x60")]),
        // Without TLS there is no certificate.
        quiet: Story::new("30m", &[("kvs_tls_certificate_expiry_timestamp_seconds{S}", "0x60")]),
    },
    Alert {
        name: "KvsConfigReloadFailed",
        severity: Ticket,
        by: Server,
        expression: "max by (namespace, kvsstore, pod) (kvs_config_last_reload_successful) == 0",
        wait: "5m",
        summary: "A server runs with an old configuration.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} could not take over its configuration, certificates or tokens; its log has the place.",
        with: &["KvsCertificateExpiresSoon", "KvsCertificateExpires"],
        fires: Story::new("15m", &[("kvs_config_last_reload_successful{S}", "1x3 0x60")]),
        quiet: Story::new("15m", &[("kvs_config_last_reload_successful{S}", "1x10 0x3 1x60")]),
    },
    Alert {
        name: "KvsRestarting",
        severity: Page,
        by: Server,
        expression: "sum by (namespace, kvsstore, pod) (changes(process_start_time_seconds{job=\"kvs-server\"}[@15m])) >= 3",
        wait: "0m",
        summary: "A server starts again and again.",
        description: "{{ $labels.namespace }}/{{ $labels.pod }} has started three times within a quarter of an hour.",
        with: &["KvsDown", "KvsStoreFailed", "KvsNotReady", "KvsErrorBudgetBurn", "KvsErrorBudgetSlowBurn"],
        fires: Story::new("15m", &[("process_start_time_seconds{S}", "1x3 2x3 3x3 4x30")]),
        quiet: Story::new("15m", &[("process_start_time_seconds{S}", "1x5 2x30")]),
    },
    Alert {
        name: "KvsVersionSkew",
        severity: Ticket,
        by: All,
        expression: "count(count by (version) (kvs_build_info)) > 1",
        wait: "1h",
        summary: "Servers of different versions run beside each other.",
        description: "An upgrade that began an hour ago or earlier is not complete.",
        with: &[],
        fires: Story::new(
            "80m",
            &[
                ("kvs_build_info{S,version=\"0.1.0\"}", "1x200"),
                ("kvs_build_info{job=\"kvs-server\",namespace=\"shop\",pod=\"b-0\",version=\"0.2.0\"}", "1x200"),
            ],
        ),
        quiet: Story::new(
            "80m",
            &[("kvs_build_info{S,version=\"0.1.0\"}", "1x50"), ("kvs_build_info{S,version=\"0.2.0\"}", "_x40 1x200")],
        ),
    },
    Alert {
        name: "KvsOperatorDown",
        severity: Page,
        by: All,
        expression: "absent(up{job=\"kvs-operator\"} == 1)",
        wait: "5m",
        summary: "No operator runs.",
        description: "No target of the job kvs-operator answers: stores go on serving, and nothing follows what changes.",
        with: &["KvsOperatorNoLeader"],
        fires: Story::new("10m", &[("up{O}", "0x60"), ("kvs_operator_leader{O}", "")]),
        quiet: Story::new("10m", &[("up{O}", "0x3 1x60")]),
    },
    Alert {
        name: "KvsOperatorNoLeader",
        severity: Page,
        by: Installation,
        expression: "sum by (namespace) (kvs_operator_leader) == 0",
        wait: "5m",
        summary: "Operators run, and none of them leads.",
        description: "No operator of {{ $labels.namespace }} has the lease: stores go on serving, and nothing follows what changes.",
        with: &["KvsOperatorDown"],
        // The leader of another installation is no help.
        fires: Story::new(
            "10m",
            &[
                ("kvs_operator_leader{O}", "0x60"),
                ("kvs_operator_leader{job=\"kvs-operator\",namespace=\"elsewhere\",pod=\"b-1\"}", "1x60"),
            ],
        ),
        quiet: Story::new(
            "10m",
            &[
                ("kvs_operator_leader{O}", "0x60"),
                ("kvs_operator_leader{job=\"kvs-operator\",namespace=\"kvs-system\",pod=\"b-1\"}", "1x60"),
            ],
        ),
    },
    Alert {
        name: "KvsOperatorTwoLeaders",
        severity: Page,
        by: Installation,
        expression: "sum by (namespace) (kvs_operator_leader) > 1",
        // Scrapes of a former leader and of its successor are not of one moment.
        wait: "2m",
        summary: "Two operators believe that they lead.",
        description: "More than one operator of {{ $labels.namespace }} says that it has the lease; they may undo each other's writes.",
        with: &[],
        fires: Story::new(
            "10m",
            &[
                ("kvs_operator_leader{O}", "1x60"),
                ("kvs_operator_leader{job=\"kvs-operator\",namespace=\"kvs-system\",pod=\"b-1\"}", "1x60"),
            ],
        ),
        // Each installation has a leader of its own.
        quiet: Story::new(
            "10m",
            &[
                ("kvs_operator_leader{O}", "1x60"),
                ("kvs_operator_leader{job=\"kvs-operator\",namespace=\"elsewhere\",pod=\"b-1\"}", "1x60"),
            ],
        ),
    },
    Alert {
        name: "KvsStoreNotReady",
        severity: Page,
        by: Operator,
        // A store without a running pod has no target: only the operator can tell.
        expression: "max by (namespace, pod) (kvs_operator_stores{state=\"not_ready\"}) > 0",
        wait: "10m",
        summary: "A store does not serve, or not as it was asked for.",
        description: "The operator {{ $labels.namespace }}/{{ $labels.pod }} has known a store that is not ready for ten minutes; kubectl get kvsstores -A says which.",
        with: &["KvsOperatorStoresFailing", "KvsOperatorReconcileErrors"],
        fires: Story::new("30m", &[("kvs_operator_stores{O,state=\"not_ready\"}", "1x60")]),
        quiet: Story::new(
            "30m",
            &[
                ("kvs_operator_stores{O,state=\"not_ready\"}", "1x8 0x60"),
                ("kvs_operator_stores{O,state=\"hibernated\"}", "1x60"),
                ("kvs_operator_stores{O,state=\"paused\"}", "1x60"),
            ],
        ),
    },
    Alert {
        name: "KvsOperatorReconcileErrors",
        severity: Ticket,
        by: Operator,
        // Somebody else wrote first: the next try looks again, and that is how it is meant.
        expression: "sum by (namespace, pod) (rate(kvs_operator_reconcile_errors_total{reason!=\"conflict\"}[@10m])) > 0.01",
        wait: "15m",
        summary: "The operator fails again and again.",
        description: "Reconciles of the operator {{ $labels.namespace }}/{{ $labels.pod }} fail; its log and the stores' conditions say why.",
        with: &["KvsOperatorStoresFailing", "KvsStoreNotReady"],
        fires: Story::new("30m", &[("kvs_operator_reconcile_errors_total{O,reason=\"forbidden\"}", "0+2x60")]),
        quiet: Story::new("30m", &[("kvs_operator_reconcile_errors_total{O,reason=\"conflict\"}", "0+2x60")]),
    },
    Alert {
        name: "KvsOperatorStoresFailing",
        severity: Ticket,
        by: Operator,
        expression: "max by (namespace, pod) (kvs_operator_objects_in_backoff) > 0",
        wait: "15m",
        summary: "The operator can't bring a store to what was asked for.",
        description: "Stores of the operator {{ $labels.namespace }}/{{ $labels.pod }} wait for another try; kubectl get kvsstores -A says which.",
        with: &["KvsOperatorReconcileErrors", "KvsStoreNotReady"],
        fires: Story::new("30m", &[("kvs_operator_objects_in_backoff{O}", "1x60")]),
        quiet: Story::new("30m", &[("kvs_operator_objects_in_backoff{O}", "1x5 0x3 1x5 0x60")]),
    },
];
