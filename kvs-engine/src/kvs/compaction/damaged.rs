//! The story of a damaged segment that is told again.

use std::time::{Duration, Instant};

use super::{LONGEST_RETRY, is_damaged};
use crate::storage::MemoryStorage;
use crate::sync::Arc;
use crate::{KvStore, KvsEngine as _, Options};

#[test]
fn a_damaged_segment_is_told_again_after_a_while() {
    let disk = MemoryStorage::new();
    let options = Options { segment_bytes: 4 * 1024, compaction_threshold_bytes: 4 * 1024, ..Options::default() };
    let store = KvStore::open_storage(Arc::new(disk.clone()), options).unwrap();
    store.set("twice", "once").unwrap();
    let overwrite = || (0..30).for_each(|number| store.set(format!("key-{number}"), "x".repeat(300)).unwrap());
    store.set("twice", "again").unwrap();
    overwrite();
    // Behind the header of 114 bytes, in the first record.
    disk.flip_bit("00000001.log", 150 * 8);
    let deadline = Instant::now() + Duration::from_secs(30);
    let until_failures = |failures| {
        while store.stats().compaction_failures < failures {
            overwrite();
            assert!(Instant::now() < deadline, "{:?}", store.stats());
        }
    };
    until_failures(1);
    while store.stats().compactions == 0 {
        overwrite();
        assert!(Instant::now() < deadline, "the others are not compacted: {:?}", store.stats());
    }
    let damaged = store.core().log.segments().into_iter().find(is_damaged).unwrap();
    let before = Instant::now().checked_sub(LONGEST_RETRY).expect("this machine runs longer than a minute");
    *damaged.damaged_at.lock().unwrap() = Some(before);
    until_failures(2);
}
