//! What a full compaction does to those who use the store meanwhile, and how much memory it takes.
//!
//! One thread sets one value after another. Another one gets at a fixed pace, because a thread that never pauses would
//! measure how the kernel shares two cores among three threads, not what the store does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::{Data, Kind, Random};
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::machine::{self, Highest, Probe};
use crate::measure::{Metrics, nanoseconds, quantile, settle};
use crate::peer::{BATCH, Name, Peer};
use crate::row::{Better, Goal, Row};

/// The share of keys that is overwritten first: less than makes our own compaction start by itself.
const DEAD_SHARE: u64 = 6;
const IDLE_SECONDS: f64 = 6.0;
/// Time between two gets.
const PACE: Duration = Duration::from_micros(100);
/// The most samples of one phase; their memory is touched before, so that it counts as no growth.
const SAMPLES: usize = 1 << 20;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
const PROBES: usize = 200;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    seconds: f64,
}

/// Times of one phase, in nanoseconds.
struct Phase {
    sets: Vec<u64>,
    gets: Vec<u64>,
}

impl Phase {
    fn new() -> Self {
        // Not zero: such memory would be touched when it is used.
        Self { sets: vec![1; SAMPLES], gets: vec![1; SAMPLES] }
    }

    /// Sets and gets until `wait` returns.
    fn run(&mut self, store: &dyn Peer, data: &Data, keys: u64, wait: impl FnOnce() -> Result<()>) -> Result<()> {
        let is_over = AtomicBool::new(false);
        let (sets, gets) = std::thread::scope(|scope| -> Result<(usize, usize)> {
            let setter = scope.spawn(|| set_until(store, data, keys, &is_over, &mut self.sets));
            let getter = scope.spawn(|| get_until(store, data, keys, &is_over, &mut self.gets));
            let waited = wait();
            is_over.store(true, Ordering::Relaxed);
            let panicked = |_| "a thread beside the compaction panicked";
            let counts = (setter.join().map_err(panicked)??, getter.join().map_err(panicked)??);
            waited.map(|()| counts)
        })?;
        self.sets.truncate(sets);
        self.gets.truncate(gets);
        Ok(())
    }
}

fn set_until(store: &dyn Peer, data: &Data, keys: u64, is_over: &AtomicBool, times: &mut [u64]) -> Result<usize> {
    let mut random = Random::new(11);
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) && count < times.len() {
        let index = random.below(keys);
        let (key, value) = (data.key(index), data.value(index, 2));
        let start = Instant::now();
        store.set_durable(&key, value)?;
        times[count] = nanoseconds(&start.elapsed());
        count += 1;
    }
    Ok(count)
}

fn get_until(store: &dyn Peer, data: &Data, keys: u64, is_over: &AtomicBool, times: &mut [u64]) -> Result<usize> {
    let mut random = Random::new(12);
    let mut reader = store.reader()?;
    let mut count = 0;
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) && count < times.len() {
        due += PACE;
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        } else {
            // Who is late goes on from here: the next get is not to blame.
            due = now;
        }
        let key = data.key(random.below(keys));
        let start = Instant::now();
        if !reader.get(&key, &mut |_| ())? {
            return Err("a key is gone during a compaction".into());
        }
        times[count] = nanoseconds(&start.elapsed());
        count += 1;
    }
    Ok(count)
}

impl Work {
    /// Overwrites some, then measures without and with a compaction.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        let order = Random::new(9).permutation(job.keys);
        for batch in order[..order.len() / usize::try_from(DEAD_SHARE)?].chunks(BATCH) {
            store.batch_durable(&data, batch, 1)?;
        }
        drop(order);
        settle()?;
        let mut probe = Probe::new(job.probe_folder())?;
        probe.run(PROBES)?;
        let (mut idle, mut busy) = (Phase::new(), Phase::new());
        idle.run(store.as_ref(), &data, job.keys, || {
            std::thread::sleep(Duration::from_secs_f64(self.seconds));
            Ok(())
        })?;
        let before = machine::anonymous_bytes()?;
        let highest = Highest::watch(LOOK, || machine::anonymous_bytes().unwrap_or(0));
        let (mut seconds, mut has_compacted) = (0.0, false);
        busy.run(store.as_ref(), &data, job.keys, || {
            let start = Instant::now();
            has_compacted = store.compact()?;
            seconds = start.elapsed().as_secs_f64();
            Ok(())
        })?;
        let growth = highest.end()?.saturating_sub(before);
        store.close()?;
        if !has_compacted {
            return Err("this store has no compaction beside other work".into());
        }
        let p999 = |times: Vec<u64>| quantile(times, 0.999) / 1e3;
        let counts = (busy.sets.len() as f64, busy.gets.len() as f64);
        let (set_idle, set_busy) = (p999(idle.sets), p999(busy.sets));
        let (get_idle, get_busy) = (p999(idle.gets), p999(busy.gets));
        Ok(Metrics::from(
            [
                ("set_ratio", set_busy / set_idle),
                ("get_ratio", get_busy / get_idle),
                ("set_busy_us", set_busy),
                ("get_busy_us", get_busy),
                ("sets", counts.0),
                ("gets", counts.1),
                ("compaction_seconds", seconds),
                ("growth_mib", growth as f64 / f64::from(1 << 20)),
                ("probe_us", probe.median_us()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        ))
    }
}

/// The figure.
pub struct Compaction;

impl Figure for Compaction {
    fn name(&self) -> &'static str {
        "compaction"
    }

    fn takes(&self, peer: Name) -> bool {
        matches!(peer.as_str(), "ours" | "fjall" | "rocksdb")
    }

    fn rounds(&self, peer: Name) -> usize {
        if peer == Name::Ours { 3 } else { 1 }
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let (folder, keys) = (bench.loaded(peer, Kind::Text)?, bench.loaded_keys());
        let work = Work { seconds: bench.scale.seconds(IDLE_SECONDS) };
        Job::new(peer, &folder, Kind::Text, keys, Action::Compact(work)).run()
    }

    fn end(&self, bench: &mut Bench) -> Result<()> {
        Name::ALL.iter().filter(|peer| self.takes(**peer)).try_for_each(|peer| bench.forget_loaded(*peer, Kind::Text))
    }

    fn rows(&self) -> Vec<Row> {
        let at_most = |bound| vec![Goal::AtMost(bound)];
        let lower = |name, unit, metric| Row::new(name, unit, metric, Better::Lower);
        vec![
            lower("compaction-set-p999", "busy / idle", "set_ratio").goals(at_most(2.0), at_most(1.5)),
            lower("compaction-get-p999", "busy / idle", "get_ratio").goals(at_most(2.0), at_most(1.5)),
            lower("compaction-set-p999-busy", "us", "set_busy_us"),
            lower("compaction-get-p999-busy", "us", "get_busy_us"),
            lower("compaction-memory-growth", "MiB", "growth_mib").goals(at_most(64.0), at_most(16.0)),
            lower("compaction-time", "s", "compaction_seconds"),
        ]
    }
}
