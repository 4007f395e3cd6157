//! Random stories against a `BTreeMap`, shrunk to the shortest one that fails.

use std::collections::BTreeMap;

use kvs_engine::{Condition, Error, KvsEngine as _, Mutation, Operation, Outcome};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::fixture::Fixture;
use crate::pipeline::Pipeline;

/// Stories per engine. Each opens a store of its own; more would make the suite slow on a slow disk.
const STORIES: u32 = 40;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A part of a story.
#[derive(Debug, Clone)]
enum Chapter {
    /// Submitted without waiting between them; answers are compared at the end.
    Pipeline(Vec<Operation>),
    Flush,
    Reopen,
}

pub(crate) fn random_pipelines_agree_with_a_map<F: Fixture>() {
    run::<F>(vec(prop_oneof![9 => pipeline(), 1 => Just(Chapter::Flush)], 1..8).boxed());
}

pub(crate) fn random_stories_with_reopening_agree_with_a_map<F: Fixture>() {
    let chapter = prop_oneof![6 => pipeline(), 1 => Just(Chapter::Flush), 3 => Just(Chapter::Reopen)];
    run::<F>(vec(chapter, 1..12).boxed());
}

fn run<F: Fixture>(stories: BoxedStrategy<Vec<Chapter>>) {
    let config = Config { cases: STORIES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&stories, |story| {
        let fixture = F::new();
        let mut engine = fixture.open();
        let mut map = Map::new();
        for chapter in story {
            match chapter {
                Chapter::Pipeline(operations) => play(&engine, &mut map, operations)?,
                Chapter::Flush => engine.flush().unwrap(),
                Chapter::Reopen => {
                    engine.close().unwrap();
                    drop(engine);
                    engine = fixture.open();
                }
            }
        }
        for (key, value) in &map {
            let found = engine.get(key.clone()).unwrap();
            prop_assert_eq!(found.as_ref(), Some(value), "key {:?} at the end", key);
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Submits the operations to the engine and applies them to the map; every answer must agree.
fn play<E: kvs_engine::KvsEngine>(engine: &E, map: &mut Map, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let mut pipeline = Pipeline::new(engine);
    let mut expected = Vec::new();
    for operation in operations {
        expected.push((format!("{operation:?}"), apply(map, operation.clone())));
        pipeline.submit(operation);
    }
    for (answer, (operation, expected)) in pipeline.finish().into_iter().zip(expected) {
        match (answer, expected) {
            (Ok(answer), Some(expected)) => prop_assert_eq!(answer, expected, "{}", operation),
            (Err(Error::KeyNotFound), None) => {}
            (answer, expected) => {
                return Err(TestCaseError::fail(format!("{operation}: {answer:?} instead of {expected:?}")));
            }
        }
    }
    Ok(())
}

/// What the map answers; `None` is "key not found".
fn apply(map: &mut Map, operation: Operation) -> Option<Outcome> {
    match operation {
        Operation::Get { key } => return Some(Outcome::Value(map.get(&key).cloned())),
        Operation::Set { key, value } => drop(map.insert(key, value)),
        Operation::SetIf { key, value, condition, old } => {
            let found = map.get(&key).cloned();
            let stored = condition.holds(found.is_some());
            if stored {
                map.insert(key, value);
            }
            return Some(if old { Outcome::Value(found) } else { Outcome::Stored(stored) });
        }
        Operation::Take { key } => return Some(Outcome::Value(map.remove(&key))),
        Operation::Remove { key } => drop(map.remove(&key)?),
        Operation::Batch(mutations) => {
            for mutation in mutations {
                match mutation {
                    Mutation::Set { key, value } => drop(map.insert(key, value)),
                    Mutation::Remove { key } => drop(map.remove(&key)),
                }
            }
        }
    }
    Some(Outcome::Done)
}

fn pipeline() -> impl Strategy<Value = Chapter> {
    vec(operation(), 1..40).prop_map(Chapter::Pipeline)
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Operation::Set { key, value }),
        4 => key().prop_map(|key| Operation::Get { key }),
        2 => key().prop_map(|key| Operation::Remove { key }),
        2 => key().prop_map(|key| Operation::Take { key }),
        3 => (key(), value(), condition(), any::<bool>())
            .prop_map(|(key, value, condition, old)| Operation::SetIf { key, value, condition, old }),
        1 => vec(mutation(), 0..6).prop_map(Operation::Batch),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![Just(Condition::Always), Just(Condition::Missing), Just(Condition::Present)]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        2 => (key(), value()).prop_map(|(key, value)| Mutation::Set { key, value }),
        1 => key().prop_map(|key| Mutation::Remove { key }),
    ]
}

/// Few keys, so that they meet again, with the awkward ones among them.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0..6_u8).prop_map(|number| vec![b'a' + number]),
        1 => Just(Vec::new()),
        1 => Just(vec![0xff, 0, b'\n']),
        1 => vec(any::<u8>(), 0..4),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => vec(any::<u8>(), 0..40), 2 => "[a-z\"\\\\\u{e9}]{0,20}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 2_000..6_000)]
}
