//! The one error of all engines. Each variant says who must act; callers decide by variant, never by message.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What an engine returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an engine did not do what it was asked. Cheap to clone, because one failed sync answers a whole group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key to remove is not there. The caller decides whether that matters.
    #[error("Key not found")]
    KeyNotFound,

    /// A key, value or batch is larger than the engine accepts. The caller must send less.
    #[error("{what} of {bytes} bytes is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// `key`, `value`, `batch`, `payload`, or what is counted: `batch operations`, `waiting calls`.
        what: &'static str,
        /// The size that was given, in bytes (a number for what is counted).
        bytes: usize,
        /// The size that is accepted, in the same unit.
        limit_bytes: usize,
    },

    /// What was to be appended is not one line of JSON text. The caller must encode it as serde_json does.
    #[error("byte {offset} of the payload {reason}: it must be JSON text in one line")]
    NotALine {
        /// The first byte that does not fit, counted from zero.
        offset: usize,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The log has no entry of this sequence any more. The caller must begin at the first one, or fetch a snapshot.
    #[error("sequence {sequence} is not in the log, which holds {first} up to, not including, {next}")]
    NotInLog {
        /// The sequence that was asked for.
        sequence: u64,
        /// The lowest one that is there.
        first: u64,
        /// The one that the next entry will have.
        next: u64,
    },

    /// Acknowledged data on disk is damaged. The operator of the store must restore a backup or repair the folder;
    /// the engine neither skips nor repairs by itself.
    #[error("{}: corruption at byte {offset} (sequence {sequence}): {reason}; restore a backup of this folder, do not delete the file", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged record begins, in bytes from the start of the file.
        offset: u64,
        /// The sequence number of the damaged record, or the next one expected there.
        sequence: u64,
        /// What does not fit.
        reason: String,
    },

    /// A sync failed, or a failed write could not be taken back. Nothing more is acknowledged; the process must end
    /// and the folder be opened again.
    #[error("the store is poisoned: {reason}; end this process, check the disk, and open the folder again")]
    Poisoned {
        /// The first failure.
        reason: String,
    },

    /// No space to append. Reads, removals and compaction go on; writing resumes when space returns.
    #[error("no space left for the log: free space on the volume or remove keys")]
    NoSpace,

    /// Another process has the folder open. The caller must stop it or choose another folder.
    #[error("{} is in use by another process; stop it or choose another --data-dir", folder.display())]
    Locked {
        /// The folder that is locked.
        folder: PathBuf,
    },

    /// The folder is not one of this engine. The caller must name the right engine or another folder.
    #[error("{} {reason}", folder.display())]
    WrongFolder {
        /// The folder that was to be opened.
        folder: PathBuf,
        /// What is in it and what to do.
        reason: String,
    },

    /// A scan was to go on from a cursor that this opening of the store did not give. The caller must begin it again.
    #[error("this cursor is not one that this store gave since it was opened; begin the scan again")]
    WrongCursor,

    /// This engine can't do what was asked. The caller must use another way, which the message names.
    #[error("the {engine} engine has no {what}; {instead}")]
    NotSupported {
        /// The engine's name.
        engine: &'static str,
        /// What was asked for.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },

    /// The engine is closing. The caller must connect again later.
    #[error("the store is closing")]
    Closed,

    /// Reading or writing failed in another way.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the file's name.
        context: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// The `sled` engine said no.
    #[error("sled: {0}")]
    Sled(String),
}

impl Error {
    /// An I/O error with what was being done.
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source: Arc::new(source) }
    }

    /// Whether the process must end because nothing more can be acknowledged.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Poisoned { .. } | Self::Corruption { .. })
    }

    /// Whether the same call can succeed later without anything but time or free space.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::NoSpace | Self::Closed)
    }
}
