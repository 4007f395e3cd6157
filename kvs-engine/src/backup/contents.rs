//! `BACKUP`: what a backup is made of. One line in the log's frame, whose sequence is the last one in the backup.
//!
//! What must hold: every file of the backup but this one is listed with its length and its checksum, so that no flipped
//! bit and no missing or foreign file passes; this line has its own checksum in its frame.

use std::io;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::log::frame;
use crate::storage::{Storage, StorageFile, read_all, read_exact_at, write_all_at};

/// The file's name.
pub(crate) const BACKUP_NAME: &str = "BACKUP";
/// The form that this version writes and the only one that it reads.
const VERSION: u32 = 1;
/// The largest list that is read, in bytes: some hundred thousand files.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How much of a file is read at once, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What a backup is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    version: u32,
    /// Every mutation up to this sequence is in the backup.
    pub(crate) last: u64,
    /// Every file but `BACKUP` and `LOCK`, the manifest last.
    pub(crate) files: Vec<FileEntry>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// CRC-32C of the whole file.
    pub(crate) crc32c: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    backup: Contents,
}

impl FileEntry {
    /// The entry of a file with these bytes.
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
    }

    /// Reads a file piece by piece, shows each piece with its offset, and says what differs from this entry.
    ///
    /// # Errors
    /// What the file system or `show` says.
    pub(crate) fn compare(
        &self,
        file: &dyn StorageFile,
        mut show: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> io::Result<Option<String>> {
        let length = file.length()?;
        if length != self.bytes {
            return Ok(Some(format!("the file has {length} bytes, the backup was made with {}", self.bytes)));
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut offset, mut checksum) = (0, 0);
        while offset < length {
            let count = usize::try_from(length - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            read_exact_at(file, &mut chunk[..count], offset)?;
            checksum = crc32c::crc32c_append(checksum, &chunk[..count]);
            show(&chunk[..count], offset)?;
            offset += count as u64;
        }
        let differs = checksum != self.crc32c;
        Ok(differs.then(|| "the file's checksum is not the one that the backup was made with".to_owned()))
    }
}

impl Contents {
    pub(crate) fn new(last: u64, files: Vec<FileEntry>) -> Self {
        Self { version: VERSION, last, files }
    }

    /// Writes the file and syncs it; its name is durable with the next sync of the folder.
    pub(crate) fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let payload = serde_json::to_vec(&Payload { backup: self.clone() }).expect("numbers and text have a JSON form");
        let mut line = Vec::with_capacity(payload.len() + frame::OVERHEAD_BYTES);
        frame::append_line(&mut line, self.last, self.last, &payload);
        let file = storage.create(BACKUP_NAME)?;
        write_all_at(file.as_ref(), &line, 0)?;
        file.sync_data()
    }

    /// What the backup in a folder is made of; `None` when the folder is no backup.
    ///
    /// # Errors
    /// [`Error::Corruption`] when the file is damaged, [`Error::WrongFolder`] when it has another version, I/O errors.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<(Self, u64)>> {
        let path = storage.path(BACKUP_NAME);
        let failed = |error| Error::io(format!("reading {}", path.display()), error);
        let corrupt =
            |reason: &str| Error::Corruption { file: path.clone(), offset: 0, sequence: 0, reason: reason.to_owned() };
        let file = match storage.open_to_read(BACKUP_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.length().map_err(failed)?;
        if length > MAX_BYTES {
            return Err(corrupt("the file is larger than any list of a backup"));
        }
        let bytes = read_all(file.as_ref(), length).map_err(failed)?;
        let line = frame::read_line(&bytes).map_err(|defect| corrupt(defect.reason()))?;
        if line.bytes() != bytes.len() {
            return Err(corrupt("there are bytes behind the line"));
        }
        let Payload { backup } = serde_json::from_slice(line.payload).map_err(|error| corrupt(&error.to_string()))?;
        if backup.version != VERSION {
            let reason = format!("is a backup of form {}, this program reads form {VERSION}", backup.version);
            return Err(Error::WrongFolder { folder: storage.path(""), reason });
        }
        // Names come from the file: one with a path in it would lead out of the folder.
        let is_plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if backup.last != line.sequence || !backup.files.iter().all(|entry| is_plain(&entry.name)) {
            return Err(corrupt("the list of a backup does not fit its frame"));
        }
        Ok(Some((backup, length)))
    }
}
