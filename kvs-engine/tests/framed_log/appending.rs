//! Appending: order, durability, who is told what and when, what is refused.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kvs_engine::log::{FramedLog, LogOptions, ReadLimits};
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Error, KvStore, KvsEngine};

use crate::fixture::{contents, entries, fill, open, open_on, options, payload};
use crate::hooked::Hooked;
use crate::support::wait_until;

/// A log whose syncs of its first segment wait while the gate is shut, and are counted.
fn gated(storage: &MemoryStorage) -> (FramedLog, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (shut, syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (hook_shut, hook_syncs) = (Arc::clone(&shut), Arc::clone(&syncs));
    let log = open_on(Hooked::new(storage, move |call, name| {
        if call == "sync" && name == "00000001.log" {
            hook_syncs.fetch_add(1, Ordering::SeqCst);
            wait_until("the sync may go on", || !hook_shut.load(Ordering::SeqCst));
        }
        Ok(())
    }));
    syncs.store(0, Ordering::SeqCst);
    (log, shut, syncs)
}

#[test]
fn an_entry_that_was_appended_survives_the_loss_of_power() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    for number in 1..=20 {
        assert_eq!(log.append(&payload(1, number)).unwrap(), number);
        assert_eq!(contents(&open(&storage.after_power_loss(|| false))), entries(1, 1, number));
    }
}

#[test]
fn threads_append_in_the_order_of_their_sequences_and_share_syncs() {
    let storage = MemoryStorage::new();
    let (log, shut, syncs) = gated(&storage);
    shut.store(true, Ordering::SeqCst);
    log.submit(b"{}", |_| {}).unwrap();
    wait_until("the first entry is at its sync", || syncs.load(Ordering::SeqCst) == 1);
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let log = log.clone();
            std::thread::spawn(move || {
                let text = format!(r#"{{"thread":{thread}}}"#);
                (log.append(text.as_bytes()).unwrap(), text)
            })
        })
        .collect();
    wait_until("everybody has appended", || log.last_sequence() == 17);
    assert_eq!(log.durable_sequence(), 0);
    shut.store(false, Ordering::SeqCst);
    let mut appended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    appended.sort();
    let found: Vec<_> = contents(&log)
        .into_iter()
        .skip(1)
        .map(|entry| (entry.sequence, String::from_utf8(entry.payload).unwrap()))
        .collect();
    assert_eq!(found, appended);
    assert_eq!(syncs.load(Ordering::SeqCst), 2, "sixteen threads share one sync");
}

#[test]
fn nobody_is_told_before_the_sync_and_everybody_once_after_it() {
    let storage = MemoryStorage::new();
    let (log, shut, _) = gated(&storage);
    shut.store(true, Ordering::SeqCst);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = |name: &'static str| {
        let told = Arc::clone(&told);
        // An error would come while the log is dropped, when a panic would hide why the story failed.
        move |result: kvs_engine::Result<u64>| told.lock().unwrap().extend(result.map(|sequence| (name, sequence)))
    };
    log.when_durable(3, tell("watch of 3")).unwrap();
    assert_eq!(log.enqueue(b"1").unwrap(), 1);
    assert_eq!(log.submit(b"2", tell("append of 2")).unwrap(), 2);
    log.when_durable(1, tell("watch of 1")).unwrap();
    let read = |log: &FramedLog| log.read(1, ReadLimits::default()).unwrap().len();
    let read_appended = |log: &FramedLog| log.read_appended(1, ReadLimits::default()).unwrap().len();
    assert_eq!((told.lock().unwrap().len(), read(&log), read_appended(&log)), (0, 0, 2));
    shut.store(false, Ordering::SeqCst);
    log.wait_durable(2).unwrap();
    wait_until("both are told", || told.lock().unwrap().len() == 2);
    assert_eq!((read(&log), log.durable_sequence()), (2, 2));
    log.append(b"3").unwrap();
    wait_until("the third is told", || told.lock().unwrap().len() == 3);
    log.when_durable(2, tell("too late")).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told[2..], [("watch of 3", 3), ("too late", 2)]);
    let mut first = told[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, [("append of 2", 2), ("watch of 1", 1)]);
}

#[test]
fn who_waits_for_an_entry_of_the_future_is_woken_by_it() {
    let log = open(&MemoryStorage::new());
    let waiting = {
        let log = log.clone();
        std::thread::spawn(move || log.wait_durable(10))
    };
    fill(&log, 1, 9);
    assert!(!waiting.is_finished());
    log.append(b"10").unwrap();
    waiting.join().unwrap().unwrap();
}

#[test]
fn what_is_not_one_line_of_text_is_refused_and_leaves_nothing() {
    let storage = MemoryStorage::new();
    let options = LogOptions { payload_bytes: 100, ..options() };
    let log = FramedLog::open_storage(Arc::new(storage), options).unwrap();
    for (payload, offset) in [
        (&b"{\n}"[..], 1),
        (b"", 0),
        (b"{\"group\":{\"lines\":3}}", 0),
        (b"{\"k\":\"a\0b\"}", 7),
        (b"{\t}", 1),
        (b"{\"k\":\"\xff\"}", 6),
    ] {
        let error = log.append(payload).unwrap_err();
        assert!(matches!(error, Error::NotALine { offset: named, .. } if named == offset), "{payload:?}: {error}");
    }
    let error = log.submit(&[b'1'; 101], |_| panic!("it was refused")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "payload", bytes: 101, limit_bytes: 100 }), "{error}");
    assert_eq!(log.append(&[b'1'; 100]).unwrap(), 1);
    assert_eq!(log.append("\"é\"".as_bytes()).unwrap(), 2);
    assert_eq!(contents(&log).len(), 2);
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_size() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 3);
    let large = format!("\"{}\"", "y".repeat(300_000)).into_bytes();
    assert_eq!(log.append(&large).unwrap(), 4);
    assert_eq!(log.append(b"5").unwrap(), 5);
    let found = contents(&open(&storage.after_power_loss(|| false)));
    assert_eq!((found.len(), &found[3].payload), (5, &large));
    log.truncate_after(4).unwrap();
    assert_eq!(contents(&open(&storage.after_power_loss(|| false)))[3].payload, large);
}

/// After a failed sync nobody hears that anything is durable, whoever waits hears why, and nothing waits for ever.
#[test]
fn after_a_failed_sync_everybody_hears_that_the_log_is_poisoned() {
    let storage = MemoryStorage::new();
    let (fail, syncing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let log = {
        let (fail, syncing) = (Arc::clone(&fail), Arc::clone(&syncing));
        open_on(Hooked::new(&storage, move |call, name| {
            if call == "sync" && name == "00000001.log" && fail.load(Ordering::SeqCst) {
                syncing.store(true, Ordering::SeqCst);
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        }))
    };
    fill(&log, 1, 3);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let answer = || {
        let answers = Arc::clone(&answers);
        move |result: kvs_engine::Result<u64>| answers.lock().unwrap().push(result)
    };
    log.when_durable(100, answer()).unwrap();
    fail.store(true, Ordering::SeqCst);
    log.submit(b"4", answer()).unwrap();
    wait_until("both are told", || answers.lock().unwrap().len() == 2);
    let poisoned = |result: &kvs_engine::Result<u64>| matches!(result, Err(Error::Poisoned { .. }));
    assert!(answers.lock().unwrap().iter().all(poisoned), "{answers:?}");
    assert!(poisoned(&log.append(b"5")));
    assert!(matches!(log.wait_durable(4), Err(Error::Poisoned { .. })));
    assert!(matches!(log.truncate_after(1), Err(Error::Poisoned { .. })));
    assert!(matches!(log.purge_before(2), Err(Error::Poisoned { .. })));
    assert!(matches!(log.when_durable(101, |_| panic!("it was refused")), Err(Error::Poisoned { .. })));
    assert!(log.fatal().is_some());
    // What was durable can still be read.
    assert_eq!(contents(&log), entries(1, 1, 3));
}

#[test]
fn closing_ends_every_wait_and_makes_everything_durable() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let waiting = {
        let log = log.clone();
        std::thread::spawn(move || log.wait_durable(100))
    };
    let answer = Arc::new(Mutex::new(None));
    {
        let answer = Arc::clone(&answer);
        log.when_durable(100, move |result| *answer.lock().unwrap() = Some(result)).unwrap();
    }
    log.enqueue(&payload(1, 1)).unwrap();
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    assert!(matches!(*answer.lock().unwrap(), Some(Err(Error::Closed))));
    assert!(matches!(log.append(b"2"), Err(Error::Closed)));
    assert!(matches!(log.read(1, ReadLimits::default()), Err(Error::Closed)));
    assert!(matches!(log.truncate_after(0), Err(Error::Closed)));
    drop(log);
    assert_eq!(contents(&open(&storage.after_power_loss(|| false))), entries(1, 1, 1));
}

#[test]
fn two_processes_do_not_open_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = FramedLog::open(folder.path(), options()).unwrap();
    assert!(matches!(FramedLog::open(folder.path(), options()), Err(Error::Locked { .. })));
    log.append(b"1").unwrap();
    drop(log);
    assert_eq!(FramedLog::open(folder.path(), options()).unwrap().last_sequence(), 1);
}

/// A store would take the entries for damaged records, and the log would append what is no record.
#[test]
fn a_store_and_a_log_do_not_open_each_others_folders() {
    let folder = tempfile::tempdir().unwrap();
    FramedLog::open(folder.path(), options()).unwrap().append(b"1").unwrap();
    let error = KvStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::WrongFolder { .. }) && error.to_string().contains("no store"), "{error}");
    let other = tempfile::tempdir().unwrap();
    KvStore::open(other.path()).unwrap().set("key", "value").unwrap();
    let error = FramedLog::open(other.path(), options()).unwrap_err();
    assert!(matches!(error, Error::WrongFolder { .. }) && error.to_string().contains("holds a store"), "{error}");
    assert_eq!(FramedLog::open(folder.path(), options()).unwrap().last_sequence(), 1);
    assert_eq!(KvStore::open(other.path()).unwrap().get("key").unwrap(), Some(b"value".to_vec()));
}
