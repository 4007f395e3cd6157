//! Batches: in order, all or nothing, seen whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kvs_engine::limits::{DEFAULT_MAX_VALUE_BYTES, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS, MAX_KEY_BYTES};
use kvs_engine::{Error, KvsEngine, Mutation};

use crate::fixture::Fixture;
use crate::pipeline::{batch_remove, batch_set};

pub(crate) fn a_batch_applies_its_changes_in_order<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("old", "value").unwrap();
    engine
        .write_batch(vec![
            batch_set("key", "first"),
            batch_set("key", "second"),
            batch_remove("old"),
            batch_set("removed", "value"),
            batch_remove("removed"),
            batch_remove("restored"),
            batch_set("restored", "value"),
        ])
        .unwrap();
    assert_eq!(engine.get("key").unwrap(), Some(b"second".to_vec()));
    assert_eq!(engine.get("old").unwrap(), None);
    assert_eq!(engine.get("removed").unwrap(), None);
    assert_eq!(engine.get("restored").unwrap(), Some(b"value".to_vec()));
}

pub(crate) fn a_batch_may_remove_what_is_not_there<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.write_batch(vec![batch_remove("missing"), batch_set("key", "value")]).unwrap();
    assert_eq!(engine.get("key").unwrap(), Some(b"value".to_vec()));
    engine.write_batch(Vec::new()).unwrap();
    assert!(matches!(engine.remove("missing"), Err(Error::KeyNotFound)));
}

pub(crate) fn a_batch_over_a_limit_changes_nothing<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let with_first = |rest: Vec<Mutation>| {
        let mut batch = vec![batch_set("first", "of the batch")];
        batch.extend(rest);
        batch
    };
    let too_many = (0..MAX_BATCH_OPERATIONS).map(|number| batch_set(number.to_string(), "value")).collect();
    let values = MAX_BATCH_BYTES / DEFAULT_MAX_VALUE_BYTES;
    let too_much = (0..values).map(|number| batch_set(number.to_string(), vec![0; DEFAULT_MAX_VALUE_BYTES])).collect();
    let cases = [
        ("batch operations", too_many),
        ("batch", too_much),
        ("key", vec![batch_remove(vec![0; MAX_KEY_BYTES + 1])]),
        ("value", vec![batch_set("key", vec![0; DEFAULT_MAX_VALUE_BYTES + 1])]),
    ];
    for (limit, rest) in cases {
        let error = engine.write_batch(with_first(rest)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what, .. } if what == limit), "{limit}: {error}");
        assert_eq!(engine.get("first").unwrap(), None, "{limit}");
    }

    let most = (0..MAX_BATCH_OPERATIONS).map(|number| batch_set(number.to_string(), "value")).collect();
    engine.write_batch(most).unwrap();
    assert_eq!(engine.get((MAX_BATCH_OPERATIONS - 1).to_string()).unwrap(), Some(b"value".to_vec()));
}

/// A writer puts one number under several keys, batch by batch. Who has read a number under one key must not find an
/// older one under the next.
pub(crate) fn a_batch_is_seen_whole<F: Fixture>() {
    const KEYS: [&str; 4] = ["apple", "banana", "cherry", "date"];
    const BATCHES: u32 = 150;
    let fixture = F::new();
    let engine = fixture.open();
    let write = |number: u32| KEYS.iter().map(|key| batch_set(*key, number.to_le_bytes())).collect();
    engine.write_batch(write(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (engine, done) = (engine.clone(), &done);
            scope.spawn(move || {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    for position in 0..KEYS.len() {
                        let key = KEYS[(position + reader) % KEYS.len()];
                        let number = read_number(&engine, key);
                        assert!(number >= newest, "{key} is at {number}, another key was at {newest} before");
                        newest = number;
                    }
                }
            });
        }
        for number in 1..=BATCHES {
            engine.write_batch(write(number)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(KEYS.iter().all(|key| read_number(&engine, key) == BATCHES));
}

fn read_number(engine: &impl KvsEngine, key: &str) -> u32 {
    let bytes = engine.get(key).unwrap().expect("the key is never removed");
    u32::from_le_bytes(bytes.try_into().expect("four bytes were written"))
}
