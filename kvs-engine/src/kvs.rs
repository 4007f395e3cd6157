//! Our own engine: a log of JSON records, an index in memory that says where each key's record is, values on disk.
//!
//! The way of a `set`: [`mutate`] hashes the key, takes its shard's lock in [`index`], appends the [`record`] to the
//! [log](crate::log) and points the index at it, all under that lock; the answer waits in the log until the record is
//! durable. The way of a `get`: the index says where, the line is read and its checksum verified, and if the record is
//! not durable yet the answer waits as well. [`compaction`] rewrites the segments with most dead bytes beside all that.

mod backup;
mod batch;
pub(crate) mod checkpoint;
mod compaction;
pub(crate) mod index;
mod location;
mod mutate;
mod prefetch;
mod read;
pub(crate) mod record;
mod replay;
mod scan;
mod store;
mod verify;

pub use store::KvStore;
