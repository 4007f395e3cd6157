//! Repair: every intact record is saved, the newest of each key decides, what is lost is said, and nothing is changed.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

use std::collections::BTreeMap;
use std::sync::Arc;

use kvs_engine::repair::{Then, plan_storage};
use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage, Storage};
use kvs_engine::verify::verify_storage;
use kvs_engine::{Error, KvStore, KvsEngine as _, Mutation, Options};

fn options() -> Options {
    Options { segment_bytes: 4 * 1024, compaction_threshold_bytes: u64::MAX, ..Options::default() }
}

fn open(disk: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(disk.clone()), options())
}

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(store: &KvStore) -> Contents {
    store.entries("").map(|entry| entry.unwrap()).map(|entry| (entry.key, entry.value.unwrap())).collect()
}

/// A closed store in several segments, and what is in it.
fn written() -> (MemoryStorage, Contents) {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    for number in 0..60 {
        store.set(format!("key-{number:02}"), format!("old {number} {}", "x".repeat(40))).unwrap();
    }
    for number in 20..40 {
        store.set(format!("key-{number:02}"), format!("new {number} {}", "y".repeat(40))).unwrap();
    }
    for number in 40..50 {
        store.remove(format!("key-{number:02}")).unwrap();
    }
    let batch = (0..40).map(|number| Mutation::Set { key: format!("b-{number}").into(), value: vec![0xfe; 60] });
    store.write_batch(batch.collect()).unwrap();
    let contents = contents(&store);
    store.close().unwrap();
    (disk, contents)
}

fn segments(disk: &MemoryStorage) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    names
}

fn content(disk: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Flips a bit in the value behind a text, in whichever segment has it.
fn damage(disk: &MemoryStorage, text: &str) {
    for name in segments(disk) {
        let bytes = content(disk, &name);
        if let Some(place) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            return disk.flip_bit(&name, (place + text.len()) as u64 * 8);
        }
    }
    panic!("{text} is in no segment");
}

fn saved(disk: &MemoryStorage) -> Contents {
    let plan = plan_storage(Arc::new(disk.clone())).unwrap();
    let target = MemoryStorage::new();
    let repaired = plan.save_into_storage(Arc::new(target.clone())).unwrap();
    assert_eq!(repaired.keys, plan.saved_keys);
    assert!(verify_storage(&target).unwrap().findings.is_empty());
    let mut entries = Contents::new();
    plan.entries(|entry| {
        entries.insert(entry.key, entry.value.unwrap());
        Ok(())
    })
    .unwrap();
    let contents = contents(&open(&target).unwrap());
    assert!(contents == entries);
    contents
}

#[test]
fn of_a_sound_store_nothing_is_lost() {
    let (disk, contents) = written();
    let plan = plan_storage(Arc::new(disk.clone())).unwrap();
    assert!(plan.losses.is_empty() && !plan.without_manifest, "{plan:?}");
    assert_eq!(plan.saved_keys, contents.len() as u64);
    drop(plan);
    assert!(saved(&disk) == contents);
    // Not even after the death of the process.
    let store = open(&disk).unwrap();
    store.set("later", "value").unwrap();
    let locked = plan_storage(Arc::new(disk.clone())).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    assert!(saved(&disk.after_kill()).contains_key(&b"later"[..]));
}

/// What a loss means for a key, case by case; and the damaged folder stays as it is.
#[test]
fn each_loss_is_told_with_what_becomes_of_its_keys() {
    for (text, key, was_removal, then) in [
        (r#""key-05","value":"old"#, "key-05", false, Then::Missing),
        (r#""key-25","value":"old"#, "key-25", false, Then::NothingIsLost),
        (r#""key-25","value":"new"#, "key-25", false, Then::OlderValue),
        (r#"{"rm":{"key":"key-45""#, "key-45", true, Then::RemovedKeyComesBack),
    ] {
        let (disk, contents) = written();
        damage(&disk, text);
        let before: Vec<_> = disk.list().unwrap().iter().map(|name| content(&disk, name)).collect();
        let plan = plan_storage(Arc::new(disk.clone())).unwrap();
        assert_eq!(plan.losses.len(), 1, "{plan:?}");
        let loss = &plan.losses[0];
        assert_eq!((loss.keys.len(), loss.others), (1, false), "{loss:?}");
        assert_eq!((loss.keys[0].key.as_str(), loss.keys[0].was_removal, loss.keys[0].then), (key, was_removal, then));
        assert!(loss.first_sequence > 0 && loss.first_sequence == loss.last_sequence, "{loss:?}");
        assert!(loss.finding.bytes > 50 && loss.finding.bytes < 200, "{loss:?}");
        drop(plan);

        let found = saved(&disk);
        let got = found.get(key.as_bytes());
        match then {
            Then::Missing => assert!(got.is_none()),
            Then::NothingIsLost => assert!(got == contents.get(key.as_bytes())),
            Then::OlderValue | Then::RemovedKeyComesBack => assert!(got.is_some_and(|value| value.starts_with(b"old"))),
        }
        let others = |contents: &Contents| contents.iter().filter(|(other, _)| *other != key.as_bytes()).count();
        assert_eq!(others(&found), others(&contents), "every other key is saved");
        let after: Vec<_> = disk.list().unwrap().iter().map(|name| content(&disk, name)).collect();
        assert!(before == after, "the damaged folder is left as it is");
    }
}

/// Wherever one bit flips: the repaired store has every key but those of the one damaged place.
#[test]
fn one_flipped_bit_costs_one_line() {
    let (disk, contents) = written();
    for name in segments(&disk) {
        for bit in (0..content(&disk, &name).len() as u64 * 8).step_by(1_201) {
            disk.flip_bit(&name, bit);
            let plan = plan_storage(Arc::new(disk.clone())).unwrap();
            assert!(!plan.losses.is_empty(), "{name} bit {bit}");
            let mut differing = contents.clone();
            plan.entries(|entry| {
                let value = entry.value.unwrap();
                if differing.get(&entry.key) == Some(&value) {
                    differing.remove(&entry.key);
                }
                Ok(())
            })
            .unwrap();
            // A line of a batch holds a dozen keys.
            assert!(differing.len() <= 12, "{name} bit {bit}: {} keys differ", differing.len());
            drop(plan);
            disk.flip_bit(&name, bit);
        }
    }
}

#[test]
fn a_missing_manifest_and_a_missing_segment_are_told() {
    let (disk, contents) = written();
    let without = disk.after_kill();
    without.remove("MANIFEST").unwrap();
    let plan = plan_storage(Arc::new(without.clone())).unwrap();
    assert!(plan.without_manifest && !plan.losses.is_empty(), "{plan:?}");
    drop(plan);
    assert!(saved(&without) == contents);

    let without = disk.after_kill();
    without.remove(&segments(&disk)[0]).unwrap();
    let plan = plan_storage(Arc::new(without)).unwrap();
    let loss = &plan.losses[0];
    assert!(loss.others && loss.first_sequence == 1 && loss.last_sequence > 10, "{loss:?}");
    assert!(plan.saved_keys < contents.len() as u64);
}

/// The checkpoint holds nothing that the log does not hold.
#[test]
fn a_damaged_checkpoint_is_no_loss() {
    let disk = MemoryStorage::new();
    let policy = Options { checkpoint_bytes: 1, ..options() };
    let store = KvStore::open_storage(Arc::new(disk.clone()), policy).unwrap();
    (0..60).for_each(|number| store.set(format!("key-{number}"), "value").unwrap());
    store.close().unwrap();
    drop(store);
    disk.flip_bit("CHECKPOINT", 8 * 300);
    assert!(!verify_storage(&disk).unwrap().is_sound(), "a file is not what was written");
    let plan = plan_storage(Arc::new(disk.clone())).unwrap();
    assert_eq!((plan.saved_keys, plan.losses.len()), (60, 0), "{plan:?}");
}

/// A repair that is cut short leaves a folder that is refused, not one with half of the keys.
/// The damaged folder stays beside the new one, on a volume that may be hardly larger than a store needs.
#[test]
fn a_small_store_is_repaired_in_little_space() {
    let disk = MemoryStorage::new();
    let store = KvStore::open_storage(Arc::new(disk.clone()), Options::default()).unwrap();
    store.set("key", "value").unwrap();
    let killed = disk.after_kill();
    let plan = plan_storage(Arc::new(killed.clone())).unwrap();
    let log_bytes: u64 = segments(&killed).iter().map(|name| killed.open(name).unwrap().length().unwrap()).sum();
    let target = MemoryStorage::new();
    target.set_capacity(Some(log_bytes / 3));
    plan.save_into_storage(Arc::new(target.clone())).unwrap();
    assert_eq!(contents(&open(&target).unwrap()).len(), 1);
}

#[test]
fn half_a_repair_does_not_open() {
    const EIO: i32 = 5;
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    for number in 0..40 {
        store.set(format!("key-{number}"), vec![b'x'; 100_000]).unwrap();
    }
    store.close().unwrap();
    drop(store);
    let plan = plan_storage(Arc::new(disk)).unwrap();
    let mut refused = 0;
    // Every third call of the repair, until there is none any more.
    for call in (2..).step_by(3) {
        let target = MemoryStorage::new();
        let fault = Fault { call, kind: FaultKind::Errno(EIO), for_ever: true };
        let faulty = FaultyStorage::new(Arc::new(target.clone()), Some(fault));
        let done = plan.save_into_storage(Arc::new(faulty.clone()));
        if faulty.calls() <= call {
            assert_eq!(done.unwrap().keys, 40);
            break;
        }
        let left = target.after_kill();
        match open(&left) {
            Ok(store) => assert_eq!(store.stats().keys, 40, "call {call}: half a repair opens"),
            Err(error) => {
                assert!(error.to_string().contains("repair again"), "call {call}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 3, "{refused} halves were refused");
}
