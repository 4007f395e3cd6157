//! A batch of the `kvs` engine lies in several lines of its log, and still takes effect as a whole or not at all.

use std::sync::Arc;

use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{Error, KvStore, KvsEngine, Mutation, Options};

fn open(storage: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(storage.clone()), Options { segment_bytes: 16 * 1024, ..Options::default() })
}

/// A batch of some twenty lines: `count` sets that say `word`, and the removal of a key.
fn batch(count: usize, word: &str) -> Vec<Mutation> {
    let set = |number| Mutation::Set {
        key: format!("key-{number}").into(),
        value: format!("{word} \"{}\"", "x".repeat(90)).into(),
    };
    (0..count).map(set).chain([Mutation::Remove { key: b"removed".to_vec() }]).collect()
}

/// How many keys of a batch say a word, and whether its removal happened.
fn seen(store: &KvStore, count: usize, word: &str) -> (usize, bool) {
    let says = |number: &usize| {
        let value = store.get(format!("key-{number}")).expect("readable");
        value.is_some_and(|value| value.starts_with(word.as_bytes()))
    };
    ((0..count).filter(says).count(), store.get("removed").expect("readable").is_none())
}

/// The first segment's bytes up to its zeros.
fn used(storage: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = storage.open(name).expect("readable");
    let mut bytes = vec![0; usize::try_from(file.length().expect("readable")).expect("readable")];
    file.read_at(&mut bytes, 0).expect("readable");
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes
}

#[test]
fn a_batch_that_is_cut_anywhere_did_not_happen() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    store.set("removed", "still there").unwrap();
    let before = storage.after_kill();
    store.write_batch(batch(40, "new")).unwrap();
    let after = storage.after_kill();
    let name = "00000001.log";
    let (old, new) = (used(&before, name), used(&after, name));
    let lines = new[old.len()..].iter().filter(|byte| **byte == b'\n').count();
    assert!(lines > 4, "the batch has {lines} lines");
    // Every end of a line and its neighbours, and every seventh byte.
    let at_end = |cut: usize| new[cut.saturating_sub(2)..=cut].contains(&b'\n');
    for cut in (old.len()..new.len()).filter(|cut| cut % 7 == 0 || at_end(*cut)) {
        let disk = before.after_kill();
        disk.open(name).unwrap().write_at(&new[old.len()..cut], old.len() as u64).unwrap();
        let store = open(&disk).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(seen(&store, 40, "new"), (0, false), "cut at {cut}");
        assert_eq!(store.stats().torn_bytes, (cut - old.len()) as u64);
        // What was cut does not come back, nor is its place lost.
        if cut % 50 == 0 {
            store.write_batch(batch(40, "later")).unwrap();
            let store = open(&disk.after_kill()).unwrap();
            assert_eq!(seen(&store, 40, "later"), (40, true), "cut at {cut}");
        }
    }
    assert_eq!(seen(&open(&after).unwrap(), 40, "new"), (40, true));
}

/// A sector that never reached the disk, in the middle of a batch: torn if the batch was never durable.
#[test]
fn a_batch_with_a_hole_did_not_happen_and_a_durable_one_is_damaged() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    // Its manifest says what is durable; written later, it would say so of the batch.
    while store.stats().segments < 2 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    store.set("removed", "still there").unwrap();
    let start = used(&storage.after_kill(), "00000001.log").len();
    store.write_batch(batch(40, "new")).unwrap();
    let torn = storage.after_kill();
    store.set("behind", "says that the batch was durable").unwrap();
    let damaged = storage.after_kill();
    let hole = (start / 512 + 3) * 512;
    for disk in [&torn, &damaged] {
        disk.open("00000001.log").unwrap().write_at(&[0; 512], hole as u64).unwrap();
    }
    assert_eq!(seen(&open(&torn).unwrap(), 40, "new"), (0, false));
    let error = open(&damaged).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
}

#[test]
fn batches_survive_restarts_overwrites_and_compactions() {
    let storage = MemoryStorage::new();
    for round in 0..6 {
        let store = open(&storage).unwrap();
        store.set("removed", "there").unwrap();
        store.write_batch(batch(60, &format!("round {round}"))).unwrap();
        for number in (0..60).step_by(7) {
            store.set(format!("key-{number}"), format!("single {round}")).unwrap();
        }
        if round % 2 == 1 {
            store.compact().unwrap();
        }
        assert_eq!(seen(&store, 60, &format!("round {round}")), (51, true));
        assert_eq!(seen(&store, 60, &format!("single {round}")).0, 9);
        assert_eq!(store.stats().keys, 60);
        store.close().unwrap();
    }
    let store = open(&storage).unwrap();
    assert_eq!(seen(&store, 60, "round 5"), (51, true));
}

/// Of several mutations of one key in a batch the last one counts, at once and after a restart.
#[test]
fn the_last_word_of_a_batch_counts() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    let set = |value: String| Mutation::Set { key: b"key".to_vec(), value: value.into() };
    let mut mutations: Vec<_> = (0..100).map(|number| set(format!("value {number}"))).collect();
    mutations.extend([Mutation::Remove { key: b"key".to_vec() }, set("last".into())]);
    store.write_batch(mutations).unwrap();
    for store in [&store, &open(&storage.after_kill()).unwrap()] {
        assert_eq!(store.get("key").unwrap(), Some(b"last".to_vec()));
        assert_eq!(store.stats().keys, 1);
    }
}
