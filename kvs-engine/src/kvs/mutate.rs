//! The way of a mutation: find the key, lock its shard, append the record, point the index at it.
//!
//! What must hold, under the lock of a key's shard: the record is appended and the index points at it before anybody
//! else sees the key; a removal, a conditional set, a taking and a batch decide by what the index says then. So
//! operations on one key happen in the order of their sequences, a pipeline reads its own writes, and two removals of
//! one key never both succeed.

use super::index::{KeyHash, Shard};
use super::location::Location;
use super::read::Found;
use super::record;
use super::store::{Core, Waiting};
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::log::segment::Segment;
use crate::log::{Placed, Purpose};
use crate::operation::{Condition, Mutation, Operation, Outcome};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard};
use crate::zoo;

/// Between these two an acknowledged record could stand that no reader finds.
pub(super) const TOGETHER: &str = "appending a record and pointing the index at it";

#[cfg(test)]
std::thread_local! {
    /// A test's wish: the next record is appended and the index not pointed at it.
    static FAULT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Core {
    /// Applies a mutation under its key's lock; the answer waits for the log. Does not make the log go.
    pub(super) fn mutate(&self, operation: Operation, completion: Completion) {
        let mut completion = Some(completion);
        let done = match operation {
            Operation::Set { key, value } => self.set(Mutation::Set { key, value }, &mut completion),
            Operation::SetIf { key, value, condition, old } => {
                self.set_if(Mutation::Set { key, value }, condition, old, &mut completion)
            }
            Operation::Remove { key } => self.remove(key, &mut completion),
            Operation::Take { key } => self.take(key, &mut completion),
            Operation::Batch(mutations) => self.batch(&mutations, &mut completion),
            Operation::Get { key } => {
                let completion = completion.take().expect("it was put there above");
                self.get(&key, completion);
                return;
            }
        };
        if let (Err(error), Some(completion)) = (done, completion) {
            completion.complete(Err(error));
        }
    }

    fn set(&self, mutation: Mutation, completion: &mut Option<Completion>) -> Result<()> {
        let payload = record::encode(&mutation);
        let key = mutation.key();
        let hash = self.index.hash(key);
        let (found, mut shard) = self.find_and_lock(hash, key)?;
        let _together = self.log.or_poison(TOGETHER);
        let placed = self.append(&payload, Purpose::Grow, Outcome::Done, completion)?;
        let new = Location::new(placed.segment.slot(), placed.offset, false, placed.bytes);
        self.point(&mut shard, hash, found.place, Some(new), placed.sequence);
        drop(shard);
        self.count_appended(placed.bytes);
        Ok(())
    }

    /// A set that is decided by what the index says under the shard's lock.
    fn set_if(
        &self,
        mutation: Mutation,
        condition: Condition,
        wants_old: bool,
        completion: &mut Option<Completion>,
    ) -> Result<()> {
        let payload = record::encode(&mutation);
        let key = mutation.key();
        let hash = self.index.hash(key);
        let (found, old, mut shard) = self.find_value_and_lock(hash, key, wants_old)?;
        let stored = condition.holds(found.place.is_some());
        let outcome = Outcome::of_set_if(stored, wants_old, old);
        if !stored {
            // Under the lock: the segment of a place goes only after the index names it no more.
            let shown = found.place.map(|place| (Arc::clone(self.log.view().segment(place.slot())), place.offset()));
            drop(shard);
            self.answer_shown(shown, found.removed_at, Ok(outcome), completion);
            return Ok(());
        }
        let _together = self.log.or_poison(TOGETHER);
        let placed = self.append(&payload, Purpose::Grow, outcome, completion)?;
        let new = Location::new(placed.segment.slot(), placed.offset, false, placed.bytes);
        self.point(&mut shard, hash, found.place, Some(new), placed.sequence);
        drop(shard);
        self.count_appended(placed.bytes);
        Ok(())
    }

    /// A removal whose answer is what was there.
    fn take(&self, key: Vec<u8>, completion: &mut Option<Completion>) -> Result<()> {
        let hash = self.index.hash(&key);
        let (found, old, mut shard) = self.find_value_and_lock(hash, &key, true)?;
        let Some(place) = found.place else {
            drop(shard);
            self.answer_shown(None, found.removed_at, Ok(Outcome::Value(None)), completion);
            return Ok(());
        };
        let payload = record::encode(&Mutation::Remove { key });
        let _together = self.log.or_poison(TOGETHER);
        let placed = self.append(&payload, Purpose::Shrink, Outcome::Value(old), completion)?;
        self.point(&mut shard, hash, Some(place), None, placed.sequence);
        drop(shard);
        self.count_appended(placed.bytes);
        Ok(())
    }

    /// Answers an operation that changed nothing, when what it was decided by is durable: a record, or the last removal
    /// in the shard.
    fn answer_shown(
        &self,
        shown: Option<(Arc<Segment>, u64)>,
        removed_at: u64,
        result: Result<Outcome>,
        completion: &mut Option<Completion>,
    ) {
        let waiting = Waiting { completion: completion.take().expect("nobody answered yet"), result };
        if zoo::bug("decided-before-durable") {
            return waiting.answer();
        }
        let ready = match shown {
            Some((segment, offset)) => self.log.wait_for_record(&segment, offset, waiting),
            None => self.log.wait_for_sequence(removed_at, waiting),
        };
        if let Some(waiting) = ready {
            waiting.answer();
        }
    }

    fn remove(&self, key: Vec<u8>, completion: &mut Option<Completion>) -> Result<()> {
        let hash = self.index.hash(&key);
        let (found, mut shard) = self.find_and_lock(hash, &key)?;
        let Some(old) = found.place else {
            drop(shard);
            // That there is nothing may be the work of a removal that is not durable yet.
            self.answer_shown(None, found.removed_at, Err(Error::KeyNotFound), completion);
            return Ok(());
        };
        let payload = record::encode(&Mutation::Remove { key });
        let _together = self.log.or_poison(TOGETHER);
        let placed = self.append(&payload, Purpose::Shrink, Outcome::Done, completion)?;
        self.point(&mut shard, hash, Some(old), None, placed.sequence);
        drop(shard);
        self.count_appended(placed.bytes);
        Ok(())
    }

    /// Looks a key up and locks its shard, with nothing changed in between.
    fn find_and_lock(&self, hash: KeyHash, key: &[u8]) -> Result<(Found, MutexGuard<'_, Shard>)> {
        loop {
            let found = self.find(hash, key)?;
            let shard = self.index.lock(hash);
            if found.candidates.are_those_of(&shard, hash) {
                return Ok((found, shard));
            }
        }
    }

    /// As [`find_and_lock`](Self::find_and_lock), with the value of the key where it is wanted.
    fn find_value_and_lock(
        &self,
        hash: KeyHash,
        key: &[u8],
        wanted: bool,
    ) -> Result<(Found, Option<Vec<u8>>, MutexGuard<'_, Shard>)> {
        if !wanted {
            return self.find_and_lock(hash, key).map(|(found, shard)| (found, None, shard));
        }
        loop {
            // The value is read without the lock, because that may go to the disk.
            let (found, value) = self.find_value(hash, key)?;
            let shard = self.index.lock(hash);
            if found.candidates.are_those_of(&shard, hash) || zoo::bug("decided-without-a-second-look") {
                return Ok((found, value, shard));
            }
        }
    }

    /// Appends a record whose answer is `outcome`. On an error the completion is still there to be told.
    pub(super) fn append(
        &self,
        payload: &[u8],
        purpose: Purpose,
        outcome: Outcome,
        completion: &mut Option<Completion>,
    ) -> Result<Placed> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.log.append(payload, purpose, |_| Waiting {
            completion: completion.take().expect("nobody answered yet"),
            result: Ok(outcome),
        })
    }

    /// Points the index from a key's old record to its new one, and keeps the sums.
    pub(super) fn point(
        &self,
        shard: &mut Shard,
        hash: KeyHash,
        old: Option<Location>,
        new: Option<Location>,
        sequence: u64,
    ) {
        #[cfg(test)]
        assert!(!FAULT.take(), "a fault that a test wants");
        let view = self.log.view();
        if let Some(old) = old {
            let segment = view.segment(old.slot());
            segment.live_bytes.fetch_sub(old.charge_bytes(), Ordering::Relaxed);
            self.live_bytes.fetch_sub(old.charge_bytes(), Ordering::Relaxed);
        }
        if let Some(new) = new {
            let segment = view.segment(new.slot());
            segment.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
            self.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
        }
        match (old, new) {
            (Some(old), Some(new)) => {
                let replaced = shard.replace(hash, old, new);
                debug_assert!(replaced, "the candidates were compared under this lock");
            }
            (None, Some(new)) => shard.insert(hash, new),
            (Some(old), None) => {
                let removed = shard.remove(hash, old);
                debug_assert!(removed, "the candidates were compared under this lock");
            }
            (None, None) => {}
        }
        if new.is_none() {
            shard.removed_at = sequence;
        }
    }

    /// Counts an appended record and wakes the compaction when enough is dead.
    pub(super) fn count_appended(&self, bytes: u64) {
        let record_bytes = self.record_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let dead_bytes = record_bytes.saturating_sub(self.live_bytes.load(Ordering::Relaxed));
        self.compaction.hint(dead_bytes, record_bytes, &self.options);
        if self.cadence.count(bytes) {
            self.compaction.wish();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::storage::MemoryStorage;
    use crate::{KvStore, KvsEngine as _, Options};

    #[test]
    fn a_fault_between_the_log_and_the_index_ends_all_writing() {
        for change in ["set", "remove", "take", "batch"] {
            let disk = MemoryStorage::new();
            let store = KvStore::open_storage(Arc::new(disk.clone()), Options::default()).unwrap();
            store.set(b"k".to_vec(), b"v".to_vec()).unwrap();
            FAULT.set(true);
            let outcome = catch_unwind(AssertUnwindSafe(|| match change {
                "set" => store.set(b"k".to_vec(), b"w".to_vec()),
                "remove" => store.remove(b"k".to_vec()),
                "take" => store.take(b"k".to_vec()).map(drop),
                _ => store.write_batch(vec![Mutation::Set { key: b"k".to_vec(), value: b"w".to_vec() }]),
            }));
            assert!(outcome.is_err(), "{change}: the fault is not hidden");
            assert!(matches!(store.fatal(), Some(Error::Poisoned { .. })), "{change}");
            assert!(store.set(b"other".to_vec(), b"v".to_vec()).is_err(), "{change}: nothing more is acknowledged");
            drop(store);
            KvStore::open_storage(Arc::new(disk), Options::default()).unwrap();
        }
    }
}
