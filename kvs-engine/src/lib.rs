//! The engines of Aryavarth KVS behind one trait. No network, no async runtime, no metrics library.
//!
//! * [`KvsEngine`] is the trait: `submit` with a completion at its core, blocking calls on top.
//! * [`KvStore`] is our own engine: a JSON log with checksums, an index in memory, values on disk.
//! * [`SledEngine`] is the `sled` crate behind the same trait.
//! * [`log::FramedLog`] is the log under it on its own: appends, reads from a sequence, truncation, purge.
//! * [`MemoryEngine`] keeps everything in memory: the oracle of the tests.

pub mod backup;
mod completion;
pub mod dump;
mod engine;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kvs;
pub mod limits;
pub mod log;
mod memory;
mod operation;
mod options;
mod prefetch;
pub mod repair;
mod repeated;
mod scan;
#[cfg(feature = "sled")]
mod sled;
mod stats;
pub mod storage;
mod sync;
pub mod verify;
mod zoo;

pub use completion::{Complete, Completion};
pub use engine::KvsEngine;
pub use error::{Error, Result};
pub use kvs::KvStore;
pub use limits::Limits;
pub use memory::MemoryEngine;
pub use operation::{Condition, Mutation, Operation, Outcome};
pub use options::{Options, SyncPolicy};
pub use repeated::Repeated;
pub use scan::{Cursor, Entries, Entry, Page, Scan};
#[cfg(feature = "sled")]
pub use sled::SledEngine;
pub use stats::{NoObserver, Observer, Stats};
