//! Operations that look and write in one step: sets with a condition, sets that answer the old value, takings.

use std::collections::HashSet;
use std::sync::{Barrier, Mutex};
use std::thread;

use kvs_engine::limits::{DEFAULT_MAX_VALUE_BYTES, MAX_KEY_BYTES};
use kvs_engine::{Condition, Error, KvsEngine as _, Operation, Outcome};

use crate::fixture::Fixture;
use crate::pipeline::{Pipeline, get, remove, set};

/// Threads of each test: more than the cores of most machines that build this.
const THREADS: usize = 8;

fn set_if(key: &str, value: &str, condition: Condition) -> Operation {
    Operation::SetIf { key: key.into(), value: value.into(), condition, old: false }
}

fn swap(key: &str, value: &str, condition: Condition) -> Operation {
    Operation::SetIf { key: key.into(), value: value.into(), condition, old: true }
}

fn take(key: &str) -> Operation {
    Operation::Take { key: key.into() }
}

fn value(text: &str) -> Outcome {
    Outcome::Value(Some(text.into()))
}

pub(crate) fn a_condition_decides_and_the_answer_says_how<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert!(!engine.set_if("key", "present", Condition::Present).unwrap());
    assert_eq!(engine.get("key").unwrap(), None);
    assert!(engine.set_if("key", "first", Condition::Missing).unwrap());
    assert!(!engine.set_if("key", "second", Condition::Missing).unwrap());
    assert_eq!(engine.get("key").unwrap(), Some(b"first".to_vec()));
    assert!(engine.set_if("key", "third", Condition::Present).unwrap());
    assert_eq!(engine.get("key").unwrap(), Some(b"third".to_vec()));
    assert!(engine.set_if("key", "", Condition::Always).unwrap());
    assert!(!engine.set_if("key", "fourth", Condition::Missing).unwrap(), "an empty value is a value");
    engine.remove("key").unwrap();
    assert!(engine.set_if("key", "again", Condition::Missing).unwrap());
}

pub(crate) fn the_old_value_comes_back_and_tells_what_happened<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let steps = [
        (swap("key", "a", Condition::Present), Outcome::Value(None), None),
        (swap("key", "b", Condition::Missing), Outcome::Value(None), Some("b")),
        (swap("key", "c", Condition::Missing), value("b"), Some("b")),
        (swap("key", "d", Condition::Present), value("b"), Some("d")),
        (swap("key", "e", Condition::Always), value("d"), Some("e")),
        (swap("other", "f", Condition::Always), Outcome::Value(None), Some("e")),
    ];
    for (number, (operation, answer, after)) in steps.into_iter().enumerate() {
        assert_eq!(engine.execute(operation).unwrap(), answer, "step {number}");
        assert_eq!(engine.get("key").unwrap().as_deref(), after.map(str::as_bytes), "step {number}");
    }
    // A value that lies in a batch is read like any other.
    engine.write_batch(vec![crate::pipeline::batch_set("x", "1"), crate::pipeline::batch_set("y", "2")]).unwrap();
    assert_eq!(engine.execute(swap("y", "3", Condition::Present)).unwrap(), value("2"));
    let large = vec![b'v'; DEFAULT_MAX_VALUE_BYTES];
    engine.set("large", large.clone()).unwrap();
    assert_eq!(engine.execute(swap("large", "", Condition::Always)).unwrap(), Outcome::Value(Some(large)));
}

pub(crate) fn a_taking_removes_what_it_answers<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert_eq!(engine.take("key").unwrap(), None);
    engine.set("key", "value").unwrap();
    assert_eq!(engine.take("key").unwrap(), Some(b"value".to_vec()));
    assert_eq!(engine.get("key").unwrap(), None);
    assert_eq!(engine.take("key").unwrap(), None);
    assert!(matches!(engine.remove("key"), Err(Error::KeyNotFound)));
    engine.set("key", "").unwrap();
    assert_eq!(engine.take("key").unwrap(), Some(Vec::new()));
    let bytes: Vec<u8> = (0..=255).collect();
    engine.set(bytes.clone(), bytes.clone()).unwrap();
    assert_eq!(engine.take(bytes.clone()).unwrap(), Some(bytes));
}

pub(crate) fn a_pipeline_decides_conditions_in_order<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for _ in 0..200 {
        pipeline.submit(set_if("key", "first", Condition::Missing));
        pipeline.submit(set_if("key", "second", Condition::Missing));
        pipeline.submit(swap("key", "third", Condition::Present));
        pipeline.submit(take("key"));
        pipeline.submit(take("key"));
        pipeline.submit(set_if("key", "fourth", Condition::Present));
        pipeline.submit(get("key"));
    }
    for (round, answers) in pipeline.finish().chunks(7).enumerate() {
        let found: Vec<&Outcome> = answers.iter().map(|answer| answer.as_ref().unwrap()).collect();
        let expected = [
            Outcome::Stored(true),
            Outcome::Stored(false),
            value("first"),
            value("third"),
            Outcome::Value(None),
            Outcome::Stored(false),
            Outcome::Value(None),
        ];
        assert!(found.into_iter().eq(expected.iter()), "round {round}: {answers:?}");
    }
}

pub(crate) fn one_of_many_wins_a_missing_key<F: Fixture>() {
    const KEYS: usize = 100;
    let fixture = F::new();
    let engine = fixture.open();
    let start = Barrier::new(THREADS);
    let winners: Vec<Mutex<Vec<usize>>> = (0..KEYS).map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, start, winners) = (engine.clone(), &start, &winners);
            scope.spawn(move || {
                let mut pipeline = Pipeline::new(&engine);
                start.wait();
                for key in 0..KEYS {
                    pipeline.submit(set_if(&key.to_string(), &thread.to_string(), Condition::Missing));
                }
                for (key, answer) in pipeline.finish().into_iter().enumerate() {
                    if answer.unwrap() == Outcome::Stored(true) {
                        winners[key].lock().unwrap().push(thread);
                    }
                }
            });
        }
    });
    for (key, winners) in winners.into_iter().enumerate() {
        let winners = winners.into_inner().unwrap();
        assert_eq!(winners.len(), 1, "key {key}");
        assert_eq!(engine.get(key.to_string()).unwrap(), Some(winners[0].to_string().into_bytes()), "key {key}");
    }
}

/// Many set values that differ and take whatever is there: no value is taken twice, none is taken that was not set,
/// and what was overwritten is known from the swap that did it.
pub(crate) fn every_set_is_taken_at_most_once<F: Fixture>() {
    const ROUNDS: usize = 100;
    let fixture = F::new();
    let engine = fixture.open();
    let start = Barrier::new(THREADS);
    let gone = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, start, gone) = (engine.clone(), &start, &gone);
            scope.spawn(move || {
                let mut pipeline = Pipeline::new(&engine);
                start.wait();
                for round in 0..ROUNDS {
                    pipeline.submit(swap("key", &format!("{thread}/{round}"), Condition::Always));
                    pipeline.submit(take("key"));
                }
                for answer in pipeline.finish() {
                    match answer.unwrap() {
                        Outcome::Value(Some(value)) => gone.lock().unwrap().push(value),
                        Outcome::Value(None) => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let gone = gone.into_inner().unwrap();
    let different: HashSet<&Vec<u8>> = gone.iter().collect();
    assert_eq!(different.len(), gone.len(), "a value went twice");
    assert_eq!(gone.len(), THREADS * ROUNDS, "every value went once: the last word of each thread is a taking");
    assert_eq!(engine.get("key").unwrap(), None);
}

pub(crate) fn conditions_keep_the_limits<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let long = vec![b'k'; MAX_KEY_BYTES + 1];
    let large = vec![b'v'; DEFAULT_MAX_VALUE_BYTES + 1];
    for (result, limit) in [
        (engine.set_if(long.clone(), "v", Condition::Always).map(drop), "key"),
        (engine.set_if("k", large, Condition::Missing).map(drop), "value"),
        (engine.take(long).map(drop), "key"),
    ] {
        assert!(matches!(result, Err(Error::TooLarge { what, .. }) if what == limit), "{limit}: {result:?}");
    }
    engine.close().unwrap();
    for operation in [set_if("k", "v", Condition::Always), take("k"), set("k", "v"), remove("k")] {
        assert!(matches!(engine.execute(operation), Err(Error::Closed)));
    }
}
