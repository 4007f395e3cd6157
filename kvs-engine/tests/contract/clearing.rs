//! Counting and clearing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kvs_engine::{Error, KvsEngine, Scan};

use crate::fixture::Fixture;
use crate::pipeline::{Pipeline, batch_remove, batch_set, set};

fn fill(engine: &impl KvsEngine, prefix: &str, keys: usize) {
    let mut pipeline = Pipeline::new(engine);
    (0..keys).for_each(|number| pipeline.submit(set(format!("{prefix}/{number}"), "value")));
    assert!(pipeline.finish().iter().all(Result::is_ok));
}

pub(crate) fn a_count_is_the_number_of_keys<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert_eq!(engine.count().unwrap(), 0);
    fill(&engine, "key", 500);
    fill(&engine, "key", 500);
    assert_eq!(engine.count().unwrap(), 500, "a key that is set again is one key");
    engine.remove("key/7").unwrap();
    engine.write_batch(vec![batch_set("a", "1"), batch_set("b", "2"), batch_remove("key/8")]).unwrap();
    assert_eq!(engine.count().unwrap(), 500);
    engine.close().unwrap();
    assert!(matches!(engine.count(), Err(Error::Closed)));
}

pub(crate) fn a_cleared_store_is_empty_and_goes_on<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.clear().unwrap();
    // More than one batch removes.
    fill(&engine, "key", 2_500);
    engine.set(b"\xff\x00".to_vec(), "not text").unwrap();
    engine.set("", "the empty key").unwrap();
    engine.clear().unwrap();
    assert_eq!(engine.count().unwrap(), 0);
    assert!(engine.scan(&Scan::default()).unwrap().entries.is_empty());
    assert_eq!(engine.get("key/1").unwrap(), None);
    assert!(matches!(engine.remove("key/1"), Err(Error::KeyNotFound)));
    fill(&engine, "key", 10);
    assert_eq!(engine.count().unwrap(), 10);
    engine.close().unwrap();
    assert!(matches!(engine.clear(), Err(Error::Closed)));
}

pub(crate) fn what_is_set_after_a_clear_stays<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    for round in 0..5_u32 {
        engine.set("key", round.to_string()).unwrap();
        engine.clear().unwrap();
        engine.set("key", format!("after {round}")).unwrap();
        assert_eq!(engine.get("key").unwrap(), Some(format!("after {round}").into_bytes()));
        assert_eq!(engine.count().unwrap(), 1);
    }
}

/// Keys that nobody touches are gone when a clear returns, whatever others write meanwhile.
pub(crate) fn a_clear_beside_writers_removes_what_was_there<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    fill(&engine, "stays", 2_000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2_u32 {
            let (engine, done) = (engine.clone(), &done);
            scope.spawn(move || {
                for round in 0..5_000_u32 {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    engine.set(format!("{writer}/{}", round % 50), round.to_string()).unwrap();
                }
            });
        }
        engine.clear().unwrap();
        for number in 0..2_000 {
            assert_eq!(engine.get(format!("stays/{number}")).unwrap(), None, "stays/{number}");
        }
        done.store(true, Ordering::Relaxed);
    });
}

pub(crate) fn what_was_cleared_stays_away<F: Fixture>() {
    let fixture = F::new();
    {
        let engine = fixture.open();
        fill(&engine, "key", 3_000);
        engine.clear().unwrap();
        engine.set("after", "value").unwrap();
        engine.close().unwrap();
    }
    for _ in 0..2 {
        let engine = fixture.open();
        assert_eq!(engine.count().unwrap(), 1);
        assert_eq!(engine.get("after").unwrap(), Some(b"value".to_vec()));
        assert_eq!(engine.get("key/1").unwrap(), None);
        engine.close().unwrap();
    }
}
