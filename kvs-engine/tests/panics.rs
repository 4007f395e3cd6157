//! A fault of the program while the log is being written: everybody who waits is told, and nothing is acknowledged after
//! it.

mod support;

#[path = "support/hooked.rs"]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hooked::Hooked;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Error, KvStore, KvsEngine};
use support::{open_with, tiny, wait_until};

#[test]
fn a_fault_at_the_disk_is_told_to_all_who_wait_and_ends_all_writing() {
    for call in ["write", "sync"] {
        let disk = MemoryStorage::new();
        let armed = Arc::new(AtomicBool::new(false));
        let storage = {
            let armed = Arc::clone(&armed);
            Hooked::new(&disk, move |name, file| {
                let hit = name == call && file.ends_with(".log") && armed.load(Ordering::SeqCst);
                assert!(!hit, "a fault that a test wants");
                Ok(())
            })
        };
        let store = KvStore::open_storage(storage, tiny()).unwrap();
        store.set("before", "kept").unwrap();
        armed.store(true, Ordering::SeqCst);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let store = store.clone();
                scope.spawn(move || {
                    let outcome = store.set(format!("key-{number}"), "v");
                    assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{call}: {outcome:?}");
                });
            }
        });
        wait_until("the store says so", || store.fatal().is_some());
        armed.store(false, Ordering::SeqCst);
        assert!(matches!(store.set("after", "v"), Err(Error::Poisoned { .. })), "{call}");
        drop(store);
        let store = open_with(&disk, &tiny()).unwrap();
        assert_eq!(store.get("before").unwrap().unwrap(), b"kept", "{call}");
        assert_eq!(store.get("after").unwrap(), None, "{call}");
    }
}
