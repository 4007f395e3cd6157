//! Opening, flushing and closing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvs_engine::{Error, KvsEngine as _, Operation, Outcome};

use crate::fixture::Fixture;
use crate::pipeline::{DEADLINE, Pipeline, batch_remove, batch_set, get, remove, set};

pub(crate) fn a_closed_store_says_so<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("key", "value").unwrap();
    engine.clone().close().unwrap();
    assert!(matches!(engine.get("key"), Err(Error::Closed)));
    assert!(matches!(engine.set("key", "value"), Err(Error::Closed)));
    assert!(matches!(engine.remove("key"), Err(Error::Closed)));
    assert!(matches!(engine.write_batch(vec![batch_set("key", "value")]), Err(Error::Closed)));
    assert!(engine.fatal().is_none(), "a store that was closed well has no fatal cause");
}

pub(crate) fn closing_twice_is_no_error<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("key", "value").unwrap();
    engine.close().unwrap();
    engine.close().unwrap();
    drop(engine.clone());
    engine.close().unwrap();
}

/// Threads submit while the store is closed under them. Each operation is answered exactly once, either as usual or
/// that the store is closing, and after the first such answer a thread hears nothing else.
pub(crate) fn every_operation_is_answered_once_across_a_close<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let (engine, closed) = (engine.clone(), &closed);
                scope.spawn(move || {
                    let mut pipeline = Pipeline::new(&engine);
                    let mut operations = 0;
                    // Until the close, but not so many that a slow disk makes the test slow.
                    while !closed.load(Ordering::Relaxed) {
                        if operations == 20_000 {
                            thread::yield_now();
                            continue;
                        }
                        pipeline.submit(set(format!("{thread}/{operations}"), "value"));
                        pipeline.submit(get(format!("{thread}/{operations}")));
                        operations += 1;
                    }
                    // And some more after it.
                    for _ in 0..50 {
                        pipeline.submit(remove("key"));
                        pipeline.submit(Operation::Batch(vec![batch_remove("key")]));
                    }
                    pipeline.finish()
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        engine.close().unwrap();
        closed.store(true, Ordering::Relaxed);
        for worker in workers {
            let answers = worker.join().unwrap();
            let first_refusal = answers.iter().position(|answer| matches!(answer, Err(Error::Closed)));
            let first_refusal = first_refusal.expect("the last operations come after the close");
            for answer in &answers[..first_refusal] {
                assert!(matches!(answer, Ok(_) | Err(Error::KeyNotFound)), "{answer:?}");
            }
            for answer in &answers[first_refusal..] {
                assert!(matches!(answer, Err(Error::Closed)), "after the close: {answer:?}");
            }
        }
    });
}

pub(crate) fn a_flush_returns_when_all_before_it_is_answered<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..100_u32 {
        pipeline.submit(set(number.to_string(), "value"));
    }
    engine.flush().unwrap();
    // Durable by now; the answers may still be on their way from another thread.
    let begin = Instant::now();
    while pipeline.answered() < 100 {
        assert!(begin.elapsed() < DEADLINE, "answers are missing after a flush");
        thread::yield_now();
    }
    assert!(pipeline.finish().iter().all(|answer| matches!(answer, Ok(Outcome::Done))));
    engine.flush().unwrap();
}

pub(crate) fn everything_is_there_after_reopening<F: Fixture>() {
    let fixture = F::new();
    let binary: Vec<u8> = (0..=255).rev().collect();
    {
        let engine = fixture.open();
        engine.set("kept", "value").unwrap();
        engine.set("overwritten", "old").unwrap();
        engine.set("overwritten", "new").unwrap();
        engine.set("removed", "value").unwrap();
        engine.remove("removed").unwrap();
        engine.set("restored", "old").unwrap();
        engine.remove("restored").unwrap();
        engine.set("restored", "new").unwrap();
        engine.set(binary.clone(), binary.clone()).unwrap();
        engine.set("", "").unwrap();
        engine.set("large", vec![7; 512 * 1024]).unwrap();
        engine.write_batch(vec![batch_set("batch", "value"), batch_remove("kept too late")]).unwrap();
        engine.close().unwrap();
    }
    for _ in 0..3 {
        let engine = fixture.open();
        assert_eq!(engine.get("kept").unwrap(), Some(b"value".to_vec()));
        assert_eq!(engine.get("overwritten").unwrap(), Some(b"new".to_vec()));
        assert_eq!(engine.get("removed").unwrap(), None);
        assert_eq!(engine.get("restored").unwrap(), Some(b"new".to_vec()));
        assert_eq!(engine.get(binary.clone()).unwrap(), Some(binary.clone()));
        assert_eq!(engine.get("").unwrap(), Some(Vec::new()));
        assert!(engine.get("large").unwrap() == Some(vec![7; 512 * 1024]));
        assert_eq!(engine.get("batch").unwrap(), Some(b"value".to_vec()));
        assert!(matches!(engine.remove("removed"), Err(Error::KeyNotFound)));
        engine.close().unwrap();
    }
}

pub(crate) fn a_dropped_store_needs_no_close<F: Fixture>() {
    let fixture = F::new();
    for number in 0..10_u32 {
        let engine = fixture.open();
        for earlier in 0..number {
            assert_eq!(engine.get(earlier.to_string()).unwrap(), Some(b"value".to_vec()));
        }
        engine.set(number.to_string(), "value").unwrap();
    }
}

pub(crate) fn thousands_of_keys_come_back<F: Fixture>() {
    const KEYS: u32 = 6_000;
    let value = |number: u32| format!("{number} {}", "x".repeat((number % 300) as usize));
    let fixture = F::new();
    {
        let engine = fixture.open();
        let mut pipeline = Pipeline::new(&engine);
        for number in 0..KEYS {
            pipeline.submit(set(format!("key {number}"), "an early value"));
        }
        for number in 0..KEYS {
            pipeline.submit(match number % 5 {
                0 => remove(format!("key {number}")),
                1 => continue,
                _ => set(format!("key {number}"), value(number)),
            });
        }
        assert!(pipeline.finish().iter().all(Result::is_ok));
        engine.close().unwrap();
    }
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..KEYS {
        pipeline.submit(get(format!("key {number}")));
    }
    for (number, answer) in (0..).zip(pipeline.finish()) {
        let expected = match number % 5 {
            0 => None,
            1 => Some(b"an early value".to_vec()),
            _ => Some(value(number).into_bytes()),
        };
        assert_eq!(answer.unwrap(), Outcome::Value(expected), "key {number}");
    }
}

pub(crate) fn what_was_acknowledged_before_a_close_is_there<F: Fixture>() {
    let fixture = F::new();
    let acknowledged = {
        let engine = fixture.open();
        let mut pipeline = Pipeline::new(&engine);
        let answers = thread::scope(|scope| {
            let closer = engine.clone();
            for number in 0..500_u32 {
                pipeline.submit(set(number.to_string(), "value"));
            }
            let closer = scope.spawn(move || closer.close().unwrap());
            for number in 500..3_000_u32 {
                pipeline.submit(set(number.to_string(), "value"));
            }
            closer.join().unwrap();
            pipeline.finish()
        });
        assert!(answers[..500].iter().all(Result::is_ok), "what was submitted before the close is finished");
        (0_u32..).zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(number, _)| number).collect::<Vec<_>>()
    };
    let engine = fixture.open();
    for number in acknowledged {
        assert_eq!(engine.get(number.to_string()).unwrap(), Some(b"value".to_vec()), "key {number}");
    }
}

pub(crate) fn a_store_is_open_once<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("key", "value").unwrap();
    let error = fixture.try_open().unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    assert_eq!(engine.get("key").unwrap(), Some(b"value".to_vec()), "the first is not disturbed");
    engine.close().unwrap();
    drop(engine);
    assert_eq!(fixture.open().get("key").unwrap(), Some(b"value".to_vec()), "a closed store can be opened again");
}
