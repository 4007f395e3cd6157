//! The one trait behind which every engine stands.
//!
//! What must hold for every engine:
//! * operations of one thread take effect in the order of their `submit` calls, and one key's operations are linearizable;
//! * an answer is given only when everything that it shows is durable (under the engine's sync policy), a read included;
//! * `submit` never waits for its own sync; it may wait for a cold read and, where writes come faster than the disk
//!   takes them, for room in a bounded queue.

use std::sync::Arc;

use crate::completion::{Completion, Waiter};
use crate::error::Result;
use crate::operation::{Mutation, Operation, Outcome};
use crate::scan::{Entries, Page, Scan};
use crate::stats::Stats;

/// A key-value engine: a handle that is cheap to clone and can be used from any thread.
pub trait KvsEngine: Clone + Send + Sync + 'static {
    /// The engine's name, as in `--engine`.
    const NAME: &'static str;

    /// Applies an operation now and answers through `completion` when the answer is durable, possibly before this
    /// returns. Errors, [`Error::TooLarge`](crate::Error::TooLarge) and [`Error::KeyNotFound`](crate::Error::KeyNotFound)
    /// among them, go to the completion too.
    fn submit(&self, operation: Operation, completion: Completion);

    /// One page of the store's entries; see [`Scan`] for what the pages of one scan promise together. Blocks until all
    /// that the page shows is durable.
    ///
    /// # Errors
    /// [`Error::WrongCursor`](crate::Error::WrongCursor), [`Error::TooLarge`](crate::Error::TooLarge) for a page that is
    /// larger than the limits, [`Error::Corruption`](crate::Error::Corruption) when a record on the way is damaged,
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed) and I/O errors.
    fn scan(&self, scan: &Scan) -> Result<Page>;

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
    fn fatal(&self) -> Option<crate::Error>;

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
            Outcome::Done => unreachable!("an engine answers a get with a value"),
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
