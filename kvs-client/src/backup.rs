//! `backup`: a backup of a running store, received into a folder from which `kvs-server restore` makes a store.
//!
//! What must hold: a folder of the name that was asked for holds a whole backup, checked against the server's sums and on
//! the disk, with its own checksums beside it; until then it is called FOLDER.partial. A file's name is the server's word
//! and never leads out of the folder. An older backup goes only when the new one is whole.
//!
//! | killed after ..                   | leaves ..                                                                 |
//! |-----------------------------------|---------------------------------------------------------------------------|
//! | FOLDER.partial is made            | that folder, which the next run begins anew                               |
//! | FOLDER.sha256 is written          | the same, and checksums of nothing, which the next run replaces           |
//! | FOLDER.partial is renamed         | the backup; `--reuse` reports it, without the flag its name is taken      |
//! | an older backup is renamed        | NAME.removing, which the next run with `--remove NAME` takes away         |

mod kept;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use kvs_protocol::backup_record::{BackupReport, CHECKSUMS_SUFFIX, Checksums, to_hex};
use kvs_protocol::{Answer, BackupEnd, BackupPart, Request, Verb};
use ring::digest::{Context, SHA256, digest};
use serde_json::json;

use crate::arguments::BackupFlags;
use crate::error::Error;
use crate::output::Output;
use crate::session::{Session, broken};

/// The longest name of a file, in bytes: that of Linux.
const MAX_NAME_BYTES: usize = 255;
/// The file by which a process holds a backup that is not whole yet. An engine's own file of this name is empty, too.
const LOCK_NAME: &str = "LOCK";

/// Receives a backup.
pub(crate) async fn run(session: &mut Session, flags: BackupFlags, output: Output) -> Result<(), Error> {
    let BackupFlags { folder, parents, reuse, remove, termination_log } = flags;
    let made = match parents.then(|| make_parents(&folder)) {
        Some(Err(error)) => Err(error),
        _ => make(session, &folder, reuse, &remove).await,
    };
    if let Some(path) = termination_log {
        let said = match &made {
            Ok(report) => json!(report),
            Err(error) => error.as_json(),
        };
        fs::write(&path, format!("{said}\n")).map_err(|error| cannot_write(&path, &error))?;
    }
    let report = made?;
    let BackupReport { folder: name, files, bytes, .. } = &report;
    let text = format!(
        "backed up into {name}: {files} files of {bytes} bytes; `kvs-server restore --from {name} --data-dir FOLDER` makes a store of it"
    );
    output.report(&text, &json!(report))
}

async fn make(session: &mut Session, folder: &Path, reuse: bool, remove: &[String]) -> Result<BackupReport, Error> {
    let report = if reuse && folder.exists() {
        kept::report(folder)?
    } else {
        let mut receiving = Receiving::begin(folder)?;
        let result = receive(session, &mut receiving).await;
        match result.and_then(|end| receiving.finish(&end)) {
            Ok(report) => report,
            Err(error) => {
                // Half a backup is of no use to anybody.
                let _ = fs::remove_dir_all(&receiving.partial);
                return Err(error);
            }
        }
    };
    remove.iter().try_for_each(|name| kept::remove(folder, name))?;
    Ok(report)
}

async fn receive(session: &mut Session, receiving: &mut Receiving) -> Result<BackupEnd, Error> {
    let retry = session.retry();
    let limit = retry.limit();
    let mut connection = session.take_connection(&retry).await?;
    let place = connection.place().to_owned();
    let advice = "make the backup again";
    let failed = |error| broken(place.clone(), &error, advice);
    connection.send(&Request::from(Verb::Backup)).await.map_err(failed)?;
    connection.flush().await.map_err(failed)?;
    loop {
        let part = tokio::time::timeout(limit, connection.receive()).await;
        let part = part.map_err(|_| Error::Timeout { place: place.clone(), limit, advice })?.map_err(failed)?;
        match part.body {
            Ok(Answer::Part(BackupPart::File(name))) => receiving.file(&name)?,
            Ok(Answer::Part(BackupPart::Data(bytes))) => receiving.data(&bytes)?,
            Ok(Answer::Part(BackupPart::End(end))) => return Ok(end),
            Ok(_) => {
                let cause = "`backup` was answered with something else".to_owned();
                return Err(Error::NotAServer { place, cause });
            }
            Err(error) => return Err(Error::Refused { place, error }),
        }
    }
}

/// A backup that is not whole yet.
struct Receiving {
    folder: PathBuf,
    partial: PathBuf,
    /// Locked: another process that makes the same backup is refused. The file itself goes before the end.
    _lock: File,
    file: Option<ReceivedFile>,
    sums: BTreeMap<String, String>,
    bytes: u64,
    crc32c: u32,
}

/// The file that is arriving.
struct ReceivedFile {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    sum: Context,
}

impl Receiving {
    fn begin(folder: &Path) -> Result<Self, Error> {
        if folder.exists() {
            let name = folder.display();
            return Err(Error::Data(format!("{name} exists; name a folder that does not, the backup becomes it")));
        }
        let partial = with_suffix(folder, ".partial");
        match fs::create_dir(&partial) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot_write(&partial, &error)),
            _ => {}
        }
        let lock = hold(&partial)?;
        Ok(Self {
            folder: folder.to_owned(),
            partial,
            _lock: lock,
            file: None,
            sums: BTreeMap::new(),
            bytes: 0,
            crc32c: 0,
        })
    }

    fn file(&mut self, name: &str) -> Result<(), Error> {
        self.end_file()?;
        if !is_plain(name) || name == LOCK_NAME {
            return Err(Error::Data(format!(
                "the server sent a file of the name '{name}', which is none; no backup was made"
            )));
        }
        let path = self.partial.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = BufWriter::new(file.map_err(|error| cannot_write(&path, &error))?);
        self.file = Some(ReceivedFile { name: name.to_owned(), path, file, sum: Context::new(&SHA256) });
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(ReceivedFile { path, file, sum, .. }) = &mut self.file else {
            return Err(Error::Data("the server sent bytes of no file; no backup was made".into()));
        };
        file.write_all(bytes).map_err(|error| cannot_write(path, &error))?;
        sum.update(bytes);
        self.bytes += u64::try_from(bytes.len()).expect("a length fits 64 bits");
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), Error> {
        let Some(ReceivedFile { name, path, file, sum }) = self.file.take() else { return Ok(()) };
        let written = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        written.map_err(|error| cannot_write(&path, &error))?;
        self.sums.insert(name, to_hex(sum.finish().as_ref()));
        Ok(())
    }

    /// Compares the sums, writes the checksums and gives the folder its name.
    fn finish(&mut self, end: &BackupEnd) -> Result<BackupReport, Error> {
        self.end_file()?;
        let files = u64::try_from(self.sums.len()).expect("a count fits 64 bits");
        if (files, self.bytes, self.crc32c) != (end.files, end.bytes, end.crc32c) {
            return Err(Error::Data(format!(
                "what arrived is not what the server sent: {files} files of {} bytes with the sum {:08x}, want {} of {} with {:08x}; \
                 make the backup again",
                self.bytes, self.crc32c, end.files, end.bytes, end.crc32c
            )));
        }
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let sums = Checksums(std::mem::take(&mut self.sums)).to_text(&name);
        let sha256 = to_hex(digest(&SHA256, sums.as_bytes()).as_ref());
        let checksums = with_suffix(&self.folder, CHECKSUMS_SUFFIX);
        write_whole(&checksums, sums.as_bytes()).map_err(|error| cannot_write(&checksums, &error))?;
        let named = fs::remove_file(self.partial.join(LOCK_NAME))
            .and_then(|()| sync(&self.partial))
            // The checksums' name before the backup's.
            .and_then(|()| sync(parent_of(&self.folder)))
            .and_then(|()| fs::rename(&self.partial, &self.folder))
            .and_then(|()| sync(parent_of(&self.folder)));
        named.map_err(|error| cannot_write(&self.folder, &error))?;
        let (bytes, last_sequence) = (self.bytes, end.last_sequence);
        Ok(BackupReport { folder: self.folder.display().to_string(), files, bytes, last_sequence, sha256 })
    }
}

/// Takes a folder in which a backup is to be made, and clears away what one that did not end left in it.
fn hold(partial: &Path) -> Result<File, Error> {
    let failed = |error: &io::Error| cannot_write(partial, error);
    let path = partial.join(LOCK_NAME);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|error| failed(&error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let name = partial.display();
            return Err(Error::Data(format!("another backup into {name} is under way; wait for its end")));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    for entry in fs::read_dir(partial).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        if path.file_name() != Some(LOCK_NAME.as_ref()) {
            fs::remove_file(&path).map_err(|error| cannot_write(&path, &error))?;
        }
    }
    Ok(lock)
}

/// Makes the folders on the way, each durable before the next one.
fn make_parents(folder: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = parent_of(folder).ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
        let made = fs::create_dir(path).and_then(|()| sync(parent_of(path)));
        made.map_err(|error| cannot_write(path, &error))?;
    }
    Ok(())
}

/// Writes a file under another name, and gives it its own when it is on the disk.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all())
}

fn parent_of(folder: &Path) -> &Path {
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path beside another whose name has something behind it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    // Without the slash that a person may have typed behind a folder.
    let mut name: OsString = path.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a name is that of a file in the folder and nowhere else.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !matches!(name, "." | "..") && !name.contains(['/', '\0'])
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::Data(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(files: u64, bytes: &[u8]) -> BackupEnd {
        let length = u64::try_from(bytes.len()).unwrap();
        BackupEnd { files, bytes: length, crc32c: crc32c::crc32c(bytes), last_sequence: 1 }
    }

    #[test]
    fn a_backup_has_its_name_when_its_sums_are_right() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("monday");
        for (sums, is_right) in [(end(2, b"abd"), false), (end(1, b"abc"), false), (end(2, b"abc"), true)] {
            let mut receiving = Receiving::begin(&folder).unwrap();
            receiving.file("1.log").unwrap();
            receiving.data(b"ab").unwrap();
            receiving.file("MANIFEST").unwrap();
            receiving.data(b"c").unwrap();
            assert_eq!(receiving.finish(&sums).is_ok(), is_right);
            assert_eq!(folder.exists(), is_right);
            let _ = fs::remove_dir_all(&receiving.partial);
        }
        assert_eq!(fs::read(folder.join("1.log")).unwrap(), b"ab");
        assert!(!folder.join(LOCK_NAME).exists(), "the lock is no part of it");
        assert!(Receiving::begin(&folder).is_err(), "nothing is overwritten");
    }

    #[test]
    fn a_server_can_not_write_elsewhere() {
        let here = tempfile::tempdir().unwrap();
        let mut receiving = Receiving::begin(&here.path().join("a/..").join("backup")).err();
        assert!(receiving.take().is_some(), "a folder that is missing is not made on the way");
        let mut receiving = Receiving::begin(&here.path().join("backup")).unwrap();
        assert!(receiving.data(b"a").is_err());
        for name in ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\0b"] {
            assert!(receiving.file(name).is_err(), "{name:?}");
        }
        receiving.file("a").unwrap();
        assert!(receiving.file("a").is_err(), "a file that came before is not overwritten");
    }

    fn receive(folder: &Path) -> Result<BackupReport, Error> {
        let mut receiving = Receiving::begin(folder)?;
        receiving.file("MANIFEST")?;
        receiving.data(b"abc")?;
        receiving.finish(&end(1, b"abc"))
    }

    #[test]
    fn what_a_killed_run_left_is_cleared_and_one_under_way_is_not() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("monday");
        let mut cut_off = Receiving::begin(&folder).unwrap();
        cut_off.file("MANIFEST").unwrap();
        let error = Receiving::begin(&folder).err().unwrap().to_string();
        assert!(error.contains("is under way"), "{error}");
        drop(cut_off);
        assert!(here.path().join("monday.partial/MANIFEST").exists());
        receive(&folder).unwrap();
        assert!(!here.path().join("monday.partial").exists());
    }

    #[test]
    fn a_backup_is_known_again_and_a_damaged_one_is_not() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("monday");
        let made = receive(&folder).unwrap();
        assert_eq!(kept::report(&folder).unwrap(), BackupReport { last_sequence: 0, ..made.clone() });
        let sums = fs::read(here.path().join("monday.sha256")).unwrap();
        assert_eq!(to_hex(digest(&SHA256, &sums).as_ref()), made.sha256);
        fs::write(folder.join("MANIFEST"), "abd").unwrap();
        assert!(kept::report(&folder).unwrap_err().to_string().contains("MANIFEST"));
    }

    #[test]
    fn an_older_backup_goes_and_nothing_else() {
        let here = tempfile::tempdir().unwrap();
        let (old, new) = (here.path().join("monday"), here.path().join("tuesday"));
        receive(&old).unwrap();
        receive(&new).unwrap();
        let other = here.path().join("photos");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("cat"), "").unwrap();
        for name in ["tuesday", "..", "", "../photos", "photos"] {
            assert!(kept::remove(&new, name).is_err(), "{name}");
        }
        assert!(other.join("cat").exists());
        kept::remove(&new, "monday").unwrap();
        kept::remove(&new, "monday").unwrap();
        let mut left: Vec<_> = fs::read_dir(here.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["photos", "tuesday", "tuesday.sha256"]);
    }
}
