//! Segments that fill up while others write: the next one comes, and a close meets those who wait for it.

use kvs_engine::KvsEngine;

use crate::answers::is_closed;
use crate::disk::Disk;
use crate::{go, join, open, try_schedules};

/// Two records of this value fill a segment.
const LARGE_VALUE_BYTES: usize = 1900;

/// The value that one writer gives one key; no other record holds it.
fn large_value(letter: char, key: u8) -> String {
    letter.to_string().repeat(LARGE_VALUE_BYTES) + &key.to_string()
}

fn name(letter: char, key: u8) -> String {
    format!("{letter}{key}")
}

#[test]
fn writers_that_fill_segments_get_the_next_one() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let writers = ['a', 'b'].map(|letter| {
            go(&store, move |store| {
                for key in 0..3 {
                    store.set(name(letter, key), large_value(letter, key)).unwrap();
                }
            })
        });
        let compactor = go(&store, |store| store.compact().unwrap());
        join(writers.into_iter().chain([compactor]));
        let later = open(&disk.after_power_loss());
        for store in [&store, &later] {
            for letter in ['a', 'b'] {
                for key in 0..3 {
                    assert_eq!(store.get(name(letter, key)).unwrap(), Some(large_value(letter, key).into()));
                }
            }
            store.close().unwrap();
        }
    });
}

#[test]
fn a_close_meets_writers_that_wait_for_a_segment() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let writers = ['a', 'b'].map(|letter| {
            let disk = disk.clone();
            go(&store, move |store| {
                for key in 0..3 {
                    if is_closed(&store.set(name(letter, key), large_value(letter, key))) {
                        return;
                    }
                    assert!(disk.is_durable(&large_value(letter, key)), "acknowledged before it was durable");
                }
            })
        });
        let closing = go(&store, |store| store.close().unwrap());
        join(writers.into_iter().chain([closing]));
    });
}
