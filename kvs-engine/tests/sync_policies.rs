//! What each sync policy survives, and what it may lose: the death of the process and the loss of power, for a store
//! and for a log on its own.
//!
//! Whatever the policy, what is found afterwards is a beginning of what was acknowledged: no gap, nothing else.

#[path = "support/hooked.rs"]
mod hooked;
mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hooked::Hooked;
use kvs_engine::log::{FramedLog, LogOptions, ReadLimits};
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{KvStore, KvsEngine, Options, SyncPolicy};
use support::{Random, wait_until};

/// Longer than any test takes: a sync by time never comes.
const NEVER: Duration = Duration::from_secs(3_600);
/// So short that a test sees it come.
const SOON: Duration = Duration::from_millis(20);

fn store(disk: &MemoryStorage, sync: SyncPolicy) -> KvStore {
    let options = Options { sync, segment_bytes: 8 * 1024, ..Options::default() };
    KvStore::open_storage(Arc::new(disk.clone()), options).expect("the store opens")
}

fn log(disk: &MemoryStorage, sync: SyncPolicy) -> FramedLog {
    let options = LogOptions { sync, segment_bytes: 8 * 1024, ..LogOptions::default() };
    FramedLog::open_storage(Arc::new(disk.clone()), options).expect("the log opens")
}

fn key(number: u64) -> String {
    format!("key-{number:03}")
}

/// Sets keys, each acknowledged before the next, and gives the folder and the store that is still open.
fn acknowledged(sync: SyncPolicy, numbers: std::ops::Range<u64>) -> (MemoryStorage, KvStore) {
    let disk = MemoryStorage::new();
    let store = store(&disk, sync);
    for number in numbers {
        store.set(key(number), "v".repeat(50)).expect("the disk is in order");
    }
    (disk, store)
}

/// How many keys a store holds, which must be the first ones.
fn found(disk: &MemoryStorage) -> u64 {
    let store = store(disk, SyncPolicy::Always);
    let count = store.stats().keys;
    for number in 0..count {
        assert!(store.get(key(number)).expect("readable").is_some(), "{count} keys, and {} is not one", key(number));
    }
    count
}

/// What is left after the loss of power: nothing un-synced, all of it, and parts of it, in many ways.
fn losses(disk: &MemoryStorage) -> Vec<u64> {
    let mut random = Random(3);
    let mut left = vec![found(&disk.after_power_loss(|| false)), found(&disk.after_power_loss(|| true))];
    for kept in (5..100).step_by(5) {
        left.push(found(&disk.after_power_loss(|| random.below(100) < kept)));
    }
    left
}

#[test]
fn always_survives_the_death_of_the_process_and_the_loss_of_power() {
    let (disk, _store) = acknowledged(SyncPolicy::Always, 0..40);
    assert_eq!(found(&disk.after_kill()), 40);
    assert!(losses(&disk).iter().all(|left| *left == 40));
}

#[test]
fn an_interval_survives_the_death_of_the_process_and_loses_its_last_writes_with_the_power() {
    let (disk, store) = acknowledged(SyncPolicy::Interval(NEVER), 0..40);
    assert_eq!(found(&disk.after_kill()), 40);
    assert_eq!(found(&disk.after_power_loss(|| false)), 0, "the policy had no need to sync yet");
    assert!(losses(&disk).iter().any(|left| (1..40).contains(left)), "parts are possible as well");
    // Who asks for it has everything durable.
    store.flush().unwrap();
    assert!(losses(&disk).iter().all(|left| *left == 40));
    store.set(key(40), "not synced").unwrap();
    assert_eq!(found(&disk.after_power_loss(|| false)), 40);
}

/// No call asks for the sync: it comes by time.
#[test]
fn an_interval_later_the_loss_of_power_takes_nothing_any_more() {
    let (disk, _store) = acknowledged(SyncPolicy::Interval(SOON), 0..40);
    wait_until("the interval's sync", || found(&disk.after_power_loss(|| false)) == 40);
}

#[test]
fn the_operating_systems_pace_survives_the_death_of_the_process_and_not_the_loss_of_power() {
    let (disk, store) = acknowledged(SyncPolicy::Os, 0..40);
    assert_eq!(found(&disk.after_kill()), 40);
    assert_eq!(found(&disk.after_power_loss(|| false)), 0);
    assert!(losses(&disk).iter().any(|left| (1..40).contains(left)), "parts are possible as well");
    store.flush().unwrap();
    assert!(losses(&disk).iter().all(|left| *left == 40));
}

/// A store that is closed, or that seals a segment, leaves nothing un-synced behind, whatever its policy.
#[test]
fn a_clean_end_makes_everything_durable_whatever_the_policy() {
    for sync in [SyncPolicy::Always, SyncPolicy::Interval(NEVER), SyncPolicy::Os] {
        let (disk, store) = acknowledged(sync, 0..40);
        store.close().unwrap();
        assert!(losses(&disk).iter().all(|left| *left == 40), "{sync:?}");
    }
}

/// The process dies while the operating system still has everything un-synced, and the power fails after the next one
/// has opened the folder: what that one shows, it made durable first.
#[test]
fn what_the_next_process_finds_survives_the_loss_of_power_as_well() {
    for sync in [SyncPolicy::Interval(NEVER), SyncPolicy::Os] {
        let disk = MemoryStorage::new();
        let dead = Arc::new(AtomicBool::new(false));
        let process = {
            let dead = Arc::clone(&dead);
            Hooked::new(
                &disk,
                move |_, _| if dead.load(Ordering::SeqCst) { Err(io::Error::other("dead")) } else { Ok(()) },
            )
        };
        let options = Options { sync, segment_bytes: 8 * 1024, ..Options::default() };
        let first = KvStore::open_storage(process, options).unwrap();
        (0..40).for_each(|number| first.set(key(number), "v".repeat(50)).unwrap());
        dead.store(true, Ordering::SeqCst);
        drop(first);
        assert_eq!(found(&disk.after_power_loss(|| false)), 0, "nothing was synced by the one that died");
        let second = store(&disk, sync);
        assert_eq!(second.stats().keys, 40);
        assert_eq!(found(&disk.after_power_loss(|| false)), 40, "{sync:?}");
    }
}

/// The log on its own tells that an entry is durable when the policy has it so, and keeps the same promises.
#[test]
fn a_log_on_its_own_keeps_the_same_policies() {
    let left = |disk: &MemoryStorage| {
        let log = log(disk, SyncPolicy::Always);
        let limits = ReadLimits { records: 1_000, bytes: usize::MAX };
        let entries = log.read(1, limits).expect("readable");
        for (entry, number) in entries.iter().zip(1..) {
            assert_eq!((entry.sequence, &entry.payload[..]), (number, number.to_string().as_bytes()));
        }
        entries.len()
    };
    for (sync, at_once) in [(SyncPolicy::Always, 100), (SyncPolicy::Interval(NEVER), 0), (SyncPolicy::Os, 0)] {
        let disk = MemoryStorage::new();
        let log = log(&disk, sync);
        for number in 1..=100_u64 {
            assert_eq!(log.append(number.to_string().as_bytes()).unwrap(), number);
        }
        assert_eq!(log.durable_sequence(), 100);
        assert_eq!(left(&disk.after_kill()), 100, "{sync:?}");
        assert_eq!(left(&disk.after_power_loss(|| false)), at_once, "{sync:?}");
        let mut random = Random(5);
        for _ in 0..20 {
            assert!((at_once..=100).contains(&left(&disk.after_power_loss(|| random.below(2) == 0))), "{sync:?}");
        }
        // A truncation is durable when it returns, whatever the policy.
        log.truncate_after(60).unwrap();
        assert_eq!(left(&disk.after_power_loss(|| false)), 60, "{sync:?}");
        assert_eq!(log.append(b"61").unwrap(), 61);
        log.flush().unwrap();
        assert_eq!(left(&disk.after_power_loss(|| false)), 61, "{sync:?}");
    }
    let disk = MemoryStorage::new();
    let log = log(&disk, SyncPolicy::Interval(SOON));
    log.append(b"1").unwrap();
    wait_until("the interval's sync", || left(&disk.after_power_loss(|| false)) == 1);
}
