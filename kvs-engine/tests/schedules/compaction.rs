//! Compaction beside writes, removals and reads: whoever writes meanwhile wins, and no read misses a value.

use kvs_engine::{KvStore, KvsEngine, Mutation};

use crate::answers::{Answers, get, get_after_power_loss, set};
use crate::disk::Disk;
use crate::{go, join, open, start_late, try_schedules};

/// A store in which `key` and `other` have an older value as well, so that there is something to compact.
fn store_with_dead_records(disk: &Disk) -> KvStore {
    let store = open(disk);
    for (key, value) in [("key", 1), ("other", 2), ("key", 3), ("other", 4)] {
        set(&store, disk, key, value).unwrap();
    }
    store
}

#[test]
fn a_write_that_races_with_the_move_wins() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = store_with_dead_records(&disk);
        let compactor = go(&store, |store| store.compact().unwrap());
        let writer = {
            let disk = disk.clone();
            go(&store, move |store| {
                start_late();
                set(store, &disk, "key", 5).unwrap();
            })
        };
        let reader = {
            let disk = disk.clone();
            go(&store, move |store| {
                let mut newest = 3;
                for _ in 0..3 {
                    let value = get(store, &disk, "key").expect("the key always has a value");
                    assert!(value >= newest && value != 4, "{value} after {newest}");
                    newest = value;
                    assert_eq!(get(store, &disk, "other"), Some(4));
                }
            })
        };
        join([compactor, writer, reader]);
        assert_eq!(get(&store, &disk, "key"), Some(5));
        assert_eq!(get_after_power_loss(&disk, "key"), Some(5));
        assert_eq!(get_after_power_loss(&disk, "other"), Some(4));
        store.close().unwrap();
    });
}

#[test]
fn a_removal_that_races_with_the_move_stays() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = store_with_dead_records(&disk);
        let compactor = go(&store, |store| {
            store.compact().unwrap();
            store.compact().unwrap();
        });
        let remover = {
            let disk = disk.clone();
            go(&store, move |store| {
                start_late();
                store.remove("key").unwrap();
                assert_eq!(get(store, &disk, "key"), None);
                store.remove("key").expect_err("it is gone");
            })
        };
        join([compactor, remover]);
        assert_eq!(get(&store, &disk, "key"), None);
        assert_eq!(get_after_power_loss(&disk, "key"), None);
        assert_eq!(get_after_power_loss(&disk, "other"), Some(4));
        store.close().unwrap();
    });
}

#[test]
fn a_batch_that_races_with_the_move_is_seen_whole() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = store_with_dead_records(&disk);
        let set = |key: &str, value: &str| Mutation::Set { key: key.into(), value: value.into() };
        let compactor = go(&store, |store| store.compact().unwrap());
        let writer = go(&store, move |store| {
            start_late();
            store.write_batch(vec![set("other", "5"), set("key", "6")]).unwrap();
        });
        join([compactor, writer]);
        store.compact().unwrap();
        for (key, value) in [("key", 6), ("other", 5)] {
            assert_eq!(get(&store, &disk, key), Some(value));
            assert_eq!(get_after_power_loss(&disk, key), Some(value));
        }
        store.close().unwrap();
    });
}

#[test]
fn a_power_loss_at_any_moment_of_a_compaction_loses_nothing() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = store_with_dead_records(&disk);
        let answers = Answers::new(&disk);
        let compactor = go(&store, |store| store.compact().unwrap());
        let writer = {
            let answers = answers.clone();
            go(&store, move |store| {
                start_late();
                answers.submit(store, "key", 5);
            })
        };
        start_late();
        let acknowledged = if answers.is_answered(5) { 5 } else { 3 };
        let value = get_after_power_loss(&disk, "key");
        assert!(value >= Some(acknowledged), "{acknowledged} was acknowledged, {value:?} is there");
        assert_eq!(get_after_power_loss(&disk, "other"), Some(4));
        join([compactor, writer]);
        store.close().unwrap();
    });
}
