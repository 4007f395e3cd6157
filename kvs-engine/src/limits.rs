//! The sizes that an engine accepts. The wire's frame limit follows from them.

use crate::error::{Error, Result};

/// The longest key, in bytes. 64 KiB keeps a key within one read of a record's beginning.
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// The longest value by default, in bytes. Larger values make one client's request everybody's wait.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 1024 * 1024;
/// The longest value that can be configured, in bytes: its record, escaped six-fold, still fits one segment and one buffer.
pub const HIGHEST_MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;
/// The most operations in one batch: a batch is one line of the log and one step for every reader.
pub const MAX_BATCH_OPERATIONS: usize = 10_000;
/// The most bytes of keys and values in one batch by default: a batch is held in memory until it is durable.
pub const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// The longest payload of a [`FramedLog`](crate::log::FramedLog) by default, in bytes: the largest batch as JSON text.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 32 * 1024 * 1024;
/// The longest payload that can be configured, in bytes: opening holds a whole segment, and so an entry, in memory.
pub const HIGHEST_MAX_PAYLOAD_BYTES: usize = 512 * 1024 * 1024;

/// The most entries of one page of a scan: a page is held in memory, by the engine and by whoever asked.
pub const MAX_PAGE_KEYS: usize = 10_000;
/// The entries of a page unless asked otherwise.
pub const DEFAULT_PAGE_KEYS: usize = 1_000;
/// The most bytes of keys and values in one page. A single entry that is larger is a page of its own.
pub const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// The bytes of a page unless asked otherwise.
pub const DEFAULT_PAGE_BYTES: usize = 1024 * 1024;
/// The most records that one page looks at, whether they have the prefix or not: it bounds the time of one call.
pub const MAX_PAGE_RECORDS: usize = 20_000;

/// The most keys that a clear removes at once: others wait for their keys' locks meanwhile, some milliseconds.
pub const CLEAR_BATCH_KEYS: usize = 1_000;

/// The limits that one open engine applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes; at most [`MAX_KEY_BYTES`].
    pub key_bytes: usize,
    /// The longest value, in bytes; at most [`HIGHEST_MAX_VALUE_BYTES`].
    pub value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { key_bytes: MAX_KEY_BYTES, value_bytes: DEFAULT_MAX_VALUE_BYTES }
    }
}

impl Limits {
    /// Refuses a key that is longer than the limit.
    ///
    /// # Errors
    /// [`Error::TooLarge`], which names the limit.
    pub fn check_key(&self, key: &[u8]) -> Result<()> {
        check("key", key.len(), self.key_bytes)
    }

    /// Refuses a value that is longer than the limit.
    ///
    /// # Errors
    /// [`Error::TooLarge`], which names the limit.
    pub fn check_value(&self, value: &[u8]) -> Result<()> {
        check("value", value.len(), self.value_bytes)
    }
}

pub(crate) fn check(what: &'static str, bytes: usize, limit_bytes: usize) -> Result<()> {
    if bytes > limit_bytes {
        return Err(Error::TooLarge { what, bytes, limit_bytes });
    }
    Ok(())
}
