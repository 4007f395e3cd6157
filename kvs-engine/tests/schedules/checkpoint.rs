//! Checkpoints beside writes, removals and compactions: whenever the power fails, what they say and what the log says is
//! everything that was acknowledged, and nothing that was removed.

use kvs_engine::KvsEngine;

use crate::answers::{Answers, get, get_after_power_loss, set};
use crate::disk::Disk;
use crate::{go, join, open_with, start_late, try_schedules};

#[test]
fn a_checkpoint_beside_writes_fits_the_log() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open_with(&disk, 1);
        for (key, value) in [("key", 1), ("other", 2), ("key", 3)] {
            set(&store, &disk, key, value).unwrap();
        }
        let answers = Answers::new(&disk);
        let writer = {
            let answers = answers.clone();
            go(&store, move |store| {
                start_late();
                answers.submit(store, "key", 4);
                store.remove("other").unwrap();
            })
        };
        let compactor = go(&store, |store| {
            start_late();
            store.compact().unwrap();
        });
        start_late();
        let acknowledged = if answers.is_answered(4) { 4 } else { 3 };
        let value = get_after_power_loss(&disk, "key");
        assert!(value >= Some(acknowledged), "{acknowledged} was acknowledged, {value:?} is there");
        join([writer, compactor]);
        assert_eq!(get(&store, &disk, "key"), Some(4));
        store.close().unwrap();
        assert_eq!(get_after_power_loss(&disk, "key"), Some(4));
        assert_eq!(get_after_power_loss(&disk, "other"), None, "what was removed is back");
    });
}
