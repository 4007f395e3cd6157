//! A fault of the program while the log is being written: everybody who waits is told, and nothing is acknowledged after
//! it. A fault of somebody else's program beside it changes nothing.

mod support;

#[path = "support/hooked.rs"]
mod hooked;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hooked::Hooked;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Error, KvStore, KvsEngine, Mutation, Observer, Options};
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

/// Notes in a store that it ends, whatever the reason is.
struct NotesItsEnd<'a>(&'a KvStore);

impl Drop for NotesItsEnd<'_> {
    fn drop(&mut self) {
        let batch = vec![Mutation::Set { key: b"batch".to_vec(), value: b"whole".to_vec() }];
        let done = self.0.set("ended", "yes").and_then(|()| self.0.remove("ended"));
        let done = done.and_then(|()| self.0.write_batch(batch));
        // To panic here would end the process.
        if let Err(error) = done {
            eprintln!("{error}");
        }
    }
}

#[test]
fn what_is_written_while_a_fault_of_its_caller_passes_by_is_written_as_ever() {
    let store = open_with(&MemoryStorage::new(), &tiny()).unwrap();
    let fault = catch_unwind(AssertUnwindSafe(|| {
        let _notes = NotesItsEnd(&store);
        panic!("a fault that a test wants");
    }));
    assert!(fault.is_err());
    assert!(store.fatal().is_none(), "{:?}", store.fatal());
    store.set("after", "v").unwrap();
    assert_eq!(store.get("batch").unwrap().unwrap(), b"whole");
}

/// An observer whose every word is a fault.
struct Faulty;

impl Observer for Faulty {
    fn written(&self, _: Duration, _: u64) {
        panic!("a fault that a test wants");
    }

    fn synced(&self, _: Duration, _: u64, _: u64) {
        panic!("a fault that a test wants");
    }

    fn answers(&self) {
        panic!("a fault that a test wants");
    }

    fn answered(&self) {
        panic!("a fault that a test wants");
    }
}

#[test]
fn a_fault_of_who_only_observes_keeps_nobody_waiting() {
    let options = Options { observer: Arc::new(Faulty), ..tiny() };
    let store = open_with(&MemoryStorage::new(), &options).unwrap();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let store = store.clone();
            scope.spawn(move || store.set(format!("key-{number}"), "v").unwrap());
        }
    });
    store.flush().unwrap();
    assert!(store.fatal().is_none(), "{:?}", store.fatal());
}
