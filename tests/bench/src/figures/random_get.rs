//! Random reads of a loaded store that lies in memory: the page cache, or the store's own cache, which is large enough.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::{Data, Kind, Random};
use crate::figure::{Bench, Figure};
use crate::job::{Action, Job};
use crate::measure::{Meter, Metrics, settle};
use crate::peer::{Name, Peer};
use crate::row::{Better, Goal, Row};

const SECONDS: f64 = 2.0;
/// Reads between two looks at the clock.
const CHUNK: u64 = 1_000;
/// Every how many-th value of the first pass is compared byte for byte.
const COMPARED: u64 = 16;

/// What the child does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    seconds: f64,
}

impl Work {
    /// Reads everything once, then at random with one thread and with two.
    pub fn run(&self, job: &Job) -> Result<Metrics> {
        let data = job.data();
        let store = job.peer.open(&job.folder)?;
        let half = job.keys / 2;
        both([0..half, half..job.keys].map(|indexes| {
            let (store, data) = (store.as_ref(), &data);
            move || read_all(store, data, indexes)
        }))?;
        settle()?;
        let until = |_, elapsed: Duration| elapsed.as_secs_f64() < self.seconds;
        let mut metrics = Metrics::new();
        let meter = Meter::start(&job.folder)?;
        let (gets, seconds) = read_random(store.as_ref(), &data, job.keys, 1, until)?;
        meter.finish(gets, &mut metrics)?;
        let one = gets as f64 / seconds;
        let [first, second] = both([2, 3].map(|seed| {
            let (store, data) = (store.as_ref(), &data);
            move || read_random(store, data, job.keys, seed, until)
        }))?;
        let two = first.0 as f64 / first.1 + second.0 as f64 / second.1;
        store.close()?;
        metrics.insert("ns_per_get".to_owned(), 1e9 / one);
        metrics.insert("two_threads".to_owned(), two / one);
        metrics.insert("ns_per_get_of_two_threads".to_owned(), 1e9 / two);
        Ok(metrics)
    }
}

/// Runs two closures on a thread each.
fn both<T: Send>(closures: [impl FnOnce() -> Result<T> + Send; 2]) -> Result<[T; 2]> {
    let [first, second] = closures;
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        Ok([first.join().map_err(|_| "a thread that reads panicked")??, second?])
    })
}

/// Reads a range of keys in order of their indexes, which is random order for the store, and compares many.
fn read_all(store: &dyn Peer, data: &Data, indexes: std::ops::Range<u64>) -> Result<()> {
    let mut reader = store.reader()?;
    let mut key = Vec::new();
    for index in indexes {
        data.key_into(index, &mut key);
        let mut is_right = true;
        let is_there = reader.get(&key, &mut |value| {
            is_right = index % COMPARED != 0 || value == data.value(index, 0);
        })?;
        if !is_there || !is_right {
            return Err(format!("key {index} has {}", if is_there { "another value" } else { "no value" }).into());
        }
    }
    Ok(())
}

/// Reads random keys, every byte of each value, as long as `go_on` likes the count and the time so far; how many, in how
/// many seconds.
pub fn read_random(
    store: &dyn Peer,
    data: &Data,
    keys: u64,
    seed: u64,
    go_on: impl Fn(u64, Duration) -> bool,
) -> Result<(u64, f64)> {
    let mut reader = store.reader()?;
    let mut random = Random::new(seed);
    let (mut key, mut sum, mut gets) = (Vec::new(), 0, 0);
    let start = Instant::now();
    while go_on(gets, start.elapsed()) {
        for _ in 0..CHUNK {
            data.key_into(random.below(keys), &mut key);
            if !reader.get(&key, &mut |value| sum = add_all(sum, value))? {
                return Err("a key that was loaded is not there".into());
            }
        }
        gets += CHUNK;
    }
    black_box(sum);
    Ok((gets, start.elapsed().as_secs_f64()))
}

/// Touches every byte of a value, at little cost.
fn add_all(sum: u64, value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let sum = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// The figure.
pub struct RandomGet {
    /// The data's kind.
    pub kind: Kind,
}

impl Figure for RandomGet {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "random-get",
            Kind::Binary => "random-get-binary",
        }
    }

    fn takes(&self, peer: Name) -> bool {
        self.kind == Kind::Text || peer.is_binary()
    }

    fn rounds(&self, _peer: Name) -> usize {
        match self.kind {
            Kind::Text => 5,
            Kind::Binary => 1,
        }
    }

    fn round(&self, bench: &mut Bench, peer: Name, _round: usize) -> Result<Metrics> {
        let keys = bench.loaded_keys();
        let work = Action::Get(Work { seconds: bench.scale.seconds(SECONDS) });
        Job::new(peer, &bench.loaded(peer, self.kind)?, self.kind, keys, work).run()
    }

    fn end(&self, bench: &mut Bench) -> Result<()> {
        if self.kind == Kind::Text {
            return Ok(());
        }
        // Nobody else reads binary data.
        Name::ALL.iter().try_for_each(|peer| bench.forget_loaded(*peer, self.kind))
    }

    fn rows(&self) -> Vec<Row> {
        let name = self.name();
        let one = Row::new(name, "ns", "ns_per_get", Better::Lower);
        let two = Row::new(&format!("{name}-2-threads"), "x of 1 thread", "two_threads", Better::Higher);
        let both = Row::new(&format!("{name}-2-threads-time"), "ns", "ns_per_get_of_two_threads", Better::Lower);
        if self.kind == Kind::Binary {
            return vec![one, two, both];
        }
        let times = |peer, factor| Goal::Times(peer, factor);
        let reach = vec![times("heed", 1.0), times("redb", 2.0), times("fjall", 3.0), times("rocksdb", 3.0)];
        vec![
            one.goals(reach, vec![times("heed", 1.5)]),
            two.goals(vec![Goal::AtLeast(1.9)], vec![Goal::AtLeast(2.0)]),
            both,
        ]
    }
}
