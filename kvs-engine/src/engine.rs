//! The one trait behind which every engine stands.
//!
//! What must hold for every engine:
//! * operations of one thread take effect in the order of their `submit` calls, and one key's operations are linearizable;
//! * an answer is given only when everything that it shows is durable (under the engine's sync policy), a read included;
//! * `submit` never waits for its own sync; it may wait for a cold read and, where writes come faster than the disk
//!   takes them, for room in a bounded queue.

use std::sync::Arc;

use crate::backup::Backup;
use crate::completion::{Completion, Waiter};
use crate::error::{Error, Result};
use crate::limits::{CLEAR_BATCH_KEYS, MAX_PAGE_BYTES, MAX_PAGE_KEYS};
use crate::operation::{Condition, Mutation, Operation, Outcome};
use crate::scan::{Entries, Page, Scan};
use crate::stats::Stats;
use crate::storage::Storage;

/// A key-value engine: a handle that is cheap to clone and can be used from any thread.
pub trait KvsEngine: Clone + Send + Sync + 'static {
    /// The engine's name, as in `--engine`.
    const NAME: &'static str;

    /// Applies an operation now and answers through `completion` when the answer is durable, possibly before this
    /// returns. Errors, [`Error::TooLarge`](crate::Error::TooLarge) and [`Error::KeyNotFound`](crate::Error::KeyNotFound)
    /// among them, go to the completion too.
    fn submit(&self, operation: Operation, completion: Completion);

    /// Says that these keys are about to be looked up or changed, in this order, so that an engine can wait for the
    /// memory of all at once. It changes nothing and promises nothing; an engine that gains nothing does nothing.
    fn prefetch(&self, keys: &[&[u8]]) {
        let _ = keys;
    }

    /// One page of the store's entries; see [`Scan`] for what the pages of one scan promise together. Blocks until all
    /// that the page shows is durable.
    ///
    /// # Errors
    /// [`Error::WrongCursor`](crate::Error::WrongCursor), [`Error::TooLarge`](crate::Error::TooLarge) for a page that is
    /// larger than the limits, [`Error::Corruption`](crate::Error::Corruption) when a record on the way is damaged,
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed) and I/O errors.
    fn scan(&self, scan: &Scan) -> Result<Page>;

    /// How many keys have a value. Blocks until all that the number counts is durable. An engine that keeps no such
    /// number walks through the whole store for it.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    fn count(&self) -> Result<u64> {
        let mut scan = Scan { values: false, max_keys: MAX_PAGE_KEYS, max_bytes: MAX_PAGE_BYTES, ..Scan::default() };
        let mut keys = 0;
        loop {
            let Page { entries, next } = self.scan(&scan)?;
            keys += entries.len() as u64;
            let Some(next) = next else { return Ok(keys) };
            scan.after = Some(next);
        }
    }

    /// Removes every key, and returns when that is durable, whatever the sync policy.
    ///
    /// What it promises: a key that was there when it was called, and that nobody sets meanwhile, is gone for good when
    /// it returns. What it does not: it is a walk of many batches of removals, no single step. Others see some keys gone
    /// before the rest; a key that is set meanwhile may stay or go; and after an error, or a crash before it returned,
    /// some keys are gone and the rest have the values that they had.
    ///
    /// # Errors
    /// As [`scan`](Self::scan) and [`write_batch`](Self::write_batch).
    fn clear(&self) -> Result<()> {
        let mut scan = Scan { values: false, max_keys: CLEAR_BATCH_KEYS, ..Scan::default() };
        loop {
            let Page { entries, next } = self.scan(&scan)?;
            self.write_batch(entries.into_iter().map(|entry| Mutation::Remove { key: entry.key }).collect())?;
            let Some(next) = next else { break };
            scan.after = Some(next);
        }
        if crate::zoo::bug("clear-not-synced") { Ok(()) } else { self.flush() }
    }

    /// Makes a backup in any [`Storage`], which must be empty, while the store serves; see [`crate::backup`]. `also`
    /// are names of files of the data folder that are not the engine's and belong to the backup.
    ///
    /// # Errors
    /// [`Error::NotSupported`](crate::Error::NotSupported) where the engine has no backups, and what the engine's own
    /// says.
    fn backup_into(&self, target: &dyn Storage, also: &[&str]) -> Result<Backup> {
        let _ = (target, also);
        Err(Error::NotSupported {
            engine: Self::NAME,
            what: "backup",
            instead: "scan it, and import the entries into a store of the kvs engine",
        })
    }

    /// Figures of this moment.
    fn stats(&self) -> Stats;

    /// Makes everything that was submitted before this call durable, whatever the sync policy.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) when the sync failed.
    fn flush(&self) -> Result<()>;

    /// Finishes what was submitted, makes it durable and closes the store; later operations answer
    /// [`Error::Closed`](crate::Error::Closed). Closing twice is no error.
    ///
    /// # Errors
    /// [`Error::Poisoned`](crate::Error::Poisoned) when the last sync failed.
    fn close(&self) -> Result<()>;

    /// Why nothing more can be acknowledged, if so. The server ends the process then; the library never does.
    fn fatal(&self) -> Option<Error>;

    /// Applies one operation and blocks until its answer is durable.
    ///
    /// # Errors
    /// As the operation's.
    fn execute(&self, operation: Operation) -> Result<Outcome> {
        let waiter = Arc::new(Waiter::default());
        self.submit(operation, Completion::new(Arc::clone(&waiter) as Arc<dyn crate::Complete>, 0));
        waiter.wait()
    }

    /// Stores a value and returns when it is durable.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge), [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed).
    fn set(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Result<()> {
        self.execute(Operation::Set { key: key.into(), value: value.into() }).map(|_| ())
    }

    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// [`Error::Corruption`](crate::Error::Corruption) when the record on disk is damaged, and I/O errors.
    fn get(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        match self.execute(Operation::Get { key: key.into() })? {
            Outcome::Value(value) => Ok(value),
            Outcome::Done | Outcome::Stored(_) => unreachable!("an engine answers a get with a value"),
        }
    }

    /// Stores a value if the condition holds, and says whether it was stored.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    fn set_if(&self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>, condition: Condition) -> Result<bool> {
        match self.execute(Operation::SetIf { key: key.into(), value: value.into(), condition, old: false })? {
            Outcome::Stored(stored) => Ok(stored),
            Outcome::Done | Outcome::Value(_) => unreachable!("an engine answers whether it was stored"),
        }
    }

    /// Removes a key, if it is there, and gives the value that it had.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    fn take(&self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        match self.execute(Operation::Take { key: key.into() })? {
            Outcome::Value(value) => Ok(value),
            Outcome::Done | Outcome::Stored(_) => unreachable!("an engine answers a taking with a value"),
        }
    }

    /// Removes a key that must be there and returns when that is durable.
    ///
    /// # Errors
    /// [`Error::KeyNotFound`](crate::Error::KeyNotFound), and as [`set`](Self::set).
    fn remove(&self, key: impl Into<Vec<u8>>) -> Result<()> {
        self.execute(Operation::Remove { key: key.into() }).map(|_| ())
    }

    /// Every entry whose key begins with `prefix`, page by page.
    fn entries(&self, prefix: impl Into<Vec<u8>>) -> Entries<Self> {
        Entries::new(self.clone(), Scan { prefix: prefix.into(), ..Scan::default() })
    }

    /// Applies all mutations in order and returns when they are durable; after a crash either all are there or none.
    ///
    /// # Errors
    /// As [`set`](Self::set); on an error none of them took effect.
    fn write_batch(&self, mutations: Vec<Mutation>) -> Result<()> {
        self.execute(Operation::Batch(mutations)).map(|_| ())
    }
}
