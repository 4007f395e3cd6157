//! Who was answered what: every answer is checked against the disk at the moment when it is given.
//!
//! What must hold: nobody is answered twice, and nobody hears of success before the disk has the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvs_engine::{Complete, Completion, Error, KvStore, KvsEngine, Operation, Outcome, Result};
use shuttle::sync::{Condvar, Mutex};

use crate::disk::Disk;

/// The answers to writes that were submitted and not waited for. The token of a write is its value.
pub(crate) struct Answers {
    disk: Disk,
    given: Mutex<BTreeMap<u64, Result<Outcome>>>,
    arrived: Condvar,
}

impl Answers {
    pub(crate) fn new(disk: &Disk) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), given: Mutex::default(), arrived: Condvar::new() })
    }

    /// Submits a write of a value that no other write has.
    pub(crate) fn submit(self: &Arc<Self>, store: &KvStore, key: &str, value: u64) {
        let completion = Completion::new(Arc::clone(self) as Arc<dyn Complete>, value);
        store.submit(Operation::Set { key: key.into(), value: value.to_string().into() }, completion);
    }

    /// Blocks until so many writes were answered.
    pub(crate) fn wait_for(&self, count: usize) {
        let mut given = self.given.lock().unwrap();
        while given.len() < count {
            given = self.arrived.wait(given).unwrap();
        }
    }

    /// Whether a write was answered.
    pub(crate) fn is_answered(&self, value: u64) -> bool {
        self.given.lock().unwrap().contains_key(&value)
    }

    /// The answer to a write; it must have come.
    pub(crate) fn of(&self, value: u64) -> Result<Outcome> {
        self.given.lock().unwrap().get(&value).unwrap_or_else(|| panic!("write {value} was never answered")).clone()
    }
}

impl Complete for Answers {
    fn complete(&self, value: u64, result: Result<Outcome>) {
        if result.is_ok() {
            assert!(is_durable(&self.disk, value), "write {value} was acknowledged before it was durable");
        }
        let twice = self.given.lock().unwrap().insert(value, result).is_some();
        assert!(!twice, "write {value} was answered twice");
        self.arrived.notify_all();
    }
}

/// Writes a value that no other write has and waits; returns whether it was acknowledged.
pub(crate) fn set(store: &KvStore, disk: &Disk, key: &str, value: u64) -> Result<()> {
    store.set(key, value.to_string()).inspect(|()| {
        assert!(is_durable(disk, value), "write {value} was acknowledged before it was durable");
    })
}

/// The value of a key, which must be durable when it is shown.
pub(crate) fn get(store: &KvStore, disk: &Disk, key: &str) -> Option<u64> {
    let bytes = store.get(key).expect("nothing is damaged")?;
    let value = String::from_utf8(bytes).unwrap().parse().unwrap();
    assert!(is_durable(disk, value), "value {value} was shown before it was durable");
    Some(value)
}

fn is_durable(disk: &Disk, value: u64) -> bool {
    disk.is_durable(&format!(r#""value":"{value}"}}"#))
}

/// The value of a key after the power failed now.
pub(crate) fn get_after_power_loss(disk: &Disk, key: &str) -> Option<u64> {
    let disk = disk.after_power_loss();
    let store = crate::open(&disk);
    let value = get(&store, &disk, key);
    store.close().unwrap();
    value
}

/// Refuses an answer that is none of a store that closes.
pub(crate) fn is_closed(result: &Result<impl Sized>) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::Closed) => true,
        Err(error) => panic!("a store that closes answered: {error}"),
    }
}
