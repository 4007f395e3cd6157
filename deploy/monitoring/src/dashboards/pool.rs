//! Pool: how loaded the workers are, and how long requests wait for them.

use super::Scale::{Count, Rate, Seconds, Share};
use super::{Dashboard, Panel, heat_map, lines};

/// The load of the thread pools.
pub(super) const POOL: Dashboard = Dashboard {
    name: "pool",
    title: "Aryavarth KVS / Pool load",
    description: "How loaded are the pools, how long do requests wait for a worker, and is work refused?",
    job: "kvs-server",
    labels: &["namespace", "kvsstore", "pod"],
    lists: "kvs_build_info",
    panels: PANELS,
};

const PANELS: &[Panel] = &[
    lines(
        "Utilisation",
        Share,
        &[(
            "sum by (pod, pool) (rate(kvs_pool_busy_seconds_total{S}[R])) / (sum by (pod, pool) (kvs_pool_workers{S}) > 0)",
            "{{pod}} {{pool}}",
        )],
        "How much of each pool is used, where a pool has threads of its own?",
    ),
    lines(
        "Jobs at work",
        Count,
        &[
            ("sum by (pod, pool) (rate(kvs_pool_busy_seconds_total{S}[R]))", "on average: {{pod}} {{pool}}"),
            ("sum by (pod, pool) (kvs_pool_busy_workers{S})", "at this moment: {{pod}} {{pool}}"),
            ("sum by (pod, pool) (kvs_pool_workers{S})", "workers: {{pod}} {{pool}}"),
        ],
        "How many jobs run at once, and how many could?",
    ),
    heat_map(
        "Waits for a worker",
        &[("sum by (le) (increase(kvs_pool_wait_duration_seconds_bucket{S}[R]))", "{{le}}")],
        "How long do requests wait for a worker, and how wide does it spread?",
    ),
    lines(
        "Wait and run, p99",
        Seconds,
        &[
            (
                "histogram_quantile(0.99, sum by (pool, le) (rate(kvs_pool_wait_duration_seconds_bucket{S}[R])))",
                "wait: {{pool}}",
            ),
            (
                "histogram_quantile(0.99, sum by (pool, le) (rate(kvs_pool_job_duration_seconds_bucket{S}[R])))",
                "run: {{pool}}",
            ),
        ],
        "Do requests wait because there are too many of them, or because each takes long?",
    ),
    lines(
        "Queue",
        Count,
        &[
            ("sum by (pod, pool) (kvs_pool_queued_jobs{S})", "waiting: {{pod}} {{pool}}"),
            ("sum by (pod, pool) (kvs_pool_queue_capacity_jobs{S})", "may wait: {{pod}} {{pool}}"),
        ],
        "How near is the pool to refusing work?",
    ),
    lines(
        "Jobs",
        Rate,
        &[
            ("sum by (pool, result) (rate(kvs_pool_jobs_total{S}[R]))", "{{pool}} {{result}}"),
            ("sum by (pool) (rate(kvs_pool_rejected_jobs_total{S}[R]))", "{{pool}} refused"),
        ],
        "How many batches of requests are run, and is any refused or met by a fault?",
    ),
    lines(
        "Requests of a job",
        Count,
        &[(
            "sum by (pod) (rate(kvs_requests_total{S}[R])) / sum by (pod) (rate(kvs_pool_jobs_total{S}[R]))",
            "{{pod}}",
        )],
        "How much do clients pipeline?",
    ),
    lines(
        "Threads and descriptors",
        Count,
        &[
            ("sum by (pod) (process_threads{S})", "threads: {{pod}}"),
            ("sum by (pod) (process_open_fds{S})", "descriptors: {{pod}}"),
        ],
        "How many threads and open files does each server have?",
    ),
];
