//! Stories of a second look at the `kvs` engine: each one was told because the engine once got it wrong.

#[path = "support/hooked.rs"]
mod hooked;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hooked::Hooked;
use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage, Storage};
use kvs_engine::{Completion, Error, KvStore, KvsEngine, Mutation, Operation, Options, Outcome, Scan};

const EIO: i32 = 5;
/// How long a story waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Small segments, so that a short story rotates and compacts.
fn options() -> Options {
    Options { segment_bytes: 8 * 1024, compaction_threshold_bytes: 8 * 1024, ..Options::default() }
}

fn open(storage: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(storage.clone()), options())
}

/// Polls until something is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where an answer arrives.
type Answer = Arc<Mutex<Option<kvs_engine::Result<Outcome>>>>;

/// A set whose answer is looked at later.
fn submit_set(store: &KvStore, key: &str) -> Answer {
    let answer = Answer::default();
    let there = Arc::clone(&answer);
    let completion = Completion::call(move |result| *there.lock().expect("nobody panicked with it") = Some(result));
    store.submit(Operation::Set { key: key.into(), value: b"value".to_vec() }, completion);
    answer
}

fn is_answered(answer: &Answer) -> bool {
    answer.lock().expect("nobody panicked with it").is_some()
}

/// A manifest that can't be replaced poisons the store while a group is at the disk and the next one waits: those who
/// wait hear of it, and nobody waits for ever.
#[test]
fn who_waits_hears_that_the_store_was_poisoned_by_another_thread() {
    let disk = MemoryStorage::new();
    let renames = Arc::new(AtomicU64::new(0));
    let (refuse, sync) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let storage = {
        let (renames, refuse, sync) = (Arc::clone(&renames), Arc::clone(&refuse), Arc::clone(&sync));
        Hooked::new(&disk, move |call, name| {
            // Two manifests belong to the opening; the third lists the segment that is prepared ahead.
            if call == "rename" && renames.fetch_add(1, Ordering::SeqCst) == 2 {
                wait_until("the rename may fail", || refuse.load(Ordering::SeqCst));
                return Err(io::Error::from_raw_os_error(EIO));
            }
            if call == "sync" && name == "00000001.log" {
                wait_until("the sync may go on", || sync.load(Ordering::SeqCst));
            }
            Ok(())
        })
    };
    let store = KvStore::open_storage(storage, options()).unwrap();
    wait_until("the next segment is prepared", || renames.load(Ordering::SeqCst) == 3);
    sync.store(false, Ordering::SeqCst);
    let flying = submit_set(&store, "flying");
    // Only what was written can be at the sync.
    wait_until("the first set is at the disk", || contains(&content_of(&disk, "00000001.log"), "flying"));
    let queued = submit_set(&store, "queued");
    refuse.store(true, Ordering::SeqCst);
    wait_until("the store is poisoned", || store.fatal().is_some());
    wait_until("the set that was queued is answered", || is_answered(&queued));
    assert!(matches!(*queued.lock().unwrap(), Some(Err(Error::Poisoned { .. }))), "{queued:?}");
    sync.store(true, Ordering::SeqCst);
    wait_until("the set at the disk is answered", || is_answered(&flying));
    assert!(matches!(store.set("later", "value"), Err(Error::Poisoned { .. })));
}

/// After a failed sync the store is poisoned, and that is what everybody is told: nothing on the disk is damaged.
#[test]
fn what_a_failed_sync_left_is_not_called_corruption() {
    let fail = Arc::new(AtomicBool::new(false));
    let storage = {
        let fail = Arc::clone(&fail);
        Hooked::new(&MemoryStorage::new(), move |call, name| {
            // Not that of the segment that is prepared ahead, which would poison the store before the set is appended.
            let fails = call == "sync" && name == "00000001.log" && fail.load(Ordering::SeqCst);
            if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        })
    };
    let store = KvStore::open_storage(storage, options()).unwrap();
    store.set("old", "value").unwrap();
    fail.store(true, Ordering::SeqCst);
    assert!(matches!(store.set("new", "value"), Err(Error::Poisoned { .. })));
    for result in [store.get("new").map(drop), store.set("new", "again"), store.remove("new")] {
        assert!(matches!(result, Err(Error::Poisoned { .. })), "{result:?}");
    }
    assert_eq!(store.get("old").unwrap(), Some(b"value".to_vec()), "what is durable can be read");
}

/// All bytes of a file.
fn content_of(disk: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("the file exists");
    let bytes = file.length().expect("a file in memory");
    let mut content = vec![0; usize::try_from(bytes).expect("a small file")];
    file.read_at(&mut content, 0).expect("a file in memory");
    content
}

fn contains(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The sync of the folder fails after a compaction's manifest was renamed. Whichever manifest is in force afterwards,
/// old or new, the files that it lists are there.
#[test]
fn a_failed_compaction_takes_no_file_away_that_a_manifest_may_list() {
    let disk = MemoryStorage::new();
    let storage = {
        let disk = disk.clone();
        Hooked::new(&disk.clone(), move |call, _| {
            let fails = call == "sync_folder"
                && disk.open("MANIFEST").is_ok()
                && contains(&content_of(&disk, "MANIFEST"), "compacted_at");
            if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        })
    };
    let manual = Options { compaction_threshold_bytes: u64::MAX, ..options() };
    let store = KvStore::open_storage(storage, manual).unwrap();
    for number in 0..60 {
        store.set(format!("key-{}", number % 7), format!("{number}{}", "x".repeat(300))).unwrap();
    }
    let error = store.compact().expect_err("the folder can't be synced");
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    for disk in [disk.after_kill(), disk.after_power_loss(|| true), disk.after_power_loss(|| false)] {
        let found = open(&disk).unwrap();
        for number in 53..60 {
            let value = found.get(format!("key-{}", number % 7)).unwrap().expect("it was acknowledged");
            assert_eq!(value, format!("{number}{}", "x".repeat(300)).into_bytes());
        }
    }
}

/// The process dies, or the power fails, before any call of an opening, of a store that was closed cleanly and of one
/// that was not. The next opening finds everything.
#[test]
fn a_crash_at_any_step_of_an_opening_loses_nothing() {
    // The last segment is less than half full, so a clean opening goes on in it.
    const KEYS: u64 = 16;
    for clean in [true, false] {
        let disk = MemoryStorage::new();
        let store = open(&disk).unwrap();
        for number in 0..KEYS {
            store.set(format!("key-{number}"), "x".repeat(600)).unwrap();
        }
        if clean {
            store.close().unwrap();
        }
        let before = disk.after_kill();
        let mut call = 0;
        loop {
            let disk = before.after_kill();
            // From some call on nothing reaches the disk any more.
            let fault = Some(Fault { call, kind: FaultKind::Errno(EIO), for_ever: true });
            let storage = FaultyStorage::new(Arc::new(disk.clone()), fault);
            let opened = KvStore::open_storage(Arc::new(storage), options()).is_ok();
            for disk in [disk.after_kill(), disk.after_power_loss(|| true), disk.after_power_loss(|| false)] {
                let found = open(&disk).unwrap_or_else(|error| panic!("clean {clean}, call {call}: {error}"));
                assert_eq!(found.stats().keys, KEYS, "clean {clean}, call {call}");
            }
            if opened && call > 40 {
                break;
            }
            call += 1;
        }
    }
}

/// The disk is full to the last byte when the store is opened: after a clean end and after a crash, with and without
/// the reserves. It can be read, and once there is space it can be written.
#[test]
fn a_store_on_a_full_disk_can_be_opened() {
    for (clean, reserves) in [(true, true), (true, false), (false, true), (false, false)] {
        for count in [5, 16] {
            let story = format!("clean {clean}, reserves {reserves}, {count} keys");
            let disk = MemoryStorage::new();
            let store = open(&disk).unwrap();
            for number in 0..count {
                store.set(format!("key-{number}"), "x".repeat(600)).unwrap();
            }
            let has = |name: &str| disk.list().unwrap().iter().any(|found| found == name);
            wait_until("the reserves are there", || has("RESERVE.compaction") && has("RESERVE.removals"));
            if clean {
                store.close().unwrap();
            }
            let disk = disk.after_kill();
            if !reserves {
                disk.remove("RESERVE.compaction").unwrap();
                disk.remove("RESERVE.removals").unwrap();
            }
            let used: u64 = disk.list().unwrap().iter().map(|name| disk.open(name).unwrap().length().unwrap()).sum();
            // Without reserves there is a little space, for the manifest.
            disk.set_capacity(Some(used + if reserves { 0 } else { 2048 }));
            let store = open(&disk).unwrap_or_else(|error| panic!("{story}: {error}"));
            for number in 0..count {
                assert!(store.get(format!("key-{number}")).unwrap().is_some(), "{story}: key-{number}");
            }
            disk.set_capacity(None);
            wait_until(&format!("{story}: there is space again"), || store.set("later", "x".repeat(5000)).is_ok());
            drop(store);
            assert_eq!(open(&disk.after_kill()).unwrap().stats().keys, count + 1, "{story}");
        }
    }
}

/// Batches of one element are mostly frame. That frame is no garbage: a log of them is not compacted for nothing, and
/// what a compaction leaves of larger batches isn't either, also after the store was opened again.
#[test]
fn the_frames_of_live_batches_are_not_dead() {
    let manual = Options { compaction_threshold_bytes: u64::MAX, ..options() };
    let disk = MemoryStorage::new();
    let open = || KvStore::open_storage(Arc::new(disk.clone()), manual.clone()).unwrap();
    let few_are_dead = |store: &KvStore, story: &str| {
        let stats = store.stats();
        assert!(stats.dead_bytes * 10 < stats.live_bytes, "{story}: {stats:?}");
    };
    let set = |key: String| Mutation::Set { key: key.into(), value: b"v".to_vec() };
    let store = open();
    for number in 0..200 {
        store.write_batch(vec![set(format!("single-{number}"))]).unwrap();
        store.write_batch((0..10).map(|element| set(format!("ten-{number}-{element}"))).collect()).unwrap();
    }
    few_are_dead(&store, "written");
    for number in 0..200 {
        let removals = (1..10).map(|element| Mutation::Remove { key: format!("ten-{number}-{element}").into() });
        store.write_batch(removals.collect()).unwrap();
    }
    store.compact().unwrap();
    store.compact().unwrap();
    few_are_dead(&store, "compacted");
    let before = store.stats();
    drop(store);
    let store = open();
    few_are_dead(&store, "opened again");
    assert_eq!((before.keys, before.live_bytes), (store.stats().keys, store.stats().live_bytes));
    assert_eq!(store.stats().keys, 400);
}

/// Keys that stay fill the oldest segments, in which nothing ever dies; behind them keys come and go. Their removals
/// must not be kept for ever because of the oldest segments.
#[test]
fn removals_do_not_pile_up_behind_data_that_stays() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    for number in 0..40 {
        store.set(format!("stays-{number}"), "x".repeat(500)).unwrap();
    }
    for number in 0..12_000 {
        store.set(format!("goes-{number}"), "y").unwrap();
        store.remove(format!("goes-{number}")).unwrap();
    }
    wait_until("the removals are gone", || {
        let stats = store.stats();
        stats.dead_bytes < 32 * 1024 && !stats.compacting
    });
    let check = |store: &KvStore| {
        assert_eq!(store.stats().keys, 40);
        assert!((0..40).all(|number| store.get(format!("stays-{number}")).unwrap().is_some()));
    };
    check(&store);
    check(&open(&disk.after_kill()).unwrap());
}

/// A compaction fails for want of space, and nobody writes any more. It is tried again by itself: it is what gives
/// space back.
#[test]
fn a_compaction_that_found_no_space_is_tried_again_without_a_write() {
    let full = Arc::new(AtomicBool::new(false));
    let storage = {
        let full = Arc::clone(&full);
        Hooked::new(&MemoryStorage::new(), move |call, name| {
            let fails = call == "create" && name.ends_with(".log") && full.load(Ordering::SeqCst);
            if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    };
    let small = Options { compaction_threshold_bytes: 2 * 1024, ..options() };
    let store = KvStore::open_storage(storage, small).unwrap();
    wait_until("the next segment is prepared", || store.stats().segments == 2);
    full.store(true, Ordering::SeqCst);
    while store.set("key", "x".repeat(300)).is_ok() {}
    wait_until("a compaction failed", || store.stats().compaction_failures > 0);
    full.store(false, Ordering::SeqCst);
    wait_until("a compaction went well", || store.stats().compactions > 0);
    assert_eq!(store.get("key").unwrap(), Some("x".repeat(300).into_bytes()));
}

/// A compaction fails for another reason, and nobody writes any more. It is tried again by itself, as the log says.
#[test]
fn a_compaction_that_failed_is_tried_again_without_a_write() {
    let (began, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let storage = {
        let (began, written) = (Arc::clone(&began), Arc::clone(&written));
        Hooked::new(&MemoryStorage::new(), move |call, _| {
            let by_compaction = std::thread::current().name() == Some("kvs-compact");
            if call != "create" || !by_compaction || began.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            // The first one fails when the last write has been: no later one asks for another.
            wait_until("writing ended", || written.load(Ordering::SeqCst));
            Err(io::Error::other("broken for once"))
        })
    };
    let small = Options { compaction_threshold_bytes: 2 * 1024, ..options() };
    let store = KvStore::open_storage(storage, small).unwrap();
    while !began.load(Ordering::SeqCst) {
        store.set("key", "x".repeat(300)).unwrap();
        // Time to begin, so that no second wish waits behind the first.
        std::thread::sleep(Duration::from_millis(20));
    }
    written.store(true, Ordering::SeqCst);
    wait_until("a compaction went well", || store.stats().compactions > 0);
    assert_eq!(store.stats().compaction_failures, 1);
    assert_eq!(store.get("key").unwrap(), Some("x".repeat(300).into_bytes()));
}

/// A bit flips in a record that is dead. Compactions can't take its segment away, and go on with all the others.
#[test]
fn a_damaged_segment_keeps_no_compaction_from_the_others() {
    let disk = MemoryStorage::new();
    let store = open(&disk).unwrap();
    store.set("twice", "once").unwrap();
    store.set("twice", "again").unwrap();
    let overwrite = || (0..60).for_each(|number| store.set(format!("key-{number}"), "x".repeat(300)).unwrap());
    overwrite();
    // Behind the header of 114 bytes, in the first record.
    disk.flip_bit("00000001.log", 150 * 8);
    // All of it is dead: nothing pays more than to take it away.
    store.set("twice", "at last").unwrap();
    while store.stats().compaction_failures == 0 {
        overwrite();
    }
    let failed = store.stats();
    wait_until("others are compacted", || {
        overwrite();
        store.stats().compactions > failed.compactions + 10
    });
    wait_until("what is dead has gone", || store.stats().disk_bytes < 200 * 1024);
    assert_eq!(store.stats().compaction_failures, failed.compaction_failures, "it is left alone");
    assert!(matches!(store.compact(), Err(Error::Corruption { .. })), "who asks for all of it hears of it");
    assert_eq!(store.get("twice").unwrap().unwrap(), b"at last");
}

/// Whoever answers may be the last to hold the store, as a connection of a server that ends: the store closes cleanly
/// on one of its own threads.
#[test]
fn the_last_handle_can_be_dropped_by_an_answer() {
    let disk = MemoryStorage::new();
    let sync = Arc::new(AtomicBool::new(true));
    let storage = {
        let sync = Arc::clone(&sync);
        Hooked::new(&disk, move |call, name| {
            if call == "sync" && name == "00000001.log" {
                wait_until("the sync may go on", || sync.load(Ordering::SeqCst));
            }
            Ok(())
        })
    };
    let store = KvStore::open_storage(storage, options()).unwrap();
    sync.store(false, Ordering::SeqCst);
    let last = store.clone();
    let set = Operation::Set { key: b"key".to_vec(), value: b"value".to_vec() };
    let closed = Arc::new(Mutex::new(None));
    let told = Arc::clone(&closed);
    let answer = move |_| {
        let result = last.close();
        drop(last);
        *told.lock().unwrap() = Some(result);
    };
    store.submit(set, Completion::call(answer));
    drop(store);
    sync.store(true, Ordering::SeqCst);
    wait_until("the store is closed", || closed.lock().unwrap().is_some());
    assert!(matches!(*closed.lock().unwrap(), Some(Ok(()))), "{closed:?}");
    let mut found = None;
    wait_until("the folder is free", || {
        found = open(&disk).ok();
        found.is_some()
    });
    assert_eq!(found.expect("it was opened").get("key").unwrap(), Some(b"value".to_vec()));
}

/// The folder of a sled store is refused before anything is written into it.
#[test]
fn a_folder_of_sled_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "db"] {
        std::fs::write(folder.path().join(name), "precious").unwrap();
    }
    let error = KvStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::WrongFolder { .. }), "{error}");
    assert!(error.to_string().contains("--engine sled"), "{error}");
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["LOCK", "conf", "db"], "nothing but the lock was written");
}

/// A scan waits for what it shows, and for the removals because of which it does not show a key: where that never
/// becomes durable, it is an error and no page.
#[test]
fn a_scan_shows_nothing_that_never_became_durable() {
    for remove in [false, true] {
        let fail = Arc::new(AtomicBool::new(false));
        let storage = {
            let fail = Arc::clone(&fail);
            Hooked::new(&MemoryStorage::new(), move |call, name| {
                let fails = call == "sync" && name == "00000001.log" && fail.load(Ordering::SeqCst);
                if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
            })
        };
        let store = KvStore::open_storage(storage, options()).unwrap();
        store.set("old", "value").unwrap();
        assert_eq!(store.scan(&Scan::default()).unwrap().entries.len(), 1);
        fail.store(true, Ordering::SeqCst);
        let operation = match remove {
            true => Operation::Remove { key: b"old".to_vec() },
            false => Operation::Set { key: b"new".to_vec(), value: b"value".to_vec() },
        };
        store.submit(operation, Completion::call(drop));
        match store.scan(&Scan::default()) {
            Err(Error::Poisoned { .. }) => {}
            shown => panic!("removal: {remove}, shown: {shown:?}"),
        }
    }
}

/// Removals that a compaction may not drop all go into one file, whose length has a bound: a longer one is no segment,
/// and a store with one would not open.
#[test]
fn removals_that_have_to_stay_make_no_huge_segment() {
    const SEGMENT_BYTES: u64 = 4 * 1024;
    let disk = MemoryStorage::new();
    let options = Options { segment_bytes: SEGMENT_BYTES, compaction_threshold_bytes: u64::MAX, ..Options::default() };
    let store = KvStore::open_storage(Arc::new(disk.clone()), options).unwrap();
    for number in 0..100 {
        store.set(format!("key-{number}"), "x".repeat(60)).unwrap();
    }
    // What stands before them may hold an older value of their keys, as far as anybody knows.
    for number in 0..400 {
        let removals = (0..10).map(|at| Mutation::Remove { key: format!("nothing-{number}-{at}").into() });
        store.write_batch(removals.collect()).unwrap();
    }
    store.compact().unwrap();
    assert_eq!(store.stats().keys, 100);
    store.close().unwrap();
    let lengths = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".log"));
    let lengths: Vec<u64> = lengths.map(|name| disk.open(&name).unwrap().length().unwrap()).collect();
    let all: u64 = lengths.iter().sum();
    assert!(all > 30 * SEGMENT_BYTES, "the removals have to stay: {lengths:?}");
    assert!(lengths.iter().all(|length| *length <= 17 * SEGMENT_BYTES), "{lengths:?}");
}
