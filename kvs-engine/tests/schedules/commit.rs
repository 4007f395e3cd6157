//! Group commit: who leads, who is told, and what a failed sync does.

use kvs_engine::{Error, KvsEngine};
use shuttle::rand::{Rng, thread_rng};

use crate::answers::{Answers, get, get_after_power_loss, set};
use crate::disk::Disk;
use crate::{go, join, open, try_schedules};

#[test]
fn every_write_is_answered_once_and_only_when_it_is_durable() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let answers = Answers::new(&disk);
        let blocking = [1, 2].map(|value| {
            let disk = disk.clone();
            go(&store, move |store| set(store, &disk, "key", value).expect("the disk works"))
        });
        let submitting = [[3, 4], [5, 6]].map(|values| {
            let answers = answers.clone();
            go(&store, move |store| values.map(|value| answers.submit(store, "other", value)).into_iter().collect())
        });
        // Before the store is closed, which would make up for a thread that nobody woke.
        answers.wait_for(4);
        join(blocking.into_iter().chain(submitting));
        (3..=6).for_each(|value| drop(answers.of(value).expect("the disk works")));
        store.close().unwrap();
    });
}

#[test]
fn what_a_read_shows_is_durable() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        set(&store, &disk, "key", 1).unwrap();
        let writer = go(&store, |store| {
            store.remove("key").unwrap();
            store.set("key", "2").unwrap();
        });
        let readers = [(); 2].map(|()| {
            let disk = disk.clone();
            go(&store, move |store| {
                for _ in 0..2 {
                    if get(store, &disk, "key").is_none() {
                        assert!(
                            disk.is_durable(r#"{"rm":{"key":"key"}}"#),
                            "a removal was shown before it was durable"
                        );
                    }
                }
            })
        });
        join(readers.into_iter().chain([writer]));
        store.close().unwrap();
    });
}

#[test]
fn a_flush_ends_and_covers_what_came_before_it() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let answers = Answers::new(&disk);
        let writers = [[1, 2], [3, 4]].map(|values| {
            let (answers, disk) = (answers.clone(), disk.clone());
            go(&store, move |store| {
                for value in values {
                    answers.submit(store, "key", value);
                }
                store.flush().unwrap();
                for value in values {
                    assert!(disk.is_durable(&format!(r#""value":"{value}"}}"#)), "a flush left write {value} behind");
                }
            })
        });
        join(writers);
        answers.wait_for(4);
        store.close().unwrap();
    });
}

#[test]
fn after_a_failed_sync_everybody_is_answered_and_nobody_acknowledged() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let answers = Answers::new(&disk);
        disk.fail_sync_after(thread_rng().gen_range(0..4));
        let blocking = [1, 2].map(|value| {
            let disk = disk.clone();
            go(&store, move |store| is_fatal_or_fine(set(store, &disk, "key", value)))
        });
        let submitting = {
            let answers = answers.clone();
            go(&store, move |store| [3, 4].map(|value| answers.submit(store, "other", value)).into_iter().collect())
        };
        answers.wait_for(2);
        join(blocking.into_iter().chain([submitting]));
        is_fatal_or_fine(answers.of(3));
        is_fatal_or_fine(answers.of(4));
        if answers.of(4).is_ok() {
            assert_eq!(get_after_power_loss(&disk, "other"), Some(4), "an acknowledged write is lost");
        }
        let poisoned = store.fatal().is_some();
        assert!(!poisoned || disk.has_failed());
        if poisoned {
            is_fatal(store.set("key", "5"));
            is_fatal(store.close());
        } else {
            // The last sync may be the one that fails, or one of those that only prepare the next segment.
            is_fatal_or_fine(store.close());
        }
    });
}

fn is_fatal(result: Result<(), Error>) {
    let error = result.expect_err("a poisoned store acknowledges nothing");
    assert!(error.is_fatal(), "{error}");
}

fn is_fatal_or_fine<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        assert!(error.is_fatal(), "{error}");
    }
}
