//! Reading: limits, what is durable and what is not, damage, and reading while the end moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kvs_engine::Error;
use kvs_engine::log::{FramedLog, LogOptions, ReadLimits};
use kvs_engine::storage::{MemoryStorage, Storage};

use crate::fixture::{contents, entries, fill, open, open_on, options, payload, segments};
use crate::hooked::Hooked;
use crate::support::{content_of, wait_until};

#[test]
fn a_read_keeps_to_its_limits_and_always_gets_on() {
    let log = open(&MemoryStorage::new());
    fill(&log, 1, 30);
    let bytes = payload(1, 10).len();
    let read = |from, records, bytes| log.read(from, ReadLimits { records, bytes }).unwrap();
    assert_eq!(read(10, 3, usize::MAX), entries(1, 10, 12));
    assert_eq!(read(10, usize::MAX, bytes * 9), entries(1, 10, 18));
    assert_eq!(read(10, usize::MAX, bytes * 9 - 1), entries(1, 10, 17));
    assert_eq!(read(10, 0, 0), entries(1, 10, 10));
    assert_eq!(read(1, usize::MAX, usize::MAX), entries(1, 1, 30));
    assert_eq!(read(31, 1, 1), []);
    assert_eq!(read(u64::MAX, 1, 1), []);
    assert!(matches!(log.read(0, ReadLimits::default()), Err(Error::NotInLog { sequence: 0, first: 1, next: 31 })));
}

/// Entries are read by who appended them while they are queued, and while they are at the disk.
#[test]
fn entries_that_are_not_durable_are_read_from_memory_by_who_asks_for_them() {
    let storage = MemoryStorage::new();
    let (shut, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let log = {
        let (shut, waiting) = (Arc::clone(&shut), Arc::clone(&waiting));
        open_on(Hooked::new(&storage, move |call, name| {
            if call == "write" && name == "00000001.log" && shut.load(Ordering::SeqCst) {
                waiting.store(true, Ordering::SeqCst);
                wait_until("the write may go on", || !shut.load(Ordering::SeqCst));
            }
            Ok(())
        }))
    };
    fill(&log, 1, 2);
    shut.store(true, Ordering::SeqCst);
    log.submit(&payload(1, 3), |_| {}).unwrap();
    wait_until("the third entry is at the disk", || waiting.load(Ordering::SeqCst));
    log.enqueue(&payload(1, 4)).unwrap();
    log.enqueue(&payload(1, 5)).unwrap();
    assert_eq!(contents(&log), entries(1, 1, 2));
    for from in 1..=5 {
        assert_eq!(log.read_appended(from, ReadLimits::default()).unwrap(), entries(1, from, 5));
    }
    shut.store(false, Ordering::SeqCst);
    log.wait_durable(5).unwrap();
    assert_eq!(contents(&log), entries(1, 1, 5));
}

/// Every bit of every file of a running log, one after the other: a read says that the entry is damaged, or shows it
/// as it was.
#[test]
fn no_flipped_bit_is_read() {
    let storage = MemoryStorage::new();
    let options = LogOptions { segment_bytes: 4 * 1024, ..options() };
    let log = FramedLog::open_storage(Arc::new(storage.clone()), options).unwrap();
    for number in 0..40 {
        log.enqueue(format!(r#"{{"number":{number},"text":"{}"}}"#, "flip ".repeat(20)).as_bytes()).unwrap();
    }
    log.flush().unwrap();
    wait_until("the first segment is sealed", || {
        String::from_utf8_lossy(&content_of(&storage, "MANIFEST")).contains("sealed\":{")
    });
    let expected = contents(&log);
    let mut noticed = 0;
    for name in segments(&storage) {
        let content = content_of(&storage, &name);
        let Some(end) = content.iter().rposition(|byte| *byte != 0) else { continue };
        let header_bytes = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for bit in header_bytes as u64 * 8..(end as u64 + 1) * 8 {
            storage.flip_bit(&name, bit);
            match log.read(1, ReadLimits::default()) {
                Err(Error::Corruption { file, offset, sequence, .. }) => {
                    assert!(file.ends_with(&name) && offset <= bit / 8 && (1..=40).contains(&sequence));
                    noticed += 1;
                }
                Err(error) => panic!("{name} bit {bit}: {error}"),
                Ok(found) => panic!("{name} bit {bit} was accepted: {}", found == expected),
            }
            storage.flip_bit(&name, bit);
        }
    }
    assert!(noticed > 30_000, "only {noticed} bits were flipped");
    assert_eq!(contents(&log), expected);
}

/// A damaged entry stops a truncation that would copy it; the log stays as it is.
#[test]
fn what_is_damaged_is_not_copied() {
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 1, 5);
    wait_until("the next segment is prepared", || segments(&storage).len() == 2);
    let files = segments(&storage);
    let name = &files[0];
    storage.flip_bit(name, 8 * 300);
    let error = log.truncate_after(3).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. }), "{error}");
    storage.flip_bit(name, 8 * 300);
    assert_eq!(contents(&log), entries(1, 1, 5));
    assert_eq!(segments(&storage), files);
    log.truncate_after(3).unwrap();
    assert_eq!(contents(&log), entries(1, 1, 3));
}

/// Readers never stop while histories replace each other: each history keeps the entries up to its beginning and
/// replaces what is behind. What one read returns is one log as it was at some moment.
#[test]
fn a_read_sees_one_state_while_the_end_moves() {
    /// Where each history begins: some far back, some near the end.
    fn kept(history: u64) -> u64 {
        20 + history * 7 % 23
    }
    let storage = MemoryStorage::new();
    let log = open(&storage);
    fill(&log, 0, 45);
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = [true, false]
        .into_iter()
        .map(|only_durable| {
            let (log, stop, reads) = (log.clone(), Arc::clone(&stop), Arc::clone(&reads));
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let limits = ReadLimits::default();
                    let found = if only_durable { log.read(1, limits) } else { log.read_appended(1, limits) };
                    let histories: Vec<(u64, u64)> = found
                        .unwrap()
                        .into_iter()
                        .map(|entry| {
                            let text = String::from_utf8(entry.payload).unwrap();
                            let digits = text.trim_start_matches(r#"{"history":"#).split(',').next().unwrap();
                            (digits.parse().unwrap(), entry.sequence)
                        })
                        .collect();
                    let newest = histories.iter().map(|(history, _)| *history).max().unwrap();
                    for (history, sequence) in &histories {
                        let replaced_by = (history + 1..=newest).find(|later| *sequence > kept(*later));
                        assert_eq!(
                            replaced_by, None,
                            "sequence {sequence} is of history {history}, seen with {newest}"
                        );
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for history in 1..=60 {
        log.truncate_after(kept(history)).unwrap();
        fill(&log, history, 45);
        let so_far = reads.load(Ordering::SeqCst);
        wait_until("readers read each history", || {
            reads.load(Ordering::SeqCst) > so_far || readers.iter().any(std::thread::JoinHandle::is_finished)
        });
    }
    stop.store(true, Ordering::SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(storage.list().unwrap().len() < 20, "files are left over: {:?}", storage.list());
}
