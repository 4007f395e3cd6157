//! A write meets a compaction at its worst moment: after the old value was copied, before the index points at the copy.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

#[path = "support/hooked.rs"]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hooked::Hooked;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Error, KvStore, KvsEngine, Options};
use support::{content_of, open_with, tiny, wait_until};

const KEYS: u32 = 30;

fn key(number: u32) -> String {
    format!("key-{number}")
}

/// Whether a file is the whole output of a compaction that is not in force yet: no manifest lists it, and it holds more
/// than a header and ends with a line, not with zeros to append to.
fn is_output(disk: &MemoryStorage, name: &str) -> bool {
    let id: u64 = name.trim_end_matches(".log").parse().unwrap();
    let manifest = String::from_utf8(content_of(disk, "MANIFEST")).unwrap();
    let listed = [",", "}"].iter().any(|end| manifest.contains(&format!("\"id\":{id}{end}")));
    let content = content_of(disk, name);
    !listed && content.len() > 1_000 && content.ends_with(b"\n")
}

#[test]
fn a_write_during_a_compaction_wins() {
    let disk = MemoryStorage::new();
    let (armed, held, go_on) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let storage = {
        let (armed, held, go_on) = (Arc::clone(&armed), Arc::clone(&held), Arc::clone(&go_on));
        let disk = disk.clone();
        Hooked::new(&disk.clone(), move |call, name| {
            let is_output = || call == "sync" && name.ends_with(".log") && is_output(&disk, name);
            if armed.load(Ordering::SeqCst) && is_output() && armed.swap(false, Ordering::SeqCst) {
                held.store(true, Ordering::SeqCst);
                wait_until("the racing writes are done", || go_on.load(Ordering::SeqCst));
            }
            Ok(())
        })
    };
    let options = Options { compaction_threshold_bytes: u64::MAX, segment_bytes: 64 * 1024, ..tiny() };
    let store = KvStore::open_storage(storage, options.clone()).unwrap();
    for round in ["older", "old"] {
        for number in 0..KEYS {
            store.set(key(number), format!("{round} {}", "x".repeat(100))).unwrap();
        }
    }
    // The first compaction seals the segment and leaves one that holds all keys; the next one copies them again.
    store.compact().unwrap();
    store.set(key(0), "makes something dead").unwrap();
    wait_until("the next segment is prepared", || store.stats().segments > 2);
    armed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| store.compact().unwrap());
        wait_until("all is copied", || held.load(Ordering::SeqCst));
        for number in 1..KEYS {
            match number % 3 {
                0 => store.remove(key(number)).unwrap(),
                1 => store.set(key(number), "new").unwrap(),
                _ => {}
            }
        }
        go_on.store(true, Ordering::SeqCst);
    });
    let check = |store: &KvStore, story: &str| {
        for number in 1..KEYS {
            let found = store.get(key(number)).unwrap().map(|value| String::from_utf8(value).unwrap());
            match number % 3 {
                0 => assert_eq!(found, None, "{story}: {}", key(number)),
                1 => assert_eq!(found.as_deref(), Some("new"), "{story}: {}", key(number)),
                _ => assert!(found.is_some_and(|value| value.starts_with("old ")), "{story}: {}", key(number)),
            }
        }
    };
    check(&store, "at once");
    store.compact().unwrap();
    check(&store, "after one more compaction");
    assert!(matches!(store.remove(key(3)), Err(Error::KeyNotFound)));
    check(&open_with(&disk.after_kill(), &options).unwrap(), "opened again");
}
