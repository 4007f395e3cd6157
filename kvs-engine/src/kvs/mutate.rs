//! The way of a mutation: find the key, lock its shard, append the record, point the index at it.
//!
//! What must hold, under the lock of a key's shard: the record is appended and the index points at it before anybody
//! else sees the key; a removal and a batch decide by what the index says then. So operations on one key happen in the
//! order of their sequences, a pipeline reads its own writes, and two removals of one key never both succeed.

use super::index::{KeyHash, Shard};
use super::location::Location;
use super::read::Found;
use super::record;
use super::store::{Core, Waiting};
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::log::{Placed, Purpose};
use crate::operation::{Mutation, Operation, Outcome};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;

impl Core {
    /// Applies a mutation under its key's lock; the answer waits for the log. Does not make the log go.
    pub(super) fn mutate(&self, operation: Operation, completion: Completion) {
        let mut completion = Some(completion);
        let done = match operation {
            Operation::Set { key, value } => self.set(Mutation::Set { key, value }, &mut completion),
            Operation::Remove { key } => self.remove(key, &mut completion),
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
        let placed = self.append(&payload, Purpose::Grow, completion)?;
        let new = Location::new(placed.segment.slot(), placed.offset, false, placed.bytes);
        self.point(&mut shard, hash, found.place, Some(new), placed.sequence);
        drop(shard);
        self.count(placed.bytes);
        Ok(())
    }

    fn remove(&self, key: Vec<u8>, completion: &mut Option<Completion>) -> Result<()> {
        let hash = self.index.hash(&key);
        let (found, mut shard) = self.find_and_lock(hash, &key)?;
        let Some(old) = found.place else {
            drop(shard);
            // That there is nothing may be the work of a removal that is not durable yet.
            let completion = completion.take().expect("nobody answered yet");
            let waiting = Waiting { completion, result: Err(Error::KeyNotFound) };
            if let Some(waiting) = self.log.wait_for_sequence(found.removed_at, waiting) {
                waiting.answer();
            }
            return Ok(());
        };
        let payload = record::encode(&Mutation::Remove { key });
        let placed = self.append(&payload, Purpose::Shrink, completion)?;
        self.point(&mut shard, hash, Some(old), None, placed.sequence);
        drop(shard);
        self.count(placed.bytes);
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

    /// Appends a record whose answer is `Done`. On an error the completion is still there to be told.
    pub(super) fn append(
        &self,
        payload: &[u8],
        purpose: Purpose,
        completion: &mut Option<Completion>,
    ) -> Result<Placed> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.log.append(payload, purpose, |_| Waiting {
            completion: completion.take().expect("nobody answered yet"),
            result: Ok(Outcome::Done),
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
    pub(super) fn count(&self, bytes: u64) {
        let record_bytes = self.record_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let dead_bytes = record_bytes.saturating_sub(self.live_bytes.load(Ordering::Relaxed));
        self.compaction.hint(dead_bytes, record_bytes, &self.options);
        if self.cadence.count(bytes) {
            self.compaction.wish();
        }
    }
}
