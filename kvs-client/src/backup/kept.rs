//! Backups that are whole: knowing one again, and taking an old one away.
//!
//! What must hold: a backup is reported only if every byte is what its checksums say; nothing is taken away but a folder
//! beside the new backup that is a backup itself.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use kvs_protocol::backup_record::{BackupReport, CHECKSUMS_SUFFIX, Checksums, MAX_CHECKSUMS_BYTES, to_hex};
use ring::digest::{Context, SHA256, digest};

use super::{cannot_write, is_plain, parent_of, sync, with_suffix};
use crate::error::Error;

/// How much of a file is read at once, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The list of a backup's files, which each backup has.
const LIST_NAME: &str = "BACKUP";
/// What a backup is called while it is taken away.
const REMOVING_SUFFIX: &str = ".removing";

/// Checks a backup that was made before, and reports it. What its last sequence is stands in its list alone.
pub(super) fn report(folder: &Path) -> Result<BackupReport, Error> {
    let path = with_suffix(folder, CHECKSUMS_SUFFIX);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_CHECKSUMS_BYTES).read_to_string(&mut text));
    read.map_err(|error| cannot_read(&path, &error))?;
    let sums = Checksums::parse(&text)
        .map_err(|line| Error::Data(format!("{}: line {line} is no checksum", path.display())))?;
    let (mut bytes, mut last_sequence) = (0, 0);
    for (name, wanted) in &sums.0 {
        let file = folder.join(name);
        let (sum, length) = sum_of(&file).map_err(|error| cannot_read(&file, &error))?;
        if sum != *wanted {
            let file = file.display();
            return Err(Error::Data(format!("{file} is not what was backed up: it has SHA-256 {sum}, want {wanted}")));
        }
        bytes += length;
        if name == LIST_NAME {
            last_sequence = sequence_of(&file).map_err(|error| cannot_read(&file, &error))?;
        }
    }
    Ok(BackupReport {
        folder: folder.display().to_string(),
        files: u64::try_from(sums.0.len()).expect("a count fits 64 bits"),
        bytes,
        last_sequence,
        sha256: to_hex(digest(&SHA256, text.as_bytes()).as_ref()),
    })
}

/// Takes away the backup of this name beside a new one. One that is gone already is fine.
pub(super) fn remove(new: &Path, name: &str) -> Result<(), Error> {
    if !is_plain(name) || new.file_name() == Some(name.as_ref()) {
        return Err(Error::Usage(format!("--remove {name}: want the name of another folder beside the backup")));
    }
    let old = parent_of(new).join(name);
    let (checksums, going) = (with_suffix(&old, CHECKSUMS_SUFFIX), with_suffix(&old, REMOVING_SUFFIX));
    if old.exists() {
        // The list is in each backup of ours, and in no other folder.
        if !old.join(LIST_NAME).is_file() && !checksums.is_file() {
            let old = old.display();
            return Err(Error::Data(format!("--remove {name}: {old} is no backup, and was left as it is")));
        }
        fs::rename(&old, &going).map_err(|error| cannot_write(&old, &error))?;
        sync(parent_of(new)).map_err(|error| cannot_write(&old, &error))?;
    }
    gone(fs::remove_file(&checksums)).map_err(|error| cannot_write(&checksums, &error))?;
    gone(fs::remove_dir_all(&going)).map_err(|error| cannot_write(&going, &error))?;
    sync(parent_of(new)).map_err(|error| cannot_write(&old, &error))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The SHA-256 of a file, and its bytes.
fn sum_of(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let (mut context, mut chunk, mut bytes) = (Context::new(&SHA256), vec![0; CHUNK_BYTES], 0);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((to_hex(context.finish().as_ref()), bytes)),
            Ok(count) => {
                context.update(&chunk[..count]);
                bytes += u64::try_from(count).expect("a length fits 64 bits");
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The sequence in the frame of a list: `crc32c SP length SP sequence SP ..`, in hexadecimal digits (FORMAT.md).
fn sequence_of(list: &Path) -> io::Result<u64> {
    let mut head = String::new();
    File::open(list)?.take(34).read_to_string(&mut head)?;
    let sequence = head.split(' ').nth(2).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    sequence.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it does not begin with the frame of a line"))
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    Error::Data(format!("cannot read {}: {error}", path.display()))
}
