//! `Plan`: what a benchmark sends. Pure: the same flags give the same requests, run after run.

use std::time::Duration;

use kvs_protocol::limits::MAX_BATCH_CHANGES;
use kvs_protocol::{Change, Request, Verb};

use crate::arguments::BenchFlags;
use crate::error::Error;

/// What the keys begin with; nobody else's do.
const PREFIX: &str = "kvs-client/bench/";
/// The most bytes of one batch that fills the store, unless a single value is larger. A batch is one line, and a server
/// takes lines of little more than six times its largest value.
const BATCH_BYTES: usize = 1024 * 1024;
/// What a change of a batch takes beside its value, in bytes: the key and the words around both.
const CHANGE_BYTES: usize = 100;
/// Open loop: the most requests of one connection under way. What is due beyond that waits, and its latency counts.
const OPEN_WINDOW: usize = 1_024;

/// What is sent, how fast, and for how long.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) duration: Duration,
    pub(super) warmup: Duration,
    /// Requests a second of an open loop; `None` for a closed one.
    pub(super) rate: Option<u64>,
    pub(super) connections: u32,
    pub(super) pipeline: u32,
    pub(super) reads_percent: u8,
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
}

impl Plan {
    pub(super) fn new(flags: &BenchFlags) -> Result<Self, Error> {
        let BenchFlags { duration, warmup, rate, connections, pipeline, reads, keys, value_bytes, keep: _, json: _ } =
            *flags;
        if rate.is_some() && pipeline > 1 {
            return Err(Error::Usage(
                "--pipeline goes with a closed loop; with --rate, the rate says what is under way".into(),
            ));
        }
        Ok(Self {
            duration: Duration::from_secs(duration),
            warmup: Duration::from_secs(warmup),
            rate,
            connections,
            pipeline,
            reads_percent: reads,
            keys,
            value_bytes: usize::try_from(value_bytes).expect("32 bits fit a length"),
        })
    }

    /// The most requests of one connection under way.
    pub(super) fn window(&self) -> usize {
        match self.rate {
            Some(_) => OPEN_WINDOW,
            None => usize::try_from(self.pipeline).expect("32 bits fit a length"),
        }
    }

    /// The requests of a connection, without end.
    pub(super) fn requests(&self, connection: u64) -> Requests {
        Requests {
            random: Random(connection + 1),
            reads_percent: u64::from(self.reads_percent),
            keys: self.keys,
            value: self.value(),
        }
    }

    /// Batches that set every key.
    pub(super) fn filling(&self) -> impl Iterator<Item = Verb> {
        let value = self.value();
        let most = (BATCH_BYTES / (self.value_bytes + CHANGE_BYTES)).clamp(1, MAX_BATCH_CHANGES);
        self.batches(most, move |key| Change::Set { key, value: value.clone() })
    }

    /// Batches that remove every key.
    pub(super) fn emptying(&self) -> impl Iterator<Item = Verb> {
        self.batches(MAX_BATCH_CHANGES, |key| Change::Remove { key })
    }

    fn batches(&self, most: usize, change: impl Fn(Vec<u8>) -> Change) -> impl Iterator<Item = Verb> {
        let keys = self.keys;
        let starts = (0..keys).step_by(most);
        let most = u64::try_from(most).expect("a length fits 64 bits");
        starts
            .map(move |start| Verb::Batch((start..keys.min(start + most)).map(|number| change(key(number))).collect()))
    }

    fn value(&self) -> Vec<u8> {
        (b'a'..=b'z').cycle().take(self.value_bytes).collect()
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("{PREFIX}{number:012}").into_bytes()
}

/// Requests in the plan's mixture, over all keys evenly.
pub(super) struct Requests {
    random: Random,
    reads_percent: u64,
    keys: u64,
    value: Vec<u8>,
}

impl Requests {
    /// The next request, and whether it reads.
    pub(super) fn next(&mut self) -> (Request, bool) {
        let reads = self.random.below(100) < self.reads_percent;
        let key = key(self.random.below(self.keys));
        let verb = if reads { Verb::Get { key } } else { Verb::Set { key, value: self.value.clone() } };
        (verb.into(), reads)
    }
}

/// Numbers that look random and are the same in each run: splitmix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The remainder favours small numbers by less than one in a billion for the bounds that there are.
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use kvs_protocol::limits::DEFAULT_MAX_FRAME_BYTES;

    use super::*;

    fn plan(reads_percent: u8, keys: u64, value_bytes: usize) -> Plan {
        let duration = Duration::from_secs(1);
        Plan { duration, warmup: duration, rate: None, connections: 1, pipeline: 1, reads_percent, keys, value_bytes }
    }

    #[test]
    fn the_mixture_is_what_was_asked_for() {
        for percent in [0, 30, 100] {
            let mut requests = plan(percent, 1_000, 10).requests(0);
            let reads = (0..10_000).filter(|_| requests.next().1).count();
            assert!(reads.abs_diff(usize::from(percent) * 100) < 200, "{reads} of 10000 for {percent} %");
        }
    }

    #[test]
    fn every_key_is_set_and_removed_once() {
        for (keys, value_bytes) in [(1, 0), (10_001, 150), (10_001, 1000), (20, 1_000_000), (5, BATCH_BYTES)] {
            let plan = plan(50, keys, value_bytes);
            let count = |verbs: &mut dyn Iterator<Item = Verb>| {
                verbs
                    .map(|verb| match verb {
                        Verb::Batch(changes) => {
                            let mut line = Vec::new();
                            Request::from(Verb::Batch(changes.clone())).encode(&mut line);
                            assert!(line.len() <= DEFAULT_MAX_FRAME_BYTES, "{} bytes a value", plan.value_bytes);
                            assert!(!changes.is_empty() && changes.len() <= MAX_BATCH_CHANGES);
                            changes.len()
                        }
                        _ => panic!("batches only"),
                    })
                    .sum::<usize>()
            };
            assert_eq!(count(&mut plan.filling()) as u64, keys);
            assert_eq!(count(&mut plan.emptying()) as u64, keys);
        }
    }
}
