//! `Restored`: a store made out of a backup, in a way that can be cut off anywhere and begun again.
//!
//! What must hold: the data folder has its name when every byte in it was checked, and not before; what is there already
//! is never touched; a folder that this very backup made is known again, so that a container that is started once more
//! does nothing.
//!
//! | crash after …                              | leaves …                                                     |
//! |--------------------------------------------|--------------------------------------------------------------|
//! | `DATA.restoring` is made, or partly filled | that folder, which the next run begins anew; no `DATA`       |
//! | `restored.json` is written in it           | the same                                                     |
//! | it is renamed                              | `DATA`, with the note that says which backup made it         |

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use kvs_protocol::backup_record::{CHECKSUMS_SUFFIX, Checksums, MAX_CHECKSUMS_BYTES, to_hex};
use kvs_protocol::names::EngineName;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::error::ServerError;
use crate::identity::{IDENTITY_NAME, Identity};

/// The note in the data folder.
pub(crate) const NOTE_NAME: &str = "restored.json";
/// The form of the note that this version writes and the only one that it reads.
const VERSION: u32 = 1;
/// The longest note that is read, in bytes.
const MAX_NOTE_BYTES: u64 = 64 * 1024;
/// How much of a file is read at once, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The file by which a process holds a folder.
const LOCK_NAME: &str = "LOCK";

/// Which backup made a data folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Note {
    version: u32,
    /// The SHA-256 of the backup's checksums if the caller knew it, else that of its list of files.
    backup: String,
}

/// What is to be restored, and where to.
pub(crate) struct Order<'a> {
    /// The backup's folder.
    pub(crate) from: &'a Path,
    /// The data folder.
    pub(crate) to: &'a Path,
    /// The SHA-256 of the backup's checksums, from somewhere else than beside the backup.
    pub(crate) sha256: Option<&'a str>,
    /// The store that the data is to belong to from now on; without it, it stays with the one that it was.
    pub(crate) store: Option<&'a str>,
}

/// What a restore came to.
pub(crate) enum Restored {
    /// The data folder is new.
    Now(kvs_engine::backup::Restored),
    /// This backup had made it before.
    Before,
}

impl Order<'_> {
    /// Does it.
    ///
    /// # Errors
    /// [`ServerError::DamagedBackup`] and [`ServerError::Engine`] when the backup is not what it was or there is none,
    /// [`ServerError::NotEmpty`] when something else is in the data folder, [`ServerError::Io`].
    pub(crate) fn carry_out(&self) -> Result<Restored, ServerError> {
        // Who knows the sum need not read the backup to know what it made.
        let id = match self.sha256 {
            Some(sha256) => sha256.to_owned(),
            None => self.id_of_list()?,
        };
        if note(self.to)?.is_some_and(|note| note.backup == id) {
            return Ok(Restored::Before);
        }
        self.check_target()?;
        self.check_sums()?;
        let scratch = with_suffix(self.to, ".restoring");
        clear(&scratch)?;
        let restored = self.fill(&scratch, id).inspect_err(|_| {
            // Best effort: what is left has another name, and the next run begins it anew.
            let _ = fs::remove_dir_all(&scratch);
        })?;
        self.give_name(&scratch)
            .map_err(|error| ServerError::io(format!("cannot make {}", self.to.display()), error))?;
        Ok(Restored::Now(restored))
    }

    /// Puts everything into the folder that is to become the data folder.
    fn fill(&self, scratch: &Path, id: String) -> Result<kvs_engine::backup::Restored, ServerError> {
        let restored = kvs_engine::backup::restore(self.from, scratch)?;
        let failed = |error| ServerError::io(format!("cannot write into {}", scratch.display()), error);
        if let Some(store) = self.store {
            // Another store than the one that was backed up: other members, which must not take each other for their own.
            remove_if_there(&scratch.join(IDENTITY_NAME)).map_err(failed)?;
            Identity::establish(scratch, EngineName::Kvs, Some(store))?;
        }
        write_note(scratch, &Note { version: VERSION, backup: id }).map_err(failed)?;
        Ok(restored)
    }

    /// What tells this backup from others: the sum of the list of its files.
    fn id_of_list(&self) -> Result<String, ServerError> {
        let list = self.from.join("BACKUP");
        match sum_of(&list) {
            Ok(sum) => Ok(sum),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let reason = "holds no backup of this engine (no file BACKUP); name the folder that `backup` wrote";
                let folder = self.from.to_owned();
                Err(kvs_engine::Error::WrongFolder { folder, reason: reason.to_owned() }.into())
            }
            Err(error) => Err(ServerError::io(format!("cannot read {}", list.display()), error)),
        }
    }

    /// Refuses a data folder with anything in it but a lock.
    fn check_target(&self) -> Result<(), ServerError> {
        let failed = |error| ServerError::io(format!("cannot list {}", self.to.display()), error);
        let entries = match fs::read_dir(self.to) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            if name != LOCK_NAME {
                let found = name.to_string_lossy().into_owned();
                return Err(ServerError::NotEmpty { folder: self.to.to_owned(), found });
            }
        }
        Ok(())
    }

    /// Compares the backup with the checksums beside it, where there are some, or must be.
    fn check_sums(&self) -> Result<(), ServerError> {
        let path = with_suffix(self.from, CHECKSUMS_SUFFIX);
        let damaged = |file: PathBuf, reason: String| Err(ServerError::DamagedBackup { file, reason });
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_CHECKSUMS_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.sha256.is_none() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return damaged(path, "the checksums of the backup are missing".to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return damaged(path, "the checksums of the backup are no text".to_owned());
            }
            Err(error) => return Err(ServerError::io(format!("cannot read {}", path.display()), error)),
        }
        let found = to_hex(ring::digest::digest(&SHA256, text.as_bytes()).as_ref());
        if self.sha256.is_some_and(|wanted| wanted != found) {
            let wanted = self.sha256.unwrap_or_default();
            return damaged(path, format!("the checksums of the backup have SHA-256 {found}, want {wanted}"));
        }
        let sums = match Checksums::parse(&text) {
            Ok(sums) => sums,
            Err(line) => return damaged(path, format!("line {line} is no checksum")),
        };
        for (name, wanted) in &sums.0 {
            let file = self.from.join(name);
            match sum_of(&file) {
                Ok(found) if found == *wanted => {}
                Ok(found) => {
                    return damaged(file, format!("it has SHA-256 {found}, the backup was made with {wanted}"));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return damaged(file, "this file of the backup is missing".to_owned());
                }
                Err(error) => return Err(ServerError::io(format!("cannot read {}", file.display()), error)),
            }
        }
        Ok(())
    }

    /// Gives the finished folder its name, durably.
    fn give_name(&self, scratch: &Path) -> io::Result<()> {
        File::open(scratch)?.sync_all()?;
        // A folder can take the name of an empty one only.
        remove_if_there(&self.to.join(LOCK_NAME))?;
        fs::rename(scratch, self.to)?;
        let parent = self.to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }
}

/// The note of a data folder, if a restore made it.
fn note(folder: &Path) -> Result<Option<Note>, ServerError> {
    let path = folder.join(NOTE_NAME);
    let failed = |error| ServerError::io(format!("cannot read {}", path.display()), error);
    let mut text = String::new();
    match File::open(&path) {
        Ok(file) => file.take(MAX_NOTE_BYTES).read_to_string(&mut text).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let invalid = |cause: String| failed(io::Error::new(io::ErrorKind::InvalidData, cause));
    let note: Note = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    if note.version != VERSION {
        return Err(invalid(format!("it has version {}, this program knows {VERSION}", note.version)));
    }
    Ok(Some(note))
}

fn write_note(folder: &Path, note: &Note) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(folder.join(NOTE_NAME))?;
    file.write_all(&serde_json::to_vec(note)?)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Takes away what a restore that was cut off left, unless it still goes on.
fn clear(scratch: &Path) -> Result<(), ServerError> {
    let failed = |error| ServerError::io(format!("cannot clear {}", scratch.display()), error);
    let lock = match File::open(scratch.join(LOCK_NAME)) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    match lock.as_ref().map(File::try_lock) {
        Some(Err(TryLockError::WouldBlock)) => {
            return Err(kvs_engine::Error::Locked { folder: scratch.to_owned() }.into());
        }
        Some(Err(TryLockError::Error(error))) => return Err(failed(error)),
        None | Some(Ok(())) => {}
    }
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// The SHA-256 of a file.
fn sum_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut context, mut chunk) = (Context::new(&SHA256), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(to_hex(context.finish().as_ref())),
            Ok(count) => context.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The path beside a folder whose name has something behind it.
pub(crate) fn with_suffix(folder: &Path, suffix: &str) -> PathBuf {
    // Without the slash that a person may have typed behind a folder.
    let mut name: OsString = folder.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
