//! Backups: a folder that is a store of its own, taken while the source serves, and the way back.
//!
//! A backup holds every mutation that was acknowledged before it was asked for, and whole batches; perhaps some later
//! ones. Sealed segments are hard links where the file system allows it: a sealed segment is never written again, but
//! for the last one, which an opening may go on with, and which is copied therefore. Every byte is read and checked on
//! the way, so that damage is found while the source is still there; `BACKUP` lists every file with its checksum.
//!
//! What must hold: the manifest comes last, so that a backup that did not end does not open; a backup shares no file
//! with its source that either of them will ever write.
//!
//! | crash after …                       | leaves …                                             |
//! |-------------------------------------|------------------------------------------------------|
//! | a segment is linked or copied       | segments without a manifest: an opening is refused   |
//! | `BACKUP` is written                 | the same, or `BACKUP` alone: refused as well         |
//! | `MANIFEST.new` is written           | the same                                             |
//! | it is renamed                       | the same, or the backup                              |
//!
//! Opening a backup as a store makes it one: its `BACKUP` goes, because what follows is not what was listed. To keep a
//! backup, [`restore`] it.

mod contents;
mod restore;

use serde::Serialize;

pub use restore::{Restored, restore, restore_storage};

pub(crate) use contents::{BACKUP_NAME, Contents, FileEntry};

use crate::error::{Error, Result};
use crate::storage::Storage;

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Every mutation up to this sequence is in it.
    pub last_sequence: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are hard links and take no space of their own as long as the source keeps them.
    pub linked_files: u64,
    /// Records in it.
    pub records: u64,
}

/// Takes a folder that is to be written.
pub(crate) fn lock_of(storage: &dyn Storage) -> Result<Box<dyn Send + Sync>> {
    let folder = storage.path("");
    let lock = storage.lock().map_err(|error| Error::io(format!("locking {}", folder.display()), error))?;
    lock.ok_or(Error::Locked { folder })
}

/// Refuses a folder with anything in it but its lock.
pub(crate) fn check_empty(storage: &dyn Storage) -> Result<()> {
    let folder = storage.path("");
    let names = storage.list().map_err(|error| Error::io(format!("listing {}", folder.display()), error))?;
    match names.iter().find(|name| *name != "LOCK") {
        None => Ok(()),
        Some(name) => {
            Err(Error::WrongFolder { folder, reason: format!("is not empty ({name} is there); name an empty folder") })
        }
    }
}
