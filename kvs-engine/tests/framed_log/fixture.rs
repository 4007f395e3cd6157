//! What the stories share: small logs, and entries that say who they are.

use std::sync::Arc;

use kvs_engine::log::{Entry, FramedLog, LogOptions, ReadLimits};
use kvs_engine::storage::{MemoryStorage, Storage};

/// Segments of a few entries, so that a short story fills several.
pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 4 * 1024, ..LogOptions::default() }
}

pub(crate) fn open(storage: &MemoryStorage) -> FramedLog {
    try_open(storage).unwrap_or_else(|error| panic!("the log opens: {error}"))
}

pub(crate) fn try_open(storage: &MemoryStorage) -> kvs_engine::Result<FramedLog> {
    FramedLog::open_storage(Arc::new(storage.clone()), options())
}

pub(crate) fn open_on(storage: Arc<dyn Storage>) -> FramedLog {
    FramedLog::open_storage(storage, options()).expect("the log opens")
}

/// An entry's payload: which history wrote it, and some 500 bytes, so that seven fill a segment.
pub(crate) fn payload(history: u64, number: u64) -> Vec<u8> {
    format!(r#"{{"history":{history},"number":{number},"padding":"{}"}}"#, "x".repeat(450)).into_bytes()
}

/// Appends entries up to a sequence, each with its own sequence as number, made durable together.
pub(crate) fn fill(log: &FramedLog, history: u64, last: u64) {
    for sequence in log.last_sequence() + 1..=last {
        assert_eq!(log.enqueue(&payload(history, sequence)).expect("the disk is in order"), sequence);
    }
    log.flush().expect("the disk is in order");
}

/// Everything in a log, read in small pieces.
pub(crate) fn contents(log: &FramedLog) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let next = log.first_sequence() + entries.len() as u64;
        let more = log.read(next, ReadLimits { records: 5, ..ReadLimits::default() }).expect("readable");
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

/// Entries of one history from a first to a last sequence.
pub(crate) fn entries(history: u64, first: u64, last: u64) -> Vec<Entry> {
    (first..=last).map(|sequence| Entry { sequence, payload: payload(history, sequence) }).collect()
}

/// The names of the log's files, in order.
pub(crate) fn segments(storage: &MemoryStorage) -> Vec<String> {
    let mut names: Vec<_> =
        storage.list().expect("a folder in memory").into_iter().filter(|name| name.ends_with(".log")).collect();
    names.sort();
    names
}
