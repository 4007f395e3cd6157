//! The folder of a sled store, and the barrier that sled itself does not give.
//!
//! ```text
//! <folder>/LOCK       ours: held exclusively while the store is open
//! <folder>/conf       sled's parameters
//! <folder>/db         sled's log and pages
//! <folder>/blobs/N    one item (a large value, or a page of them) too large for a segment, named by its log position
//! <folder>/snap.X     sled's shortcut for the next opening; made anew from `db` when it is missing
//! ```
//!
//! What must hold: after [`Barrier::prepare`], sled's flush and [`Barrier::sync`], in this order, everything that was
//! applied before is on stable storage. Blobs come first, because `db` refers to them.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// How long after its last change a file or folder is taken to be complete. A change shows in the time of
/// modification only in steps (10 ms at most on Linux, 2 s on old file systems), and a blob is written by two or three calls.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What turns sled's flush into a promise. The tests have one that can be held up and one that fails.
pub(super) trait Barrier: Send + 'static {
    /// Before sled's flush: makes durable what the flushed records will refer to.
    fn prepare(&mut self) -> io::Result<()>;

    /// After sled's flush: makes the flushed records durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Takes the folder for this process: refuses another engine's data, creates what is missing and locks it.
pub(super) fn lock(folder: &Path) -> Result<File> {
    refuse_other_engine(folder)?;
    fs::create_dir_all(folder).map_err(|error| Error::io(format!("cannot create {}", folder.display()), error))?;
    let path = folder.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io(format!("cannot open {}", path.display()), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io(format!("cannot lock {}", path.display()), error)),
    }
}

/// Refuses a folder with data of the `kvs` engine, before anything is written to it.
fn refuse_other_engine(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format!("cannot read {}", folder.display()), error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(format!("cannot read {}", folder.display()), error))?;
        let name = entry.file_name();
        if name == "MANIFEST" || Path::new(&name).extension().is_some_and(|extension| extension == "log") {
            return Err(Error::WrongFolder {
                folder: folder.to_owned(),
                reason: format!(
                    "holds data of the kvs engine ({}); open it with --engine kvs, or choose another --data-dir",
                    name.display()
                ),
            });
        }
    }
    Ok(())
}

/// Removes half-written snapshots. sled would take one for a whole one and refuse to open; it makes a new one from
/// its log instead. The folder's lock must be held.
pub(super) fn remove_unfinished_snapshots(folder: &Path) -> Result<()> {
    let context = || format!("cannot clean {}", folder.display());
    for entry in fs::read_dir(folder).map_err(|error| Error::io(context(), error))? {
        let entry = entry.map_err(|error| Error::io(context(), error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removing a snapshot that sled did not finish");
            fs::remove_file(entry.path()).map_err(|error| Error::io(context(), error))?;
        }
    }
    Ok(())
}

/// sled's files, opened by ourselves before the first write, so that the kernel reports every failed write-back to
/// us, even one that sled's own thread was told of and only logged.
pub(super) struct Files {
    db: File,
    blobs: PathBuf,
    /// The blobs that were there at the last look, with the length up to which each is durable. A blob is only ever
    /// written once, from its beginning to its end, so that an unchanged length means nothing new.
    durable_blobs: HashMap<i64, Blob>,
    /// When the folder of the blobs had last changed at that look; `None` before the first.
    looked_at: Option<SystemTime>,
    /// Whether the next look can be left out if the folder has not changed.
    quiet: bool,
}

#[derive(Clone, Copy)]
struct Blob {
    durable_bytes: u64,
    /// Nobody writes it any more.
    complete: bool,
}

impl Files {
    /// Opens the files of a folder that sled has just opened, and makes their names and contents durable.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let db = File::open(folder.join("db"))?;
        File::open(folder.join("conf"))?.sync_all()?;
        db.sync_all()?;
        let blobs = folder.join("blobs");
        let mut files = Self { db, blobs, durable_blobs: HashMap::new(), looked_at: None, quiet: false };
        files.prepare()?;
        File::open(folder)?.sync_all()?;
        if let Some(parent) = folder.canonicalize()?.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(files)
    }

    /// Syncs the blobs that are new or have grown since the last call.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let modified = fs::metadata(&self.blobs)?.modified()?;
        if self.quiet && self.looked_at == Some(modified) {
            return Ok(());
        }
        let now = SystemTime::now();
        let mut quiet = is_settled(modified, now);
        let mut found = HashMap::with_capacity(self.durable_blobs.len());
        let mut created = self.looked_at.is_none();
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let Some(position) = entry.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else { continue };
            let known = self.durable_blobs.get(&position).copied();
            created |= known.is_none();
            let blob = match known {
                Some(blob) if blob.complete => blob,
                _ => match sync_blob(&entry.path(), known.map_or(0, |blob| blob.durable_bytes), now) {
                    Ok(blob) => blob,
                    // sled removes a blob when nothing refers to it any more.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                },
            };
            quiet &= blob.complete;
            found.insert(position, blob);
        }
        if created {
            File::open(&self.blobs)?.sync_all()?;
        }
        self.durable_blobs = found;
        self.looked_at = Some(modified);
        self.quiet = quiet;
        Ok(())
    }
}

impl Barrier for Files {
    fn prepare(&mut self) -> io::Result<()> {
        self.sync_blobs()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.db.sync_data()
    }
}

/// Makes a blob durable up to its present length.
fn sync_blob(path: &Path, durable_bytes: u64, now: SystemTime) -> io::Result<Blob> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() != durable_bytes || durable_bytes == 0 {
        file.sync_all()?;
    }
    Ok(Blob { durable_bytes: metadata.len(), complete: is_settled(metadata.modified()?, now) })
}

/// Whether a time of modification lies so far back that nothing is being written any more. A time in the future (the
/// clock was set back) does not count.
fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).is_ok_and(|age| age > SETTLED_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of_sled() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("db"), "").unwrap();
        fs::write(folder.path().join("conf"), "segment_size: 1").unwrap();
        fs::create_dir(folder.path().join("blobs")).unwrap();
        folder
    }

    #[test]
    fn a_blob_is_known_up_to_the_length_that_was_synced() {
        let folder = folder_of_sled();
        let blob = folder.path().join("blobs/4096");
        let mut files = Files::open(folder.path()).unwrap();
        assert!(files.durable_blobs.is_empty());

        fs::write(&blob, "half").unwrap();
        files.prepare().unwrap();
        assert_eq!(files.durable_blobs[&4096].durable_bytes, 4);
        assert!(!files.durable_blobs[&4096].complete, "it was written a moment ago");

        fs::write(&blob, "half and half").unwrap();
        files.prepare().unwrap();
        assert_eq!(files.durable_blobs[&4096].durable_bytes, 13, "it grew, so it was synced again");

        fs::remove_file(&blob).unwrap();
        files.prepare().unwrap();
        assert!(files.durable_blobs.is_empty());
    }

    #[test]
    fn an_old_folder_is_looked_at_once() {
        let folder = folder_of_sled();
        let blobs = folder.path().join("blobs");
        let old = SystemTime::now() - SETTLED_AFTER * 2;
        fs::write(blobs.join("1"), "old").unwrap();
        File::open(blobs.join("1")).unwrap().set_modified(old).unwrap();
        File::open(&blobs).unwrap().set_modified(old).unwrap();
        let mut files = Files::open(folder.path()).unwrap();
        assert!(files.quiet);

        fs::write(blobs.join("2"), "new").unwrap();
        files.prepare().unwrap();
        assert!(files.durable_blobs.contains_key(&2), "a new blob ends the quiet");
        assert!(!files.quiet);
    }

    #[test]
    fn unfinished_snapshots_go_and_whole_ones_stay() {
        let folder = folder_of_sled();
        fs::write(folder.path().join("snap.000A.generating"), "half").unwrap();
        fs::write(folder.path().join("snap.0009"), "whole").unwrap();
        remove_unfinished_snapshots(folder.path()).unwrap();
        assert!(!folder.path().join("snap.000A.generating").exists());
        assert!(folder.path().join("snap.0009").exists());
    }
}
