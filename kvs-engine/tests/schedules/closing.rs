//! Closing a store while others write: each is answered, as durable or as closed, and nobody waits for ever.

use kvs_engine::{Completion, KvsEngine, Operation};

use crate::answers::{Answers, get_after_power_loss, is_closed, set};
use crate::disk::Disk;
use crate::{go, join, open, try_schedules};

#[test]
fn every_write_that_meets_a_close_is_durable_or_refused() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let answers = Answers::new(&disk);
        let submitting = {
            let answers = answers.clone();
            go(&store, move |store| {
                for value in 1..=3 {
                    answers.submit(store, "submitted", value);
                }
            })
        };
        let blocking = {
            let disk = disk.clone();
            go(&store, move |store| {
                let closed = is_closed(&set(store, &disk, "waited for", 4));
                let found = get_after_power_loss(&disk, "waited for");
                assert!(closed || found == Some(4), "an acknowledged write is lost");
            })
        };
        let closing = go(&store, |store| store.close().unwrap());
        join([submitting, blocking, closing]);
        // Nothing is waited for: who submitted before the close was answered by it.
        let acknowledged = (1..=3).filter(|value| !is_closed(&answers.of(*value))).max();
        let found = get_after_power_loss(&disk, "submitted");
        assert!(found >= acknowledged, "{acknowledged:?} was acknowledged, {found:?} is there");
    });
}

#[test]
fn an_answer_may_drop_the_last_handle() {
    try_schedules(|| {
        let disk = Disk::default();
        let store = open(&disk);
        let (answered, hear) = shuttle::sync::mpsc::channel();
        let last = store.clone();
        let completion = Completion::call(move |result| {
            drop(last);
            answered.send(result.is_ok()).unwrap();
        });
        store.submit(Operation::Set { key: "key".into(), value: "1".into() }, completion);
        drop(store);
        assert!(hear.recv().unwrap(), "the write came before the end");
        assert_eq!(get_after_power_loss(&disk, "key"), Some(1));
    });
}
