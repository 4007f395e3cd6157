//! What many threads may rely on.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use kvs_engine::{Condition, Error, KvsEngine as _, Operation, Outcome};

use crate::fixture::Fixture;
use crate::history::{Action, Recorder};
use crate::pipeline::{Pipeline, get, remove, set};

/// Threads of each test: more than the cores of most machines that build this.
const THREADS: usize = 8;

pub(crate) fn two_removals_of_one_key_never_both_succeed<F: Fixture>() {
    const KEYS: usize = 200;
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    (0..KEYS).for_each(|key| pipeline.submit(set(key.to_string(), "value")));
    assert!(pipeline.finish().iter().all(Result::is_ok));

    let successes: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let engine = engine.clone();
            let (successes, start) = (&successes, &start);
            scope.spawn(move || {
                let mut pipeline = Pipeline::new(&engine);
                start.wait();
                (0..KEYS).for_each(|key| pipeline.submit(remove(key.to_string())));
                for (key, answer) in pipeline.finish().into_iter().enumerate() {
                    match answer {
                        Ok(_) => drop(successes[key].fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert!(matches!(error, Error::KeyNotFound), "{error}"),
                    }
                }
            });
        }
    });
    for (key, successes) in successes.iter().enumerate() {
        assert_eq!(successes.load(Ordering::Relaxed), 1, "key {key} was removed so many times");
    }
}

/// Pipelines of set, get and remove of one key from many threads: a removal takes exactly one set away, so that more
/// removals than sets can't succeed, and the key is there at the end exactly if the last word was a set.
pub(crate) fn every_set_is_removed_at_most_once<F: Fixture>() {
    const ROUNDS: usize = 150;
    let fixture = F::new();
    let engine = fixture.open();
    let removed = AtomicU32::new(0);
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let engine = engine.clone();
            let (removed, start) = (&removed, &start);
            scope.spawn(move || {
                let mut pipeline = Pipeline::new(&engine);
                start.wait();
                for _ in 0..ROUNDS {
                    pipeline.submit(set("key", "value"));
                    pipeline.submit(get("key"));
                    pipeline.submit(remove("key"));
                    pipeline.submit(remove("key"));
                }
                for answers in pipeline.finish().chunks(4) {
                    assert!(matches!(answers[0], Ok(Outcome::Done)));
                    match &answers[1] {
                        Ok(Outcome::Value(None)) => {}
                        Ok(Outcome::Value(Some(value))) => assert_eq!(value, b"value"),
                        other => panic!("a get was answered with {other:?}"),
                    }
                    let successes = answers[2..].iter().filter(|answer| answer.is_ok()).count();
                    removed.fetch_add(u32::try_from(successes).unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    let sets = u32::try_from(THREADS * ROUNDS).unwrap();
    let removed = removed.into_inner();
    assert!(removed <= sets, "{removed} removals succeeded after {sets} sets");
    assert_eq!(
        engine.get("key").unwrap(),
        None,
        "every thread's last word is a removal, and none may come before its set"
    );
}

pub(crate) fn clones_on_many_threads_are_one_store<F: Fixture>() {
    const KEYS: usize = 60;
    let fixture = F::new();
    let engine = fixture.open();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = engine.clone();
            scope.spawn(move || {
                for key in 0..KEYS {
                    let key = format!("{thread}/{key}");
                    engine.set(key.clone(), format!("value of {key}")).unwrap();
                    assert_eq!(engine.get(key.clone()).unwrap(), Some(format!("value of {key}").into_bytes()));
                }
            });
        }
    });
    for thread in 0..THREADS {
        for key in 0..KEYS {
            let key = format!("{thread}/{key}");
            assert_eq!(engine.get(key.clone()).unwrap(), Some(format!("value of {key}").into_bytes()));
        }
    }
}

pub(crate) fn histories_on_few_keys_are_linearizable<F: Fixture>() {
    const ROUNDS: u32 = 25;
    const ACTIONS: u32 = 12;
    const WORKERS: u32 = 4;
    let fixture = F::new();
    let engine = fixture.open();
    for round in 0..ROUNDS {
        let recorder = Recorder::default();
        let start = Barrier::new(WORKERS as usize);
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (engine, recorder, start) = (engine.clone(), &recorder, &start);
                scope.spawn(move || {
                    start.wait();
                    for action in 0..ACTIONS {
                        // A mix that differs from round to round and is the same in every run.
                        let dice = (round * 31 + worker * 17 + action * 7).wrapping_mul(2_654_435_761) >> 16;
                        let key = if dice & 1 == 0 { "even" } else { "odd" };
                        let value = format!("{round}/{worker}/{action}").into_bytes();
                        let condition = if dice >> 5 & 1 == 0 { Condition::Missing } else { Condition::Present };
                        recorder.record(key, || match dice >> 1 & 7 {
                            0 | 1 => Action::Got(engine.get(key).unwrap()),
                            2 => Action::Took(engine.take(key).unwrap()),
                            3 => {
                                let stored = engine.set_if(key, value.clone(), condition).unwrap();
                                Action::SetIf(condition, value, stored)
                            }
                            4 => {
                                let set = Operation::SetIf {
                                    key: key.into(),
                                    value: value.clone(),
                                    condition: Condition::Always,
                                    old: true,
                                };
                                let Outcome::Value(old) = engine.execute(set).unwrap() else { panic!("no value") };
                                Action::Swapped(Condition::Always, value, old)
                            }
                            5 => match engine.remove(key) {
                                Ok(()) => Action::Removed,
                                Err(Error::KeyNotFound) => Action::NotFound,
                                Err(error) => panic!("{error}"),
                            },
                            _ => {
                                engine.set(key, value.clone()).unwrap();
                                Action::Set(value)
                            }
                        });
                    }
                });
            }
        });
        for key in ["even", "odd"] {
            assert!(recorder.is_linearizable(key), "round {round}, key {key}: {recorder:#?}");
            // The next round starts from what is there now.
            engine.write_batch(vec![crate::pipeline::batch_remove(key)]).unwrap();
        }
    }
}
