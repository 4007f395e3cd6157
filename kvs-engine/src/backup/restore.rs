//! Making a store out of a backup.
//!
//! What must hold: nothing is restored but what the backup was made with, byte by byte; the manifest comes last, so
//! that a restore that did not end leaves nothing that opens.
//!
//! | crash after …                       | leaves …                                             |
//! |-------------------------------------|------------------------------------------------------|
//! | a segment is copied                 | segments without a manifest: an opening is refused   |
//! | `MANIFEST.new` is written           | the same                                             |
//! | it is renamed                       | the same, or the store                               |

use std::io;
use std::path::Path;

use serde::Serialize;

use super::contents::{BACKUP_NAME, Contents, FileEntry};
use super::{check_empty, lock_of};
use crate::error::{Error, Result};
use crate::log::manifest::{MANIFEST_NAME, Manifest, NEW_MANIFEST_NAME};
use crate::log::segment;
use crate::storage::{RealStorage, Storage, write_all_at};
use crate::verify::{self, Report};

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Every mutation up to this sequence is there.
    pub last_sequence: u64,
    /// Files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

/// Makes a store in a folder, which must be empty or missing, out of a backup, which is only read.
///
/// # Errors
/// [`Error::Corruption`] names the file of the backup that is not what it was; [`Error::WrongFolder`] when there is no
/// backup or the folder is not empty; [`Error::Locked`]; I/O errors. What was copied until then is removed again.
pub fn restore(backup: impl AsRef<Path>, folder: impl AsRef<Path>) -> Result<Restored> {
    let (backup, folder) = (backup.as_ref(), folder.as_ref());
    let failed = |folder: &Path, error| Error::io(format!("opening the folder {}", folder.display()), error);
    let from = RealStorage::existing(backup).map_err(|error| failed(backup, error))?;
    // Before a folder is made.
    Contents::read(&from)?.ok_or_else(|| no_backup(&from))?;
    let to = RealStorage::create(folder).map_err(|error| failed(folder, error))?;
    restore_storage(&from, &to)
}

/// As [`restore`], between any two [`Storage`]s.
///
/// # Errors
/// As [`restore`].
pub fn restore_storage(from: &dyn Storage, to: &dyn Storage) -> Result<Restored> {
    let _from_lock = verify::lock(from)?;
    let _to_lock = lock_of(to)?;
    check_empty(to)?;
    let (contents, _) = Contents::read(from)?.ok_or_else(|| no_backup(from))?;
    copy_all(from, to, &contents).inspect_err(|_| {
        // Best effort: what is left has no manifest, and so it does not open.
        for name in contents.files.iter().map(|entry| entry.name.as_str()).chain([NEW_MANIFEST_NAME]) {
            let _ = to.remove(name);
        }
    })
}

fn no_backup(storage: &dyn Storage) -> Error {
    let reason = "holds no backup of this engine (no file BACKUP); name the folder that `backup` wrote".to_owned();
    Error::WrongFolder { folder: storage.path(""), reason }
}

fn copy_all(from: &dyn Storage, to: &dyn Storage, contents: &Contents) -> Result<Restored> {
    let mut restored = Restored { last_sequence: contents.last, files: 0, bytes: 0, records: 0 };
    let failed = |error| Error::io(format!("restoring into {}", to.path("").display()), error);
    let mut copied = |entry: &FileEntry, name: &str| {
        restored.files += 1;
        restored.bytes += entry.bytes;
        copy(from, to, entry, name)
    };
    let (segments, others): (Vec<_>, Vec<_>) =
        contents.files.iter().partition(|entry| segment::id_of(&entry.name).is_some());
    segments.iter().try_for_each(|entry| copied(entry, &entry.name))?;
    // Before anything else has a name: a folder in which only that is left would open as an empty store.
    to.sync_folder().map_err(failed)?;
    let (manifest, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|entry| entry.name == MANIFEST_NAME);
    others.iter().try_for_each(|entry| copied(entry, &entry.name))?;
    let wrong = |reason: &str| Error::Corruption {
        file: from.path(BACKUP_NAME),
        offset: 0,
        sequence: 0,
        reason: reason.to_owned(),
    };
    copied(manifest.first().ok_or_else(|| wrong("the backup lists no manifest"))?, NEW_MANIFEST_NAME)?;
    to.sync_folder().map_err(failed)?;
    let manifest = Manifest::read(from)?.ok_or_else(|| wrong("the manifest is missing"))?;
    // Not the backup but what was copied is read again: it is what will be opened.
    let mut report = Report::default();
    verify::check_segments(to, &manifest, &mut report)?;
    if let Some(finding) = report.findings.first() {
        return Err(Error::Corruption {
            file: finding.file.clone(),
            offset: finding.offset,
            sequence: finding.sequence,
            reason: format!("what was copied is not sound: {}", finding.reason),
        });
    }
    restored.records = report.records;
    Manifest::commit(to).map_err(failed)?;
    Ok(restored)
}

/// Copies one file and makes it durable, if it is what the backup was made with.
fn copy(from: &dyn Storage, to: &dyn Storage, entry: &FileEntry, name: &str) -> Result<()> {
    let path = from.path(&entry.name);
    let corrupt = |reason: String| Error::Corruption { file: path.clone(), offset: 0, sequence: 0, reason };
    let source = match from.open_to_read(&entry.name) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt("this file of the backup is missing".to_owned()));
        }
        Err(error) => return Err(Error::io(format!("opening {}", path.display()), error)),
    };
    let copied = to.create(name).and_then(|target| {
        let difference =
            entry.compare(source.as_ref(), |chunk, offset| write_all_at(target.as_ref(), chunk, offset))?;
        target.sync_data()?;
        Ok(difference)
    });
    match copied {
        Ok(None) => Ok(()),
        Ok(Some(difference)) => Err(corrupt(difference)),
        Err(error) => Err(Error::io(format!("copying {} to {}", path.display(), to.path(name).display()), error)),
    }
}
