//! The number of a segment is never used twice, whatever dies in between: a checkpoint knows segments by their numbers,
//! and does not read again what it knows.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

#[path = "support/hooked.rs"]
mod hooked;

use std::io;

use hooked::Hooked;
use kvs_engine::storage::{MemoryStorage, Storage as _};
use kvs_engine::{KvStore, KvsEngine, Options};
use support::{content_of, data_files, open_with, tiny, wait_until};

const KEYS: u32 = 20;

/// A checkpoint knows the empty segment that was prepared ahead. The process dies, the next one drops that segment and
/// dies before it made another one; the third compacts, and its output would get the number.
/// Whether the last segment holds nothing but its header, and the checkpoint lists it.
fn knows_an_empty_segment(disk: &MemoryStorage) -> bool {
    let files = data_files(disk);
    let Some(last) = files.iter().rfind(|name| name.ends_with(".log")) else { return false };
    let id: u64 = last.trim_end_matches(".log").parse().unwrap();
    let lines = content_of(disk, last).iter().filter(|byte| **byte == b'\n').count();
    let is_known = files.iter().any(|name| name == "CHECKPOINT") && {
        let checkpoint = content_of(disk, "CHECKPOINT");
        String::from_utf8_lossy(&checkpoint).contains(&format!("\"id\":{id}}}"))
    };
    lines == 1 && is_known
}

#[test]
fn a_segment_that_a_checkpoint_knows_leaves_its_number_to_nobody() {
    let options = Options { compaction_threshold_bytes: u64::MAX, checkpoint_bytes: 1, ..tiny() };
    let disk = MemoryStorage::new();
    let store = open_with(&disk, &options).unwrap();
    for round in 0..3 {
        for key in 0..KEYS {
            store.set(format!("key-{key}"), format!("{round} {}", "x".repeat(100))).unwrap();
        }
    }
    // Until a checkpoint knows a segment without records, which is the last one.
    let mut killed = disk.after_kill();
    let mut number = 0;
    wait_until("a checkpoint knows the segment that is prepared", || {
        store.set("grows", number.to_string()).unwrap();
        number += 1;
        killed = disk.after_kill();
        knows_an_empty_segment(&killed)
    });
    let mut disk = killed;
    // Without its reserves the log prepares nothing: so the number of what was dropped is free.
    let opened = |disk: &MemoryStorage| {
        for name in disk.list().unwrap().iter().filter(|name| name.starts_with("RESERVE")) {
            disk.remove(name).unwrap();
        }
        let storage = Hooked::new(disk, |call, name| {
            let reserves = call == "create" && name.starts_with("RESERVE");
            if reserves { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        KvStore::open_storage(storage, options.clone()).unwrap()
    };
    let check = |store: &KvStore, life: &str| {
        for key in 0..KEYS {
            let found = store.get(format!("key-{key}")).unwrap();
            assert!(found.is_some_and(|value| value.starts_with(b"2 ")), "{life}: key-{key}");
        }
    };
    let store = opened(&disk);
    check(&store, "after the first death");
    disk = disk.after_kill();
    drop(store);
    let store = opened(&disk);
    check(&store, "after the second death");
    store.compact().unwrap();
    check(&store, "compacted");
    check(&open_with(&disk.after_kill(), &options).unwrap(), "after the third death");
}
