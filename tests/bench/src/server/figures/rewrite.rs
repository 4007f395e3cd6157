//! What clients see, and how memory grows, when a server begins to rewrite its log under load: our compaction beside
//! BGREWRITEAOF.
//!
//! The load comes at a fixed pace, and every server has all cores: a background process on the core of the one that
//! serves would be another figure. Ours gets no command: its threshold is set so that compaction begins under the load,
//! and the metrics say when it did.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};
use kvs_load::{ControlGroup, Group, Load, Outcome, Pace};

use crate::ask;
use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, mebibytes, metrics, names, with_cost};
use crate::running::{Options, Running};

const KEYS: u64 = 1_000_000;
const CLIENTS: usize = 50;
const DEPTH: usize = 1_024;
const PER_SECOND: f64 = 2_000.0;
const SECONDS: f64 = 8.0;
/// When the rewrite is to begin.
const BEGINS_AFTER: Duration = Duration::from_secs(2);
/// How often memory and progress are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The least growth that counts, in MiB: a ratio to nothing would say nothing.
const LEAST_GROWTH_MIB: f64 = 1.0;
/// A threshold that is never met.
const NEVER: u64 = 1 << 40;
const DEAD_BYTES: &str = "kvs_engine_log_bytes{kind=\"dead\"}";
const RUNS: &str = "kvs_compaction_runs_total{result=\"ok\"}";
const IN_PROGRESS: &str = "kvs_compaction_in_progress";

/// The figure.
pub struct Rewrite;

/// What the helper saw beside the load.
struct Seen {
    began: Duration,
    growth_bytes: u64,
}

impl Rewrite {
    fn options(threshold_bytes: Option<u64>) -> Options {
        let flags = threshold_bytes.map(|bytes| vec!["--compaction-threshold-bytes".to_owned(), bytes.to_string()]);
        Options { flags: flags.unwrap_or_default(), on_every_core: true, in_a_group: true, ..Options::default() }
    }

    /// A server in whose log each key stands twice.
    fn prepare(bench: &Bench, contestant: Contestant, keys: u64) -> Result<Running> {
        let server =
            bench.fresh(contestant, "rewrite", Self::options((contestant == Contestant::Ours).then_some(NEVER)))?;
        server.load(0, keys)?;
        server.load(0, keys)?;
        server.settle()?;
        if contestant != Contestant::Ours {
            return Ok(server);
        }
        let dead_bytes = ask::metric(server.admin, DEAD_BYTES)?;
        let each = dead_bytes / keys as f64;
        let threshold = dead_bytes + each * PER_SECOND * BEGINS_AFTER.as_secs_f64();
        let folder = server.folder.clone();
        server.stop()?;
        let server = Running::start(&bench.programs, contestant, &folder, Self::options(Some(threshold as u64)))?;
        server.settle()?;
        Ok(server)
    }

    /// Sees to it that the rewrite begins, notes when, and watches memory until the load is over.
    fn watch(server: (Contestant, SocketAddr, SocketAddr), group: &ControlGroup, is_over: &AtomicBool) -> Result<Seen> {
        let (contestant, addr, admin) = server;
        let start = Instant::now();
        let before = group.anonymous_bytes()?;
        let (mut began, mut highest) = (None, before);
        let runs_before = if contestant == Contestant::Ours { ask::metric(admin, RUNS)? } else { 0.0 };
        while !is_over.load(Ordering::Relaxed) {
            highest = highest.max(group.anonymous_bytes()?);
            if began.is_none() && contestant == Contestant::Ours {
                let has_begun = ask::metric(admin, IN_PROGRESS)? > 0.0 || ask::metric(admin, RUNS)? > runs_before;
                // It began between the last look and this one.
                began = has_begun.then(|| start.elapsed().saturating_sub(LOOK * 2));
            } else if began.is_none() && start.elapsed() >= BEGINS_AFTER {
                began = Some(start.elapsed());
                ask::ask(addr, kvs_load::Wire::Resp, b"*1\r\n$12\r\nBGREWRITEAOF\r\n")?;
            }
            std::thread::sleep(LOOK);
        }
        let began = began.ok_or("no rewrite began under the load")?;
        Ok(Seen { began, growth_bytes: highest.saturating_sub(before) })
    }
}

impl Figure for Rewrite {
    fn name(&self) -> String {
        "rewrite".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        names(&Contestant::DURABLE)
    }

    fn rounds(&self) -> usize {
        3
    }

    fn round(&self, bench: &mut Bench, contestant: &str, _round: usize) -> Result<Metrics> {
        let (contestant, keys) = (Contestant::of(contestant)?, bench.scale.count(KEYS));
        let server = Self::prepare(bench, contestant, keys)?;
        let paced = |group: Group| group.at(Pace::PerSecond(PER_SECOND));
        let groups = vec![paced(Group::gets(CLIENTS, DEPTH, keys)), paced(Group::sets(CLIENTS, DEPTH, keys))];
        let load = Load::new(server.addr, server.wire(), Duration::from_secs_f64(SECONDS), groups);
        let is_over = AtomicBool::new(false);
        let mut all = Metrics::new();
        let (outcomes, seen) = with_cost(&server, "", &mut all, || {
            std::thread::scope(|scope| {
                let (group, is_over) = (server.group.as_ref().ok_or("the server has a group")?, &is_over);
                let addresses = (contestant, server.addr, server.admin);
                let watcher = scope.spawn(move || Self::watch(addresses, group, is_over));
                let outcomes = drive(&load);
                is_over.store(true, Ordering::Relaxed);
                let seen = watcher.join().map_err(|_| "the watcher panicked")??;
                let outcomes = outcomes?;
                let done = outcomes.iter().map(|outcome| outcome.done).sum();
                Ok(((outcomes, seen), done))
            })
        })?;
        let worst = |of: &dyn Fn(&Outcome) -> f64| outcomes.iter().map(of).fold(0.0, f64::max) / 1e3;
        all.extend(metrics([
            ("stall_ms", worst(&|outcome| outcome.worst_us_from(seen.began))),
            ("get_stall_ms", outcomes[0].worst_us_from(seen.began) / 1e3),
            ("set_stall_ms", outcomes[1].worst_us_from(seen.began) / 1e3),
            ("p999_ms", worst(&|outcome| outcome.latency_us(0.999))),
            ("growth_mib", mebibytes(seen.growth_bytes).max(LEAST_GROWTH_MIB)),
            ("began_seconds", seen.began.as_secs_f64()),
        ]));
        let folder = server.folder.clone();
        drop(server);
        std::fs::remove_dir_all(folder)?;
        Ok(all)
    }

    fn rows(&self) -> Vec<Row> {
        let redis = |factor| vec![Goal::Times("redis", factor)];
        let row = |name, unit, metric| Row::new(name, unit, metric, Better::Lower);
        vec![
            row("rewrite-stall", "ms", "stall_ms").goals(redis(10.0), Vec::new()),
            row("rewrite-stall-of-gets", "ms", "get_stall_ms"),
            row("rewrite-stall-of-sets", "ms", "set_stall_ms"),
            row("rewrite-memory-growth", "MiB", "growth_mib").goals(redis(20.0), Vec::new()),
        ]
    }
}
