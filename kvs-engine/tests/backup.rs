//! Backups: complete, consistent while the store serves, checked to the last bit, and never half of one.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

#[path = "support/hooked.rs"]
mod hooked;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hooked::Hooked;
use kvs_engine::backup::{restore, restore_storage};
use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage, Storage};
use kvs_engine::verify::{verify, verify_storage};
use kvs_engine::{Error, KvStore, KvsEngine, Mutation, Options};

fn options() -> Options {
    Options { segment_bytes: 4 * 1024, compaction_threshold_bytes: 8 * 1024, ..Options::default() }
}

fn open(disk: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(disk.clone()), options())
}

/// Everything that a store holds.
fn contents(store: &KvStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    store.entries("").map(|entry| entry.unwrap()).map(|entry| (entry.key, entry.value.unwrap())).collect()
}

fn fill(store: &KvStore, keys: u32) {
    for number in 0..keys {
        store.set(format!("key-{number}"), format!("value {number} {}", "x".repeat(80))).unwrap();
    }
    for number in (0..keys).step_by(3) {
        store.remove(format!("key-{number}")).unwrap();
    }
    let batch = (0..40).map(|number| Mutation::Set { key: format!("b-{number}").into(), value: vec![0xff; 50] });
    store.write_batch(batch.collect()).unwrap();
}

#[test]
fn a_backup_opens_verifies_and_restores() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    fill(&store, 100);
    disk.create("identity.json").unwrap().write_at(b"{}", 0).unwrap();
    let target = MemoryStorage::new();
    let backup = store.backup_storage(&target, &["identity.json", "not-there"]).unwrap();
    assert!(backup.records > 50 && backup.files >= 4 && backup.linked_files == 0, "{backup:?}");
    let wanted = contents(&store);

    let report = verify_storage(&target).unwrap();
    assert!(report.is_sound() && report.findings.is_empty(), "{report:?}");
    assert!(report.records == backup.records && report.last_sequence <= backup.last_sequence);

    let restored = MemoryStorage::new();
    let done = restore_storage(&target, &restored).unwrap();
    assert_eq!((done.last_sequence, done.records), (backup.last_sequence, backup.records));
    assert!(!restored.list().unwrap().contains(&"BACKUP".to_owned()), "it is a store and no backup");
    assert!(restored.list().unwrap().contains(&"identity.json".to_owned()));
    assert!(verify_storage(&restored).unwrap().findings.is_empty());
    let again = open(&restored.after_power_loss(|| false)).unwrap();
    assert!(contents(&again) == wanted);
    again.set("later", "goes on").unwrap();

    // Opened in its place it is a store from then on.
    let opened = open(&target).unwrap();
    assert!(contents(&opened) == wanted);
    opened.set("later", "goes on").unwrap();
    opened.close().unwrap();
    drop(opened);
    assert!(verify_storage(&target).unwrap().is_sound());
    let error = restore_storage(&target, &MemoryStorage::new()).unwrap_err();
    assert!(matches!(error, Error::WrongFolder { .. }) && error.to_string().contains("holds no backup"), "{error}");
}

#[test]
fn an_empty_store_has_a_backup_too() {
    let (disk, target, restored) = (MemoryStorage::new(), MemoryStorage::new(), MemoryStorage::new());
    let store = open(&disk).unwrap();
    assert_eq!(store.backup_storage(&target, &[]).unwrap().records, 0);
    restore_storage(&target, &restored).unwrap();
    assert!(contents(&open(&restored).unwrap()).is_empty());
    store.close().unwrap();
    assert!(matches!(store.backup_storage(&MemoryStorage::new(), &[]), Err(Error::Closed)));
}

/// On a real file system sealed segments are links. The source goes on, compacts, restarts and writes where it can:
/// the backup stays what it was, to the bit.
#[test]
fn links_are_never_written_again_by_the_source() {
    let here = tempfile::tempdir().unwrap();
    let (source, target) = (here.path().join("source"), here.path().join("backup"));
    let store = KvStore::open_with(&source, options()).unwrap();
    fill(&store, 200);
    let backup = store.backup(&target, &[]).unwrap();
    assert!(backup.linked_files > 2, "{backup:?}");
    let linked =
        std::fs::read_dir(&target).unwrap().filter(|entry| entry.as_ref().unwrap().metadata().unwrap().nlink() > 1);
    let linked = linked.count() as u64;
    // A compaction may have taken the name of one away from the source since.
    assert!(linked > 2 && linked <= backup.linked_files, "{linked} of {}", backup.linked_files);
    let wanted = contents(&store);
    store.compact().unwrap();
    store.close().unwrap();
    drop(store);
    for round in 1..4 {
        let store = KvStore::open_with(&source, options()).unwrap();
        fill(&store, 30 * round);
        store.compact().unwrap();
        store.close().unwrap();
        drop(store);
        let report = verify(&target).unwrap();
        assert!(report.findings.is_empty(), "round {round}: {report:?}");
    }
    // And who opens the backup in its place leaves the source alone.
    let second = here.path().join("second");
    let store = KvStore::open_with(&source, options()).unwrap();
    store.backup(&second, &[]).unwrap();
    let of_source = contents(&store);
    store.close().unwrap();
    drop(store);
    let opened = KvStore::open_with(&second, options()).unwrap();
    fill(&opened, 200);
    opened.compact().unwrap();
    opened.close().unwrap();
    drop(opened);
    assert!(verify(&source).unwrap().findings.is_empty());
    assert!(contents(&KvStore::open_with(&source, options()).unwrap()) == of_source);

    let restored = here.path().join("restored");
    restore(&target, &restored).unwrap();
    assert!(contents(&KvStore::open_with(&restored, options()).unwrap()) == wanted);
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A sealed segment that an opening goes on with is a copy: here the last one, less than half full.
#[test]
fn the_segment_that_an_opening_goes_on_with_is_copied() {
    let here = tempfile::tempdir().unwrap();
    let (source, target) = (here.path().join("source"), here.path().join("backup"));
    let store = KvStore::open_with(&source, options()).unwrap();
    for number in 0..5 {
        store.set(format!("key-{number}"), "value").unwrap();
    }
    // Seals the segment that takes appends; nothing in it is dead, so it stays.
    store.compact().unwrap();
    let backup = store.backup(&target, &[]).unwrap();
    assert_eq!((backup.records, backup.linked_files), (5, 0));
    store.close().unwrap();
    drop(store);
    let store = KvStore::open_with(&source, options()).unwrap();
    store.set("later", "in the same segment").unwrap();
    assert!(verify(&target).unwrap().findings.is_empty(), "the source wrote into the backup");
}

/// Writers, batches and compactions go on meanwhile: what was acknowledged before is there, batches are whole, and a
/// key's value is one that it had.
#[test]
fn a_backup_beside_writers_is_consistent() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let write = |number: u64| {
        let set = |key: &str| Mutation::Set { key: key.into(), value: number.to_string().into() };
        store.write_batch(vec![set("one"), set("two"), set("three")]).unwrap();
        acknowledged.store(number, Ordering::SeqCst);
    };
    write(1);
    std::thread::scope(|scope| {
        scope.spawn(|| (2..).take_while(|_| !done.load(Ordering::SeqCst)).for_each(write));
        scope.spawn(|| {
            (0..).take_while(|_| !done.load(Ordering::SeqCst)).for_each(|number: u64| {
                // No faster than compactions follow, or each backup is larger than the one before.
                while store.stats().segments > 60 && !done.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                store.set(format!("noise-{}", number % 20), format!("{number} {}", "x".repeat(200))).unwrap();
            });
        });
        // Also when the test ends at the unexpected.
        let _end = SetWhenDropped(&done);
        let mut compactions = 0;
        for round in 0..30 {
            let before = acknowledged.load(Ordering::SeqCst);
            let target = MemoryStorage::new();
            store.backup_storage(&target, &[]).unwrap_or_else(|error| panic!("round {round}: {error}"));
            let report = verify_storage(&target).unwrap();
            assert!(report.findings.is_empty(), "round {round}: {report:?}");
            let found = open(&target).unwrap();
            let values = ["one", "two", "three"].map(|key| {
                let value = found.get(key).unwrap().expect("it was set before");
                String::from_utf8(value).unwrap().parse::<u64>().unwrap()
            });
            assert!(values[0] >= before, "round {round}: {before} was acknowledged, {} is there", values[0]);
            assert!(values.iter().all(|value| *value == values[0]), "round {round}: half a batch: {values:?}");
            compactions = store.stats().compactions;
        }
        assert!(compactions > 0, "only {compactions} compactions");
    });
}

/// While a backup copies one segment after the other, compactions take them away and write their own files: not into
/// those that are still to be copied.
#[test]
fn a_backup_has_what_compactions_take_away_meanwhile() {
    let disk = MemoryStorage::new();
    let store =
        KvStore::open_storage(Arc::new(disk.clone()), Options { compaction_threshold_bytes: u64::MAX, ..options() })
            .unwrap();
    fill(&store, 200);
    let wanted = contents(&store);
    let (target, rounds) = (MemoryStorage::new(), Arc::new(AtomicU64::new(0)));
    let compacting = {
        let (store, rounds) = (store.clone(), Arc::clone(&rounds));
        Hooked::new(&target, move |call, name| {
            if call == "create" && name.ends_with(".log") {
                // Some of each segment stays, so that there is something to write.
                let round = rounds.fetch_add(1, Ordering::SeqCst);
                (0..200).step_by(5).for_each(|key| store.set(format!("key-{key}"), format!("later {round}")).unwrap());
                store.compact().unwrap();
            }
            Ok(())
        })
    };
    store.backup_storage(compacting.as_ref(), &[]).unwrap();
    assert!(rounds.load(Ordering::SeqCst) > 3, "a backup of some segments");
    assert!(verify_storage(&target).unwrap().findings.is_empty());
    assert!(contents(&open(&target).unwrap()) == wanted);
}

/// Every bit of a small backup: none passes a verification or a restore.
#[test]
fn every_flipped_bit_of_a_backup_is_noticed() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    for number in 0..6 {
        store.set(format!("key-{number}"), format!("value {number}")).unwrap();
    }
    disk.create("identity.json").unwrap().write_at(b"{\"version\":1}", 0).unwrap();
    let target = MemoryStorage::new();
    store.backup_storage(&target, &["identity.json"]).unwrap();
    let mut flips = 0;
    for name in target.list().unwrap() {
        for bit in 0..target.open(&name).unwrap().length().unwrap() * 8 {
            target.flip_bit(&name, bit);
            let report = verify_storage(&target).unwrap();
            assert!(!report.is_sound(), "{name} bit {bit} passed a verification");
            let restored = MemoryStorage::new();
            let error = restore_storage(&target, &restored).expect_err("a damaged backup is not restored");
            assert!(matches!(error, Error::Corruption { .. }), "{name} bit {bit}: {error}");
            assert!(restored.list().unwrap().is_empty(), "{name} bit {bit}: {:?}", restored.list());
            target.flip_bit(&name, bit);
            flips += 1;
        }
    }
    assert!(flips > 8_000, "only {flips} bits were flipped");
    restore_storage(&target, &MemoryStorage::new()).unwrap();
}

#[test]
fn a_missing_file_of_a_backup_is_noticed() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    fill(&store, 60);
    let target = MemoryStorage::new();
    store.backup_storage(&target, &[]).unwrap();
    for name in target.list().unwrap() {
        let damaged = target.after_kill();
        damaged.remove(&name).unwrap();
        assert!(restore_storage(&damaged, &MemoryStorage::new()).is_err(), "{name}");
        // Without its list it is a plain store.
        assert_eq!(verify_storage(&damaged).unwrap().is_sound(), name == "BACKUP", "{name}");
    }
}

/// A damaged source gives no backup: it is read and checked on the way.
#[test]
fn a_damaged_store_gives_no_backup() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    fill(&store, 100);
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
    disk.flip_bit(&name, 300 * 8);
    let target = MemoryStorage::new();
    let error = store.backup_storage(&target, &[]).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
    assert!(restore_storage(&target, &MemoryStorage::new()).is_err());
}

#[test]
fn a_folder_with_anything_in_it_is_refused() {
    let here = tempfile::tempdir().unwrap();
    let folder = |name: &str| here.path().join(name);
    let store = KvStore::open(folder("source")).unwrap();
    store.set("key", "value").unwrap();
    std::fs::create_dir(folder("full")).unwrap();
    std::fs::write(folder("full").join("notes.txt"), "mine").unwrap();
    for error in [store.backup(folder("full"), &[]).unwrap_err(), store.backup(folder("source"), &[]).unwrap_err()] {
        assert!(matches!(error, Error::WrongFolder { .. } | Error::Locked { .. }), "{error}");
    }
    store.backup(folder("backup"), &[]).unwrap();
    let error = restore(folder("backup"), folder("full")).unwrap_err();
    assert!(error.to_string().contains("is not empty (notes.txt is there)"), "{error}");
    assert!(matches!(restore(folder("backup"), folder("source")).unwrap_err(), Error::Locked { .. }));
    assert!(matches!(restore(folder("full"), folder("new")).unwrap_err(), Error::WrongFolder { .. }));
    assert!(!folder("new").exists());
}

/// The way of a backup and of a restore, cut short at every call by a failure, a crash and a loss of power: what is
/// there then is all of it, or does not open, or is empty.
#[test]
fn half_a_backup_never_opens() {
    const EIO: i32 = 5;
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    fill(&store, 60);
    let wanted = contents(&store);
    let whole = MemoryStorage::new();
    store.backup_storage(&whole, &[]).unwrap();
    for restoring in [false, true] {
        let run = |fault| {
            let target = MemoryStorage::new();
            let faulty = FaultyStorage::new(Arc::new(target.clone()), fault);
            let done = match restoring {
                false => store.backup_storage(&faulty, &[]).map(drop),
                true => restore_storage(&whole, &faulty).map(drop),
            };
            (target, faulty.calls(), done.is_ok())
        };
        let (mut complete, mut refused) = (0, 0);
        // Until there is no such call any more: the store's own threads may change between two runs how many there are.
        for call in 0.. {
            // For ever, as after the death of the process: nothing is cleaned up.
            let (target, calls, done) = run(Some(Fault { call, kind: FaultKind::Errno(EIO), for_ever: true }));
            if calls <= call {
                assert!(done && call > 15, "{call} calls");
                break;
            }
            assert!(!done, "call {call} failed and nobody said so");
            let mut seed = call;
            let power_loss = target.after_power_loss(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 33 & 1 == 0
            });
            for left in [target.after_kill(), target.after_power_loss(|| false), power_loss] {
                if left.list().unwrap().is_empty() {
                    continue;
                }
                match open(&left) {
                    Ok(store) => {
                        assert!(contents(&store) == wanted, "call {call}: {:?}", left.list());
                        complete += 1;
                    }
                    Err(Error::Corruption { .. }) => refused += 1,
                    Err(error) => panic!("call {call}: {error}"),
                }
            }
        }
        assert!(refused > 10 && complete > 0, "{refused} refused, {complete} complete");
    }
}
