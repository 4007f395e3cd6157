//! Random operations with reopening, compaction, kills and losses of power against a `BTreeMap` and its durable prefix:
//! shrunk to the shortest story that fails.
//!
//! The model is the list of all states that the store went through, one for each operation, and how many of them are
//! durable for certain. After a clean end or a kill the store is in the last of them; after a loss of power in one that
//! is not older than the durable one. Answers must be those of the map, under every policy of syncing.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Condition, Error, KvStore, KvsEngine, Mutation, Options, SyncPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use support::{Random, figure, is_full, open_with, tiny};

const CASES: u32 = 1_000;
const CASES_IN_FULL: u32 = 100_000;
/// The most operations of one story.
const LONGEST: usize = 40;
/// Threads that tell stories, each its share of them.
const TELLERS: u32 = 2;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// One step of a story.
#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    Get(Vec<u8>),
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    SetIf(Vec<u8>, Vec<u8>, Condition),
    Take(Vec<u8>),
    Clear,
    Flush,
    Compact,
    /// Closed and opened again.
    Reopen,
    /// The process is killed.
    Kill,
    /// The power fails; the seed chooses what the disk keeps, this share of it in percent.
    PowerLoss(u64, u64),
}

/// Few keys, so that they meet again; one of them is no text.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => (0..5_u8).prop_map(|number| vec![b'a' + number]), 1 => Just(vec![0xff, 0, b'\n'])]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        5 => "[a-c @\"\\\\\u{e9}]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
        2 => (any::<u8>(), 300..900_usize).prop_map(|(byte, length)| vec![b'a' + byte % 26; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (key(), value()).prop_map(|(key, value)| Step::Set(key, value)),
        4 => key().prop_map(Step::Remove),
        4 => key().prop_map(Step::Get),
        3 => vec((key(), proptest::option::weighted(0.7, value())), 1..5).prop_map(Step::Batch),
        3 => (key(), value(), condition()).prop_map(|(key, value, condition)| Step::SetIf(key, value, condition)),
        2 => key().prop_map(Step::Take),
        1 => Just(Step::Clear),
        1 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => (any::<u64>(), 0..=100_u64).prop_map(|(seed, share)| Step::PowerLoss(seed, share)),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![Just(Condition::Always), Just(Condition::Missing), Just(Condition::Present)]
}

fn policy() -> impl Strategy<Value = SyncPolicy> {
    prop_oneof![
        3 => Just(SyncPolicy::Always),
        1 => Just(SyncPolicy::Os),
        1 => Just(SyncPolicy::Interval(Duration::from_secs(3600))),
    ]
}

/// A store and what it should hold.
struct Pair {
    options: Options,
    disk: MemoryStorage,
    store: KvStore,
    /// Every state since what is durable for certain, which is the first.
    states: Vec<Map>,
}

impl Pair {
    fn new(sync: SyncPolicy) -> Self {
        let options = Options { sync, ..tiny() };
        let disk = MemoryStorage::new();
        let store = open_with(&disk, &options).expect("an empty folder");
        Self { options, disk, store, states: vec![Map::new()] }
    }

    fn now(&self) -> &Map {
        self.states.last().expect("there is always one")
    }

    /// Everything up to now is durable.
    fn settle(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// An operation was acknowledged.
    fn acknowledged(&mut self, next: Map) {
        self.states.push(next);
        if self.options.sync == SyncPolicy::Always {
            self.settle();
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let failed = |error: Error| TestCaseError::fail(error.to_string());
        let mut next = self.now().clone();
        match step {
            Step::Set(key, value) => {
                self.store.set(key.clone(), value.clone()).map_err(failed)?;
                next.insert(key, value);
                self.acknowledged(next);
            }
            Step::Remove(key) => match (self.store.remove(key.clone()), next.remove(&key)) {
                (Ok(()), Some(_)) => self.acknowledged(next),
                (Err(Error::KeyNotFound), None) => {}
                (answer, expected) => return Err(TestCaseError::fail(format!("{answer:?}, had {expected:?}"))),
            },
            Step::Get(key) => {
                let found = self.store.get(key.clone()).map_err(failed)?;
                prop_assert_eq!(found.as_ref(), next.get(&key));
            }
            Step::Batch(changes) => {
                let mutations = changes.iter().cloned().map(|(key, value)| match value {
                    Some(value) => Mutation::Set { key, value },
                    None => Mutation::Remove { key },
                });
                self.store.write_batch(mutations.collect()).map_err(failed)?;
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(next.insert(key, value)),
                        None => drop(next.remove(&key)),
                    }
                }
                self.acknowledged(next);
            }
            Step::SetIf(key, value, condition) => {
                let stored = self.store.set_if(key.clone(), value.clone(), condition).map_err(failed)?;
                prop_assert_eq!(stored, condition.holds(next.contains_key(&key)));
                if stored {
                    next.insert(key, value);
                    self.acknowledged(next);
                }
            }
            Step::Take(key) => {
                let taken = self.store.take(key.clone()).map_err(failed)?;
                prop_assert_eq!(&taken, &next.remove(&key));
                if taken.is_some() {
                    self.acknowledged(next);
                }
            }
            Step::Clear => {
                self.store.clear().map_err(failed)?;
                self.states.push(Map::new());
                self.settle();
            }
            Step::Flush => {
                self.store.flush().map_err(failed)?;
                self.settle();
            }
            Step::Compact => self.store.compact().map_err(failed)?,
            Step::Reopen => {
                self.store.close().map_err(failed)?;
                // What a close made durable stays if the power fails now.
                self.open_all(self.disk.after_power_loss(|| false))?;
            }
            Step::Kill => self.open_all(self.disk.after_kill())?,
            Step::PowerLoss(seed, share) => {
                let mut random = Random(seed);
                self.open(self.disk.after_power_loss(|| random.below(100) < share))?;
            }
        }
        Ok(())
    }

    /// Opens what the last process left, in which everything is that it wrote.
    fn open_all(&mut self, disk: MemoryStorage) -> Result<(), TestCaseError> {
        self.settle();
        self.open(disk)
    }

    /// Opens what the last process left and finds out which of the possible states it is in.
    fn open(&mut self, disk: MemoryStorage) -> Result<(), TestCaseError> {
        let left = disk.after_kill();
        self.store = open_with(&disk, &self.options).map_err(|error| {
            let folder = support::keep_for_a_person(&left, "model");
            TestCaseError::fail(format!("opening {}: {error}", folder.display()))
        })?;
        self.disk = disk;
        let found = self.contents()?;
        let Some(state) = self.states.iter().rev().find(|state| **state == found) else {
            return Err(TestCaseError::fail(format!("{found:?} is none of {:?}", self.states)));
        };
        // What was found has been made durable by opening.
        self.states = vec![state.clone()];
        Ok(())
    }

    fn contents(&self) -> Result<Map, TestCaseError> {
        let mut found = Map::new();
        for key in (0..5).map(|number| vec![b'a' + number]).chain([vec![0xff, 0, b'\n']]) {
            let value = self.store.get(key.clone()).map_err(|error| TestCaseError::fail(error.to_string()))?;
            found.extend(value.map(|value| (key, value)));
        }
        prop_assert_eq!(self.store.stats().keys, found.len() as u64);
        Ok(found)
    }
}

fn tell((sync, steps): (SyncPolicy, Vec<Step>)) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(sync);
    for step in steps {
        pair.take(step)?;
    }
    let found = pair.contents()?;
    prop_assert_eq!(&found, pair.now());
    pair.open_all(pair.disk.after_kill())
}

#[test]
fn random_stories_with_crashes_agree_with_a_map() {
    let cases = if is_full() { CASES_IN_FULL } else { CASES };
    std::thread::scope(|scope| {
        for _ in 0..TELLERS {
            scope.spawn(|| {
                let config = Config { cases: cases / TELLERS, failure_persistence: None, ..Config::default() };
                let outcome = TestRunner::new(config).run(&(policy(), vec(step(), 1..LONGEST)), tell);
                if let Err(failure) = outcome {
                    panic!("{failure}");
                }
            });
        }
    });
    figure(&format!("{cases} stories"));
}
