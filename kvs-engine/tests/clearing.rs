//! The power fails while a store is cleared: what is found afterwards are old values, each as it was, and after the
//! clear was answered none of them.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::sync::Arc;

use kvs_engine::limits::CLEAR_BATCH_KEYS;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{KvStore, KvsEngine, Mutation, Options, Scan, SyncPolicy};
use support::recording::{Note, Player, Recording};
use support::{Random, figure};

/// More keys than one batch of removals has, so that a crash can come between two.
const KEYS: usize = CLEAR_BATCH_KEYS + 100;

fn key(number: usize) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

/// Fills and clears a store; gives the notes, and where the clear began and was answered.
fn story(options: &Options) -> (Vec<Note>, usize, usize) {
    let recording = Recording::new(MemoryStorage::new());
    let store = KvStore::open_storage(Arc::new(recording.clone()), options.clone()).unwrap();
    let numbers: Vec<usize> = (0..KEYS).collect();
    for part in numbers.chunks(300) {
        let set = |number: &usize| Mutation::Set { key: key(*number), value: number.to_string().into_bytes() };
        store.write_batch(part.iter().map(set).collect()).unwrap();
    }
    store.flush().unwrap();
    let began = recording.notes().len();
    store.clear().unwrap();
    let answered = recording.notes().len();
    store.set("after", "value").unwrap();
    (recording.notes(), began, answered)
}

#[test]
fn a_clear_that_is_cut_leaves_old_values_and_one_that_was_answered_none() {
    let mut states = 0;
    for sync in [SyncPolicy::Always, SyncPolicy::Os] {
        let options =
            Options { sync, segment_bytes: 128 * 1024, compaction_threshold_bytes: u64::MAX, ..Options::default() };
        let (notes, began, answered) = story(&options);
        let mut player = Player::new(MemoryStorage::new());
        let mut random = Random(7);
        let mut between = false;
        for (number, note) in notes.iter().enumerate() {
            player.play(note);
            let played = number + 1;
            if played < began {
                continue;
            }
            for kept_percent in [0, 100, 50] {
                let disk = player.disk.after_power_loss(|| random.below(100) < kept_percent);
                let store = KvStore::open_storage(Arc::new(disk), options.clone()).unwrap();
                let story = format!("{sync:?}, call {number} of {}, {kept_percent} %", notes.len());
                let mut scan = Scan::default();
                let mut found = 0;
                loop {
                    let page = store.scan(&scan).unwrap();
                    for entry in page.entries.into_iter().filter(|entry| entry.key != b"after") {
                        let value = entry.value.unwrap();
                        assert_eq!(entry.key, [&b"key-"[..], &value].concat(), "{story}: no old value");
                        found += 1;
                    }
                    let Some(next) = page.next else { break };
                    scan.after = Some(next);
                }
                assert_eq!(store.count().unwrap() - u64::from(store.get("after").unwrap().is_some()), found, "{story}");
                if played >= answered {
                    assert_eq!(found, 0, "{story}: the clear was answered");
                }
                between |= found > 0 && found < KEYS as u64;
                states += 1;
            }
        }
        assert!(between, "{sync:?}: no crash came between the batches, so this shows nothing");
    }
    figure(&format!("{states} states"));
}
