//! An engine that keeps everything in memory and nothing on disk: the oracle that the others are tested against.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::completion::Completion;
use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::limits::{Limits, MAX_BATCH_OPERATIONS};
use crate::operation::{Mutation, Operation, Outcome};
use crate::scan::{Gathering, Page, Scan};
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, PoisonError};

/// A map behind one lock. "Durable" means "in the map".
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    /// `None` once closed. One lock, never held across I/O, because there is none.
    map: Arc<Mutex<State>>,
    limits: Limits,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    closed: bool,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn apply(&self, operation: Operation) -> Result<Outcome> {
        check(&operation, &self.limits)?;
        let mut state = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Error::Closed);
        }
        match operation {
            Operation::Get { key } => return Ok(Outcome::Value(state.values.get(&key).cloned())),
            Operation::Set { key, value } => {
                state.values.insert(key, value);
            }
            Operation::Remove { key } => {
                state.values.remove(&key).ok_or(Error::KeyNotFound)?;
            }
            Operation::SetIf { key, value, condition, old } => {
                let found = state.values.get(&key);
                let stored = condition.holds(found.is_some());
                let outcome = Outcome::of_set_if(stored, old, found.cloned());
                if stored {
                    state.values.insert(key, value);
                }
                return Ok(outcome);
            }
            Operation::Take { key } => return Ok(Outcome::Value(state.values.remove(&key))),
            Operation::Batch(mutations) => {
                for mutation in mutations {
                    match mutation {
                        Mutation::Set { key, value } => drop(state.values.insert(key, value)),
                        Mutation::Remove { key } => drop(state.values.remove(&key)),
                    }
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// Refuses an operation with a key, value or batch over the limits. Every engine calls this first.
pub(crate) fn check(operation: &Operation, limits: &Limits) -> Result<()> {
    match operation {
        Operation::Get { key } | Operation::Remove { key } | Operation::Take { key } => limits.check_key(key),
        Operation::Set { key, value } | Operation::SetIf { key, value, .. } => {
            limits.check_key(key).and_then(|()| limits.check_value(value))
        }
        Operation::Batch(mutations) => {
            if mutations.len() > MAX_BATCH_OPERATIONS {
                return Err(Error::TooLarge {
                    what: "batch operations",
                    bytes: mutations.len(),
                    limit_bytes: MAX_BATCH_OPERATIONS,
                });
            }
            let mut total_bytes = 0_usize;
            for mutation in mutations {
                limits.check_key(mutation.key())?;
                total_bytes += mutation.key().len();
                if let Mutation::Set { value, .. } = mutation {
                    limits.check_value(value)?;
                    total_bytes += value.len();
                }
            }
            let limit_bytes = crate::limits::MAX_BATCH_BYTES.max(limits.value_bytes);
            if total_bytes > limit_bytes {
                return Err(Error::TooLarge { what: "batch", bytes: total_bytes, limit_bytes });
            }
            Ok(())
        }
    }
}

impl KvsEngine for MemoryEngine {
    const NAME: &'static str = "memory";

    fn submit(&self, operation: Operation, completion: Completion) {
        completion.complete(self.apply(operation));
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        let after = scan.checked()?.map(|cursor| cursor.key()).transpose()?;
        let state = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Error::Closed);
        }
        let begin = after.map_or(Bound::Included(scan.prefix.clone()), Bound::Excluded);
        let entries = state.values.range((begin, Bound::Unbounded));
        Gathering::new(scan).of_ordered(entries.map(|(key, value)| Ok((key, value))))
    }

    fn count(&self) -> Result<u64> {
        let state = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(Error::Closed) } else { Ok(state.values.len() as u64) }
    }

    fn stats(&self) -> Stats {
        let state = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let live_bytes = state.values.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
        Stats { keys: state.values.len() as u64, live_bytes, ..Stats::default() }
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        Ok(())
    }

    fn fatal(&self) -> Option<Error> {
        None
    }
}
