//! Verification says "damaged" exactly when an opening would be refused, and says all of it.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvs_engine::repair::plan_storage;
use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::verify::{FindingKind, Report, verify, verify_storage};
use kvs_engine::{Error, KvStore, KvsEngine as _, Mutation, Options, SyncPolicy};

fn options() -> Options {
    Options { segment_bytes: 4 * 1024, compaction_threshold_bytes: u64::MAX, ..Options::default() }
}

fn open(disk: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(disk.clone()), options())
}

/// A store with a compacted, a sealed and an open segment.
fn written(disk: &MemoryStorage) -> KvStore {
    let store = open(disk).unwrap();
    for number in 0..40 {
        store.set(format!("key-{number}"), format!("value {number} {}", "x".repeat(60))).unwrap();
    }
    for number in 0..20 {
        store.remove(format!("key-{number}")).unwrap();
    }
    store.compact().unwrap();
    for number in 30..65 {
        store.set(format!("key-{number}"), format!("newer {number} {}", "y".repeat(60))).unwrap();
    }
    let batch = ["a", "b"].map(|key| Mutation::Set { key: key.into(), value: b"\xff".to_vec() });
    store.write_batch(batch.to_vec()).unwrap();
    store
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn length(disk: &MemoryStorage, name: &str) -> u64 {
    disk.open(name).unwrap().length().unwrap()
}

/// What an opening of a copy says: refused as corrupt, or open with so many bytes cut.
fn opening(disk: &MemoryStorage) -> Result<u64, ()> {
    match open(&disk.after_kill()) {
        Ok(store) => Ok(store.stats().torn_bytes),
        Err(Error::Corruption { .. }) => Err(()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_sound_store_is_sound_closed_killed_and_open() {
    let disk = MemoryStorage::new();
    let store = written(&disk);
    let report = store.verify().unwrap();
    assert!(report.is_sound() && report.findings.is_empty(), "{report:?}");
    assert!(report.records > 50 && report.files >= 4, "{report:?}");
    let locked = verify_storage(&disk).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");

    let killed = verify_storage(&disk.after_kill()).unwrap();
    assert!(killed.is_sound(), "{killed:?}");
    let last_sequence = killed.last_sequence;
    store.close().unwrap();
    drop(store);
    let closed = verify_storage(&disk).unwrap();
    assert!(closed.is_sound() && closed.findings.is_empty(), "{closed:?}");
    assert_eq!((closed.records, closed.last_sequence), (report.records, last_sequence));
    let total: u64 = disk.list().unwrap().iter().map(|name| length(&disk, name)).sum();
    assert_eq!(closed.bytes, total, "every byte of every file was read");
}

/// Every bit of every file, one by one: none goes unnoticed, and damaged for the one is damaged for the other.
#[test]
fn verification_and_opening_agree_about_every_flipped_bit() {
    for killed in [false, true] {
        let disk = MemoryStorage::new();
        let store = open(&disk).unwrap();
        for number in 0..5 {
            store.set(format!("key-{number}"), format!("value {number}")).unwrap();
        }
        store.remove("key-3").unwrap();
        store.flush().unwrap();
        let disk = if killed {
            disk.after_kill()
        } else {
            store.close().unwrap();
            disk
        };
        let mut damaged = 0;
        for name in disk.list().unwrap() {
            let bits = length(&disk, &name) * 8;
            let records = if name.ends_with(".log") { 900 * 8 } else { 512 * 8 };
            for bit in (0..bits).filter(|bit| *bit < records || bit % 1009 == 0) {
                disk.flip_bit(&name, bit);
                let report = verify_storage(&disk.after_kill()).unwrap_or_else(|error| panic!("{name} {bit}: {error}"));
                damaged += u32::from(!report.is_sound());
                assert!(!report.findings.is_empty(), "{name} bit {bit} flipped, and not a word");
                // An opening takes a hundred times as long.
                if bit % 61 != 0 {
                    disk.flip_bit(&name, bit);
                    continue;
                }
                match opening(&disk) {
                    Err(()) => {
                        assert!(!report.is_sound(), "{name} bit {bit}: an opening is refused");
                    }
                    Ok(torn_bytes) => {
                        assert!(report.is_sound(), "{name} bit {bit}: it opens, and verification says {report:?}");
                        let torn = kinds(&report).contains(&FindingKind::TornTail);
                        assert_eq!(torn, torn_bytes > 0, "{name} bit {bit}: {report:?}");
                    }
                }
                disk.flip_bit(&name, bit);
            }
        }
        assert!(damaged > 5_000, "only {damaged} flips were damage");
    }
}

/// A batch that is a group of lines, of which the process wrote only a part: torn as a whole, for both.
#[test]
fn a_torn_group_is_judged_as_an_opening_does() {
    let disk = MemoryStorage::new();
    let store =
        KvStore::open_storage(Arc::new(disk.clone()), Options { segment_bytes: 16 * 1024, ..options() }).unwrap();
    store.set("before", "stays").unwrap();
    let before = disk.after_kill();
    let batch = (0..60).map(|number| Mutation::Set { key: format!("key-{number}").into(), value: vec![b'v'; 60] });
    store.write_batch(batch.collect()).unwrap();
    let after = disk.after_kill();
    let content = |disk: &MemoryStorage| {
        let mut bytes = vec![0; 16 * 1024];
        disk.open("00000001.log").unwrap().read_at(&mut bytes, 0).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        (bytes, end)
    };
    let ((_, start), (new, end)) = (content(&before), content(&after));
    assert!(new[start..end].iter().filter(|byte| **byte == b'\n').count() > 3, "a group of lines");
    for cut in (start + 1..end).step_by(37) {
        let torn = before.after_kill();
        torn.open("00000001.log").unwrap().write_at(&new[start..cut], start as u64).unwrap();
        let report = verify_storage(&torn).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let tail = report.findings.iter().find(|finding| finding.kind == FindingKind::TornTail).expect("it is torn");
        assert_eq!((tail.offset, tail.offset + tail.bytes), (start as u64, cut as u64));
        assert_eq!(opening(&torn), Ok(tail.bytes), "cut at {cut}");
    }
}

#[test]
fn all_damage_is_said_at_once() {
    let disk = MemoryStorage::new();
    let store = written(&disk);
    store.close().unwrap();
    drop(store);
    let names: Vec<String> = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert!(names.len() >= 3, "{names:?}");
    // Two records of one segment, the header of another, the whole of a third.
    disk.flip_bit(&names[0], 400 * 8);
    disk.flip_bit(&names[0], 1500 * 8);
    disk.flip_bit(&names[1], 10 * 8);
    disk.remove(&names[2]).unwrap();
    let report = verify_storage(&disk).unwrap();
    let files: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.file.clone())).collect();
    let path = |place: usize| disk.path(&names[place]);
    assert_eq!(
        files,
        [
            (FindingKind::DamagedRecord, path(0)),
            (FindingKind::DamagedRecord, path(0)),
            (FindingKind::DamagedHeader, path(1)),
            (FindingKind::MissingFile, path(2)),
        ]
    );
    let first = &report.findings[0];
    assert!(first.offset <= 400 && first.offset + first.bytes > 400 && first.bytes < 300, "{first:?}");
    assert!(first.to_string().contains("restore a backup"), "{first}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["kind"], "damagedRecord");
    assert_eq!(json["findings"][3]["file"], path(2).to_str().unwrap());
}

#[test]
fn left_over_files_and_a_missing_manifest_are_told_apart() {
    let disk = MemoryStorage::new();
    let store = written(&disk);
    store.close().unwrap();
    drop(store);
    disk.create("00000099.log").unwrap();
    disk.create("MANIFEST.new").unwrap();
    disk.create("notes.txt").unwrap();
    let report = verify_storage(&disk).unwrap();
    assert!(report.is_sound());
    assert_eq!(kinds(&report), [FindingKind::LeftOver, FindingKind::LeftOver, FindingKind::UnknownFile]);

    disk.remove("MANIFEST").unwrap();
    let report = verify_storage(&disk).unwrap();
    assert_eq!(kinds(&report)[0], FindingKind::MissingManifest);
    assert!(!report.is_sound() && report.records > 50, "the records are read all the same: {report:?}");
}

#[test]
fn damage_is_found_while_the_store_serves() {
    let disk = MemoryStorage::new();
    let store = written(&disk);
    store.compact().unwrap();
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
    disk.flip_bit(&name, 300 * 8);
    let report = store.verify().unwrap();
    assert_eq!(kinds(&report), [FindingKind::DamagedRecord], "{report:?}");
    store.set("written", "all the same").unwrap();
    store.close().unwrap();
    assert!(matches!(store.verify(), Err(Error::Closed)));
}

/// An open store is verified again and again while it is written, rotated and compacted: never a false alarm.
#[test]
fn verification_beside_writers_and_compaction_finds_nothing() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (writer, done) = (store.clone(), &done);
        scope.spawn(move || {
            for number in 0..u32::MAX {
                writer.set(format!("key-{}", number % 50), format!("value {number}")).unwrap();
                if number % 300 == 0 {
                    writer.compact().unwrap();
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        while store.stats().compactions < 20 {
            let report = store.verify().unwrap();
            assert!(report.findings.is_empty(), "{report:?}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_folder_without_a_store_is_named_and_not_created() {
    let here = tempfile::tempdir().unwrap();
    let missing = here.path().join("missing");
    assert!(matches!(verify(&missing), Err(Error::Io { .. })));
    assert!(!missing.exists());
    let error = verify(here.path()).unwrap_err();
    assert!(matches!(error, Error::WrongFolder { .. }) && error.to_string().contains("holds no store"), "{error}");

    let folder = here.path().join("store");
    let store = KvStore::open(&folder).unwrap();
    store.set("key", "value").unwrap();
    assert!(matches!(verify(&folder), Err(Error::Locked { .. })), "never under a live server");
    store.close().unwrap();
    drop(store);
    assert!(verify(&folder).unwrap().is_sound());
}

/// A checkpoint holds nothing that the log does not hold: an opening goes without a damaged one, verification says it.
#[test]
fn a_damaged_checkpoint_is_said_and_loses_nothing() {
    let disk = MemoryStorage::new();
    let small = Options { checkpoint_bytes: 1024, ..options() };
    let store = KvStore::open_storage(Arc::new(disk.clone()), small.clone()).unwrap();
    for number in 0..40 {
        store.set(format!("key-{number}"), "x".repeat(60)).unwrap();
    }
    store.close().unwrap();
    drop(store);
    assert!(disk.list().unwrap().contains(&"CHECKPOINT".to_owned()), "{:?}", disk.list());
    assert!(verify_storage(&disk).unwrap().findings.is_empty());
    for bit in (0..length(&disk, "CHECKPOINT") * 8).step_by(7) {
        disk.flip_bit("CHECKPOINT", bit);
        let report = verify_storage(&disk).unwrap();
        assert_eq!(kinds(&report), [FindingKind::DamagedCheckpoint], "bit {bit}");
        assert!(!report.is_sound() && report.findings[0].to_string().contains("no data is lost"));
        disk.flip_bit("CHECKPOINT", bit);
    }
    disk.flip_bit("CHECKPOINT", 999);
    let store = KvStore::open_storage(Arc::new(disk), small).unwrap();
    assert_eq!(store.entries("").filter(|entry| entry.is_ok()).count(), 40);
}

/// By policy nothing says that lines are durable, but a checkpoint does, which was written after a sync of the log: what
/// is lost before that is no torn tail, for an opening, a verification and a repair alike.
#[test]
fn what_a_checkpoint_calls_durable_is_no_torn_tail() {
    let disk = MemoryStorage::new();
    let (segment_bytes, checkpoint_bytes) = (1024 * 1024, 20_000);
    let options = Options { sync: SyncPolicy::Os, segment_bytes, checkpoint_bytes, ..Options::default() };
    let open = |disk: &MemoryStorage| KvStore::open_storage(Arc::new(disk.clone()), options.clone());
    let store = open(&disk).unwrap();
    for number in 0..400 {
        store.set(format!("key-{number}"), "x".repeat(60)).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.stats().checkpoints == 0 {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = disk.after_kill();
    killed.open("00000001.log").unwrap().write_at(&[0; 1024], 4096).unwrap();

    let report = verify_storage(&killed).unwrap();
    assert!(kinds(&report).contains(&FindingKind::DamagedRecord), "{report:?}");
    let plan = plan_storage(Arc::new(killed.clone())).unwrap();
    assert!(plan.saved_keys > 380 && !plan.losses.is_empty(), "{plan:?}");
    drop(plan);
    assert!(matches!(open(&killed), Err(Error::Corruption { .. })), "an opening refuses it");
}
