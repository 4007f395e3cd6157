//! Truncating and purging in order: what stays, what goes, and how the log goes on after every kind of reopening.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvs_engine::log::{FramedLog, LogOptions, ReadLimits};
use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{Error, SyncPolicy};

use crate::fixture::{contents, entries, fill, open, open_on, options, payload, segments};
use crate::hooked::Hooked;
use crate::support::wait_until;

/// The folder as the next process finds it: after a clean end, after kill -9, after the loss of power.
fn reopenings(storage: &MemoryStorage) -> [(&'static str, MemoryStorage); 3] {
    let clean = storage.after_kill();
    drop(open(&clean));
    [("clean end", clean), ("kill", storage.after_kill()), ("power loss", storage.after_power_loss(|| false))]
}

#[test]
fn a_log_is_cut_at_any_entry_and_goes_on_there() {
    for after in 0..=30 {
        let storage = MemoryStorage::new();
        let log = open(&storage);
        fill(&log, 1, 30);
        log.truncate_after(after).unwrap();
        assert_eq!((log.first_sequence(), log.last_sequence(), log.durable_sequence()), (1, after, after));
        assert_eq!(contents(&log), entries(1, 1, after), "after {after}");
        for (how, disk) in reopenings(&storage) {
            assert_eq!(contents(&open(&disk)), entries(1, 1, after), "after {after}, {how}");
        }
        fill(&log, 2, after + 12);
        let expected = [entries(1, 1, after), entries(2, after + 1, after + 12)].concat();
        assert_eq!(contents(&log), expected, "after {after}");
        for (how, disk) in reopenings(&storage) {
            assert_eq!(contents(&open(&disk)), expected, "after {after}, gone on, {how}");
        }
    }
}

/// The log's own thread, which leads when nobody waits, counts what is queued by sequences that were there before.
#[test]
fn the_logs_thread_goes_on_behind_a_cut() {
    let log = open(&MemoryStorage::new());
    fill(&log, 1, 30);
    log.truncate_after(5).unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    let sequence = log.enqueue(&payload(2, 6)).unwrap();
    log.when_durable(sequence, move |result| sender.send(result).unwrap()).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)).expect("it is told").unwrap(), 6);
}

/// Where nobody asked for syncs, a cut makes durable what it keeps: once it returned, a loss of power takes nothing.
#[test]
fn what_a_cut_keeps_is_durable_whatever_the_policy() {
    for after in [26, 27, 29] {
        let storage = MemoryStorage::new();
        let options = LogOptions { sync: SyncPolicy::Os, ..options() };
        let log = FramedLog::open_storage(Arc::new(storage.clone()), options).unwrap();
        for sequence in 1..=30 {
            log.append(&payload(1, sequence)).unwrap();
        }
        log.truncate_after(after).unwrap();
        let left = open(&storage.after_power_loss(|| false));
        assert_eq!(contents(&left), entries(1, 1, after), "after {after}");
    }
}

/// A cut in a segment that is sealed already, and one in a segment that waits to be sealed.
#[test]
fn a_log_is_cut_in_what_is_sealed_and_in_what_is_not_yet() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 40);
    drop(log);
    // Opening found segments 1 to 5 sealed, the last of them reopened.
    let log = open(&storage);
    for (history, after) in [(2, 33), (3, 12), (4, 9), (5, 8), (6, 1)] {
        log.truncate_after(after).unwrap();
        fill(&log, history, after + 30);
        let found = contents(&log);
        assert_eq!(found.len() as u64, after + 30);
        assert_eq!(found[usize::try_from(after).unwrap()..], entries(history, after + 1, after + 30));
        for (how, disk) in reopenings(&storage) {
            assert_eq!(contents(&open(&disk)), found, "after {after}, {how}");
        }
    }
}

#[test]
fn cutting_behind_the_end_changes_nothing_and_below_the_beginning_is_refused() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    log.truncate_after(0).unwrap();
    fill(&log, 1, 20);
    log.truncate_after(20).unwrap();
    log.truncate_after(u64::MAX).unwrap();
    assert_eq!(contents(&log), entries(1, 1, 20));
    log.purge_before(10).unwrap();
    let first = log.first_sequence();
    assert!((2..=10).contains(&first), "{first}");
    let error = log.truncate_after(first - 2).unwrap_err();
    assert!(matches!(error, Error::NotInLog { first: named, next: 21, .. } if named == first), "{error}");
    assert_eq!(contents(&log), entries(1, first, 20));
    log.truncate_after(first - 1).unwrap();
    assert_eq!((log.first_sequence(), log.last_sequence()), (first, first - 1));
}

/// Whoever waits for an entry that is cut hears of it before anything is cut, and never of the one that comes instead.
#[test]
fn nothing_is_cut_before_everybody_was_told_of_it() {
    let storage = MemoryStorage::new();
    let cutting = Arc::new(AtomicBool::new(false));
    let log = {
        let cutting = Arc::clone(&cutting);
        open_on(Hooked::new(&storage, move |call, name| {
            // The first two segments are those of an empty log.
            if call == "create" && name == "00000003.log" {
                cutting.store(true, Ordering::SeqCst);
            }
            Ok(())
        }))
    };
    wait_until("the next segment is prepared", || segments(&storage).len() == 2);
    let (entered, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    for number in 1..=5 {
        let (entered, told, cutting) = (Arc::clone(&entered), Arc::clone(&told), Arc::clone(&cutting));
        log.submit(&payload(1, number), move |result| {
            entered.store(true, Ordering::SeqCst);
            // Time enough for a cut that does not wait.
            let deadline = Instant::now() + Duration::from_millis(100);
            while !cutting.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!cutting.load(Ordering::SeqCst), "cut while {number} was told");
            assert_eq!(result.unwrap(), number);
            told.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    }
    wait_until("the first call is made", || entered.load(Ordering::SeqCst));
    log.truncate_after(2).unwrap();
    assert_eq!(told.load(Ordering::SeqCst), 5);
    assert_eq!(contents(&log), entries(1, 1, 2));
}

/// An append that comes while the end is moved waits for that and goes behind the new end: it is not given a place in
/// what is cut.
#[test]
fn an_append_during_a_cut_goes_behind_the_new_end() {
    let storage = MemoryStorage::new();
    let cutting = Arc::new(AtomicBool::new(false));
    let appended = Arc::new(AtomicU64::new(0));
    let log = {
        let (cutting, appended) = (Arc::clone(&cutting), Arc::clone(&appended));
        open_on(Hooked::new(&storage, move |call, name| {
            if call == "create" && name == "00000003.log" {
                cutting.store(true, Ordering::SeqCst);
                // Time enough for an append that does not wait.
                let deadline = Instant::now() + Duration::from_millis(200);
                while appended.load(Ordering::SeqCst) == 0 && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(())
        }))
    };
    wait_until("the next segment is prepared", || segments(&storage).len() == 2);
    fill(&log, 1, 6);
    let append = {
        let (log, cutting, appended) = (log.clone(), Arc::clone(&cutting), Arc::clone(&appended));
        std::thread::spawn(move || {
            wait_until("the log is being cut", || cutting.load(Ordering::SeqCst));
            appended.store(log.append(&payload(2, 4)).expect("the disk is in order"), Ordering::SeqCst);
        })
    };
    log.truncate_after(3).unwrap();
    append.join().unwrap();
    assert_eq!(appended.load(Ordering::SeqCst), 4);
    let expected = [entries(1, 1, 3), entries(2, 4, 4)].concat();
    assert_eq!(contents(&log), expected);
    assert_eq!(contents(&open(&storage.after_power_loss(|| false))), expected);
}

/// Others append while the end is moved again and again: sequences stay without gaps, an entry that was appended after
/// the last cut is there, and what is found after a crash is what there was.
#[test]
fn others_append_while_the_end_moves() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (log, stop) = (log.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    log.append(&payload(1, 0)).expect("the disk is in order");
                    count += 1;
                }
                count
            })
        })
        .collect();
    for _ in 0..40 {
        let last = log.last_sequence();
        wait_until("others append", || log.last_sequence() >= last + 6 || writers.iter().any(JoinHandle::is_finished));
        let after = log.last_sequence() - 4;
        log.truncate_after(after).unwrap();
        assert!(log.first_sequence() <= after);
    }
    stop.store(true, Ordering::SeqCst);
    let appended: u64 = writers.into_iter().map(|writer| writer.join().expect("nothing went wrong")).sum();
    assert!(appended > log.last_sequence(), "{appended} appended, {} left", log.last_sequence());
    let found = contents(&log);
    assert!(found.iter().map(|entry| entry.sequence).eq(1..=log.last_sequence()));
    for (how, disk) in reopenings(&storage) {
        assert_eq!(contents(&open(&disk)), found, "{how}");
    }
}

#[test]
fn purging_gives_whole_segments_back() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 40);
    let files = segments(&storage).len();
    log.purge_before(1).unwrap();
    assert_eq!(log.first_sequence(), 1);
    for before in 2..=40 {
        log.purge_before(before).unwrap();
        let first = log.first_sequence();
        assert!(first <= before && first + 8 > before, "purged before {before}, begins at {first}");
        assert_eq!(contents(&log), entries(1, first, 40));
        let error = log.read(first - 1, ReadLimits::default()).unwrap_err();
        assert!(matches!(error, Error::NotInLog { .. }), "{error}");
    }
    // One that takes appends, one that is ready.
    assert!(files >= 6 && segments(&storage).len() == 2, "{files} files, then {:?}", segments(&storage));
    for (how, disk) in reopenings(&storage) {
        let found = open(&disk);
        assert_eq!(contents(&found), contents(&log), "{how}");
        fill(&found, 2, 45);
        assert_eq!(found.last_sequence(), 45);
    }
}

#[test]
fn an_empty_log_keeps_its_next_sequence() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 20);
    log.purge_before(21).unwrap();
    for (how, disk) in reopenings(&storage) {
        let found = open(&disk);
        assert_eq!((found.first_sequence(), found.last_sequence()), (21, 20), "{how}");
        assert_eq!(found.append(br#"{"after":"purge"}"#).unwrap(), 21, "{how}");
        assert_eq!(open(&disk.after_power_loss(|| false)).last_sequence(), 21, "{how}");
    }
    assert_eq!(contents(&log), []);
}

/// A snapshot came from elsewhere and is ahead of the log: it begins anew behind it.
#[test]
fn a_log_begins_anew_behind_its_end() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    log.purge_before(1_000).unwrap();
    assert_eq!((log.first_sequence(), log.last_sequence(), log.durable_sequence()), (1_000, 999, 999));
    fill(&log, 1, 1_020);
    log.purge_before(5_000).unwrap();
    fill(&log, 2, 5_010);
    log.truncate_after(5_004).unwrap();
    fill(&log, 3, 5_020);
    let expected = [entries(2, 5_000, 5_004), entries(3, 5_005, 5_020)].concat();
    assert_eq!(contents(&log), expected);
    for (how, disk) in reopenings(&storage) {
        assert_eq!(contents(&open(&disk)), expected, "{how}");
    }
}

/// A purge needs a few hundred bytes for its manifest, and has them however full the disk is; so has a truncation.
#[test]
fn on_a_full_disk_reading_goes_on_and_cutting_makes_room() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 20);
    let used: u64 = storage.list().unwrap().iter().map(|name| storage.open(name).unwrap().length().unwrap()).sum();
    storage.set_capacity(Some(used));
    let mut last = 20;
    let error = loop {
        match log.append(&payload(1, last + 1)) {
            Ok(sequence) => last = sequence,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    assert_eq!(contents(&log), entries(1, 1, last));
    log.truncate_after(last - 2).unwrap();
    assert_eq!(contents(&log), entries(1, 1, last - 2));
    log.purge_before(last - 2).unwrap();
    let first = log.first_sequence();
    assert!(first > 1);
    wait_until("appending resumes", || log.append(&payload(1, log.last_sequence() + 1)).is_ok());
    assert_eq!(contents(&log), entries(1, first, last - 1));
    assert_eq!(contents(&open(&storage.after_power_loss(|| false))), entries(1, first, last - 1));
}
