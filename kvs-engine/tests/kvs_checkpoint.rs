//! The checkpoint of the index: it saves reading the log, and never says anything that the log does not say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{Error, KvStore, KvsEngine, Mutation, Options};

const NAME: &str = "CHECKPOINT";

fn open(storage: &MemoryStorage) -> KvStore {
    let (segment_bytes, checkpoint_bytes) = (8 * 1024, 6 * 1024);
    let options =
        Options { segment_bytes, checkpoint_bytes, compaction_threshold_bytes: 4 * 1024, ..Options::default() };
    KvStore::open_storage(Arc::new(storage.clone()), options).expect("a store that opens")
}

/// A store of small segments that compacts only when it is told to.
fn open_small(storage: &MemoryStorage, checkpoint_bytes: u64) -> KvStore {
    let (segment_bytes, compaction_threshold_bytes) = (4 * 1024, u64::MAX);
    let options = Options { segment_bytes, checkpoint_bytes, compaction_threshold_bytes, ..Options::default() };
    KvStore::open_storage(Arc::new(storage.clone()), options).expect("a store that opens")
}

type Model = BTreeMap<String, String>;

/// Changes some of 200 keys, by single operations and batches; `round` decides which.
fn work(store: &KvStore, model: &mut Model, round: u64) {
    for step in 0..60_u64 {
        let number = (round * 7919 + step * 104_729) % 200;
        let key = format!("key-{number}");
        if step % 5 == 4 {
            match store.remove(key.as_str()) {
                Ok(()) => assert!(model.remove(&key).is_some()),
                Err(error) => assert!(matches!(error, Error::KeyNotFound) && !model.contains_key(&key)),
            }
        } else if step % 7 == 3 {
            let mutations = (0..12).map(|at| {
                let key = format!("key-{}", (number + at * 11) % 200);
                let value = format!("batch {round} {step} {}", "x".repeat(80));
                model.insert(key.clone(), value.clone());
                Mutation::Set { key: key.into(), value: value.into() }
            });
            store.write_batch(mutations.collect()).expect("written");
        } else {
            let value = format!("value {round} {step} {}", "y".repeat(60));
            store.set(key.as_str(), value.as_str()).expect("written");
            model.insert(key, value);
        }
    }
}

fn check(store: &KvStore, model: &Model, context: &str) {
    for number in 0..200 {
        let key = format!("key-{number}");
        let found = store.get(key.as_str()).expect("readable").map(|value| String::from_utf8(value).expect("text"));
        assert_eq!(found.as_ref(), model.get(&key), "{context}: {key}");
    }
    assert_eq!(store.stats().keys, model.len() as u64, "{context}");
}

/// Waits until the store has written a checkpoint since it was opened.
fn wait_for_checkpoint(store: &KvStore) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.stats().checkpoints == 0 {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn content_of(storage: &MemoryStorage) -> Vec<u8> {
    let file = storage.open(NAME).expect("there is a checkpoint");
    let mut bytes = vec![0; usize::try_from(file.length().expect("known")).expect("small")];
    file.read_at(&mut bytes, 0).expect("readable");
    bytes
}

fn put(storage: &MemoryStorage, content: &[u8]) {
    let _ = storage.remove(NAME);
    storage.create(NAME).expect("created").write_at(content, 0).expect("written");
}

/// Restarts after a clean end, a kill and a loss of power, each with a checkpoint in between.
#[test]
fn a_store_with_checkpoints_loses_nothing_however_it_ends() {
    let mut disk = MemoryStorage::new();
    let mut model = Model::new();
    let mut checkpoints = 0;
    for round in 0..45 {
        let store = open(&disk);
        check(&store, &model, &format!("round {round}"));
        work(&store, &mut model, round);
        if round % 4 == 3 {
            store.compact().unwrap();
        }
        checkpoints += store.stats().checkpoints;
        disk = match round % 3 {
            0 => {
                store.close().unwrap();
                disk.after_kill()
            }
            1 => disk.after_kill(),
            _ => {
                let mut flip = false;
                disk.after_power_loss(|| {
                    flip = !flip;
                    flip
                })
            }
        };
    }
    assert!(checkpoints > 20, "only {checkpoints} checkpoints were written");
    check(&open(&disk), &model, "the end");
}

/// Every checkpoint that the log ever had fits it, whatever was compacted and removed since.
#[test]
fn an_old_checkpoint_says_nothing_wrong() {
    let disk = MemoryStorage::new();
    let mut model = Model::new();
    let mut old: Vec<Vec<u8>> = Vec::new();
    for round in 0..12 {
        let store = open(&disk);
        work(&store, &mut model, round);
        wait_for_checkpoint(&store);
        if round % 3 == 2 {
            store.compact().unwrap();
        }
        store.close().unwrap();
        old.push(content_of(&disk));
    }
    for (age, content) in old.iter().rev().enumerate() {
        let copy = disk.after_kill();
        put(&copy, content);
        let store = open(&copy);
        check(&store, &model, &format!("a checkpoint of {age} rounds ago"));
        if age == 0 {
            assert_eq!(store.stats().replayed_bytes, 0, "the newest one saves reading the log");
        } else {
            assert!(store.stats().replayed_bytes > 0);
        }
        let mut model = model.clone();
        work(&store, &mut model, 99);
        store.compact().unwrap();
        check(&store, &model, "after more work");
    }
}

#[test]
fn a_checkpoint_with_any_flipped_bit_is_not_used() {
    let disk = MemoryStorage::new();
    let mut model = Model::new();
    let store = open(&disk);
    for number in 0..20 {
        model.insert(format!("key-{number}"), "value".into());
        store.set(format!("key-{number}"), "value").unwrap();
    }
    work(&store, &mut model, 1);
    store.close().unwrap();
    let bits = content_of(&disk).len() as u64 * 8;
    // Opening a store for each of them takes a while: every bit of the lines and of some blocks, else one in 37 in the
    // short version.
    let is_full = std::env::var("KVS_TORTURE").is_ok_and(|value| value == "full");
    let step = |bit: u64| if is_full || bit < 1600 || bit > bits - 1600 { 1 } else { 37 };
    let mut bit = 0;
    while bit < bits {
        let copy = disk.after_kill();
        copy.flip_bit(NAME, bit);
        let store = open(&copy);
        assert!(store.stats().replayed_bytes > 0, "bit {bit}: a damaged checkpoint was used");
        if bit % 101 == 0 {
            check(&store, &model, &format!("bit {bit}"));
        }
        bit += step(bit);
    }
}

#[test]
fn the_checkpoint_of_another_store_is_not_used() {
    let (one, other) = (MemoryStorage::new(), MemoryStorage::new());
    let mut model = Model::new();
    let mut other_model = Model::new();
    for (disk, model, round) in [(&one, &mut model, 1), (&other, &mut other_model, 2)] {
        let store = open(disk);
        work(&store, model, round);
        store.close().unwrap();
    }
    put(&one, &content_of(&other));
    let store = open(&one);
    assert!(store.stats().replayed_bytes > 0);
    check(&store, &model, "with another store's checkpoint");
}

/// A full disk has no room for a checkpoint: it is left out, and what it would have saved is read.
#[test]
fn a_full_disk_costs_the_checkpoint_and_nothing_else() {
    let disk = MemoryStorage::new();
    let mut model = Model::new();
    let store = open(&disk);
    work(&store, &mut model, 1);
    store.close().unwrap();
    drop(store);
    let store = open(&disk);
    let used: u64 = disk.list().unwrap().iter().map(|name| disk.open(name).unwrap().length().unwrap()).sum();
    disk.set_capacity(Some(used + 40 * 1024));
    for round in 2..40 {
        for step in 0..40 {
            let key = format!("key-{}", (round * 31 + step) % 200);
            let value = format!("{round} {step} {}", "z".repeat(100));
            match store.set(key.as_str(), value.as_str()) {
                Ok(()) => drop(model.insert(key, value)),
                Err(error) => assert!(matches!(error, Error::NoSpace), "{error}"),
            }
        }
    }
    check(&store, &model, "on a full disk");
    drop(store);
    disk.set_capacity(None);
    check(&open(&disk), &model, "later");
}

/// Writers go on while checkpoints are written; what a kill then leaves has all that they were told.
#[test]
fn writes_beside_a_checkpoint_are_not_lost() {
    let disk = MemoryStorage::new();
    for round in 0..6_u64 {
        let store = open(&disk);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let store = &store;
                scope.spawn(move || {
                    for step in 0..120 {
                        let key = format!("{thread}-{}", step % 40);
                        if step % 9 == 8 && store.get(key.as_str()).unwrap().is_some() {
                            store.remove(key.as_str()).unwrap();
                            store.set(key.as_str(), format!("{round} again")).unwrap();
                        } else {
                            store.set(key.as_str(), format!("{round} {step} {}", "w".repeat(50))).unwrap();
                        }
                    }
                });
            }
        });
        wait_for_checkpoint(&store);
        let copy = open(&disk.after_kill());
        for thread in 0..4 {
            for number in 0..40 {
                let key = format!("{thread}-{number}");
                assert_eq!(copy.get(key.as_str()).unwrap(), store.get(key.as_str()).unwrap(), "{key}");
                assert!(
                    store
                        .get(key.as_str())
                        .unwrap()
                        .is_some_and(|value| value.starts_with(round.to_string().as_bytes()))
                );
            }
        }
        assert_eq!(copy.stats().keys, 160);
        store.close().unwrap();
    }
}

/// By policy nothing is synced, and the power fails after a checkpoint was written: what it says of the log was made
/// durable first, or the log that is left would lack what the checkpoint calls durable.
#[test]
fn a_checkpoint_says_nothing_that_is_not_durable() {
    let storage = MemoryStorage::new();
    let policy = Options { sync: kvs_engine::SyncPolicy::Os, checkpoint_bytes: 1, ..Options::default() };
    let open = |disk: &MemoryStorage| KvStore::open_storage(Arc::new(disk.clone()), policy.clone());
    let store = open(&storage).unwrap();
    let mut written = 0;
    while store.stats().checkpoints == 0 {
        store.set(format!("key-{written}"), "value").unwrap();
        written += 1;
    }
    let found = open(&storage.after_power_loss(|| false)).expect("a legal crash is never refused");
    assert!(found.stats().keys > 0 && found.stats().keys <= written);
}

/// A checkpoint calls segments by their numbers. When all of them are gone and new ones come, none may get a number that
/// the checkpoint still knows: it would point into the middle of other records.
#[test]
fn a_checkpoint_never_mistakes_a_new_segment_for_one_that_is_gone() {
    let storage = MemoryStorage::new();
    let open = |checkpoint_bytes| open_small(&storage, checkpoint_bytes);
    let key = |number: u64| format!("key-{number}");

    let store = open(1);
    (0..60).for_each(|number| store.set(key(number), "a".repeat(100)).expect("written"));
    store.close().expect("closed, with a checkpoint");
    drop(store);
    let checkpoint = content_of(&storage);

    // From here on no checkpoint is due. Everything that the last one knows of goes.
    let store = open(u64::MAX);
    (0..60).for_each(|number| store.remove(key(number)).expect("removed"));
    store.compact().expect("compacted");
    store.compact().expect("compacted, with the removals");
    store.close().expect("closed");
    drop(store);
    let store = open(u64::MAX);
    (100..160).for_each(|number| store.set(key(number), "b".repeat(77)).expect("written"));
    store.close().expect("closed");
    drop(store);
    assert_eq!(content_of(&storage), checkpoint, "it is still the old checkpoint");

    let store = open(u64::MAX);
    for number in 0..160 {
        let wanted = (number >= 100).then(|| "b".repeat(77).into_bytes());
        assert_eq!(store.get(key(number)).expect("readable"), wanted, "key {number}");
    }
    assert_eq!(store.stats().keys, 60);
}

/// A checkpoint that can't be read once, because a disk gave wrong bytes, and can be later: meanwhile its numbers were
/// given to new segments.
#[test]
fn a_checkpoint_that_was_not_used_once_is_never_used_again() {
    let storage = MemoryStorage::new();
    let open = |checkpoint_bytes| open_small(&storage, checkpoint_bytes);
    let key = |number: u64| format!("key-{number}");

    let store = open(1);
    (0..60).for_each(|number| store.set(key(number), "a".repeat(100)).expect("written"));
    store.close().expect("closed, with a checkpoint");
    drop(store);
    let checkpoint = content_of(&storage);
    let store = open(u64::MAX);
    (0..60).for_each(|number| store.remove(key(number)).expect("removed"));
    store.compact().expect("compacted");
    store.compact().expect("compacted, with the removals");
    store.close().expect("closed");
    drop(store);

    storage.flip_bit(NAME, 8 * 1000);
    // Here the whole log is read.
    let store = open(u64::MAX);
    (100..160).for_each(|number| store.set(key(number), "b".repeat(77)).expect("written"));
    (100..130).for_each(|number| store.set(key(number), "b".repeat(78)).expect("written"));
    store.compact().expect("compacted");
    store.close().expect("closed");
    drop(store);
    if storage.list().expect("listed").iter().any(|name| name == NAME) {
        put(&storage, &checkpoint);
    }

    let store = open(u64::MAX);
    for number in 0..160 {
        let wanted = (number >= 100).then(|| "b".repeat(if number < 130 { 78 } else { 77 }).into_bytes());
        assert_eq!(store.get(key(number)).expect("readable"), wanted, "key {number}");
    }
    assert_eq!(store.stats().keys, 60);
}
