//! What every store must do to be measured, and the list of stores.
//!
//! What must hold for every peer:
//! * `set_durable`, `batch_durable` and `remove_durable` return when the change would survive a power cut, as far as
//!   the store can do that at all ([`Name::is_durable`]);
//! * caches that can be set are set to [`CACHE_BYTES`], compression is off, everything else is the store's default
//!   or, where it says so, its better setting.

use std::ops::Range;
use std::path::Path;

use crate::Result;
use crate::data::Data;

/// The cache that a store gets if it wants one of its own: more than all data of a figure with two million keys.
pub const CACHE_BYTES: u64 = 2 << 30;
/// Changes in one batch.
pub const BATCH: usize = 1_000;

/// An open store.
pub trait Peer: Send + Sync {
    /// Stores one value; durable on return.
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Stores the values that some indexes have in a version, atomically where the store can; durable on return.
    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()>;

    /// Removes keys, each of which is there, in the store's fastest way; all durable on return.
    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()>;

    /// Stores a range of indexes in the store's fastest way; all durable on return, nothing promised before.
    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()>;

    /// What one thread reads through. Where the store has read transactions this is one, kept for all reads of the
    /// thread: the fastest way that the store has.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// Compacts everything while other threads read and write; false if the store has no such thing.
    fn compact(&self) -> Result<bool> {
        Ok(false)
    }

    /// Closes the store cleanly.
    fn close(self: Box<Self>) -> Result<()>;
}

/// One thread's way to read.
pub trait Reader {
    /// Shows the value of a key, without a copy where the store can; false if there is none.
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool>;
}

macro_rules! peers {
    ($($feature:literal $name:literal $variant:ident $module:ident,)*) => {
        /// A store by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
        #[serde(rename_all = "lowercase")]
        pub enum Name {
            /// The engine of this repository.
            Ours,
            /// The textbook store.
            Naive,
            $(#[doc = $name] #[cfg(feature = $feature)] $variant,)*
        }

        impl Name {
            /// Every store of this build, ours first.
            pub const ALL: &[Self] = &[Self::Ours, Self::Naive, $(#[cfg(feature = $feature)] Self::$variant,)*];

            /// As in the results.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Ours => "ours",
                    Self::Naive => "naive",
                    $(#[cfg(feature = $feature)] Self::$variant => $name,)*
                }
            }

            /// Opens the store of a folder, which is made if it is missing.
            pub fn open(self, folder: &Path) -> Result<Box<dyn Peer>> {
                std::fs::create_dir_all(folder)?;
                match self {
                    Self::Ours => crate::peers::ours::open(folder),
                    Self::Naive => crate::peers::naive::open(folder),
                    $(#[cfg(feature = $feature)] Self::$variant => crate::peers::$module::open(folder),)*
                }
            }
        }
    };
}

peers! {
    "sled" "sled" Sled sled,
    "fjall" "fjall" Fjall fjall,
    "redb" "redb" Redb redb,
    "heed" "heed" Heed heed,
    "rocksdb" "rocksdb" Rocksdb rocksdb,
}

impl Name {
    /// Whether the store can promise that a write survives a power cut.
    pub fn is_durable(self) -> bool {
        self != Self::Naive
    }

    /// Whether the store takes keys and values of any bytes.
    pub fn is_binary(self) -> bool {
        self != Self::Naive
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
