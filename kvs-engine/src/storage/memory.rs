//! A folder in memory that loses what was not synced, the way a disk does when the power fails.
//!
//! What must hold after a crash:
//! * each 512-byte sector of a file has, for itself, one of the contents that it had since the last sync of the file;
//!   so writes are lost, reordered and torn;
//! * a file has, for itself, one of the lengths that it had since its last sync;
//! * a name that was created, renamed or removed since the last sync of the folder is there or not, each change for
//!   itself, except that a change of a name comes after every earlier change of that name;
//! * what was synced is there. A sync that failed makes nothing durable, nor does a later one that goes well: the
//!   operating system has called those bytes clean.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::{Storage, StorageFile};
use content::Content;

/// What a failing sync says: an input or output error.
const EIO: i32 = 5;

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Shared by calls that change something, held alone while a crash is looked at, so that a crash is one moment
    /// for all files. Taken before every other lock.
    moment: RwLock<()>,
    /// Never held across another lock but those of the files in it.
    folder: Mutex<Folder>,
}

#[derive(Default)]
struct Folder {
    /// The names as programs see them.
    names: BTreeMap<String, Arc<MemoryFile>>,
    /// The names as a crash that keeps no un-synced change leaves them.
    durable: BTreeMap<String, Arc<MemoryFile>>,
    /// Changes since the last sync of the folder, in order.
    changes: Vec<Change>,
    locked: bool,
    /// The length to which all files together may grow; `None` is no limit.
    capacity_bytes: Option<u64>,
    /// How many syncs of files go well before one fails; `None`: all.
    syncs_until_failure: Option<u64>,
}

impl Shared {
    /// Keeps a look at a crash away until the caller's change is whole.
    fn in_one_moment(&self) -> RwLockReadGuard<'_, ()> {
        self.moment.read().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Change {
    Add(String, Arc<MemoryFile>),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Arc<MemoryFile>>) {
        match self {
            Self::Add(name, file) => {
                names.insert(name.clone(), Arc::clone(file));
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }

    /// The names that it changes.
    fn names(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Add(name, _) | Self::Remove(name) => (name, None),
            Self::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }
}

#[derive(Default)]
struct MemoryFile(Mutex<Content>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the length of all files together; writing past it answers `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        locked(&self.shared.folder).capacity_bytes = bytes;
    }

    /// Makes one sync of a file fail, after so many that go well. Later ones go well again, and prove nothing about
    /// what the failed one was for.
    pub fn fail_sync_after(&self, syncs: u64) {
        locked(&self.shared.folder).syncs_until_failure = Some(syncs);
    }

    /// Whether the sync that is to fail is still to come.
    #[must_use]
    pub fn awaits_failing_sync(&self) -> bool {
        locked(&self.shared.folder).syncs_until_failure.is_some()
    }

    /// A folder as it may be after the power failed now. `keep` is asked for each un-synced change of a name, oldest
    /// first, unless it builds on one that is lost; and, in each file, for the un-synced lengths and for the un-synced
    /// contents of each sector, newest first, until it says `true`. So `|| true` keeps everything, `|| false` nothing.
    #[must_use]
    pub fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> Self {
        let _moment = self.shared.moment.write().unwrap_or_else(PoisonError::into_inner);
        let folder = locked(&self.shared.folder);
        let mut names = folder.durable.clone();
        let mut lost: BTreeSet<&str> = BTreeSet::new();
        for change in &folder.changes {
            if change.names().all(|name| !lost.contains(name)) && keep() {
                change.apply(&mut names);
            } else {
                lost.extend(change.names());
            }
        }
        Self::with_files(names.iter().map(|(name, file)| (name, locked(&file.0).after_power_loss(&mut keep))))
    }

    /// The folder as another process finds it after this one was killed: everything that was written is there, and is
    /// no more durable than before.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let _moment = self.shared.moment.write().unwrap_or_else(PoisonError::into_inner);
        let folder = locked(&self.shared.folder);
        // A file has one copy, whatever names it.
        let mut copies: Vec<(Arc<MemoryFile>, Arc<MemoryFile>)> = Vec::new();
        let mut copy = |file: &Arc<MemoryFile>| match copies.iter().find(|(old, _)| Arc::ptr_eq(old, file)) {
            Some((_, new)) => Arc::clone(new),
            None => {
                let new = Arc::new(MemoryFile(Mutex::new(locked(&file.0).clone())));
                copies.push((Arc::clone(file), Arc::clone(&new)));
                new
            }
        };
        let names = folder.names.iter().map(|(name, file)| (name.clone(), copy(file))).collect();
        let durable = folder.durable.iter().map(|(name, file)| (name.clone(), copy(file))).collect();
        let changes = folder.changes.iter().map(|change| match change {
            Change::Add(name, file) => Change::Add(name.clone(), copy(file)),
            Change::Rename(from, to) => Change::Rename(from.clone(), to.clone()),
            Change::Remove(name) => Change::Remove(name.clone()),
        });
        Self::with_folder(Folder { names, durable, changes: changes.collect(), ..Folder::default() })
    }

    /// Changes one bit of a file behind everybody's back, on the disk as well.
    ///
    /// # Panics
    /// When there is no such file or no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let file = Arc::clone(locked(&self.shared.folder).names.get(name).expect("the file exists"));
        let byte = usize::try_from(bit / 8).expect("an offset into memory");
        locked(&file.0).flip_bit(byte, u32::try_from(bit % 8).expect("below 8"));
    }

    /// A folder in which everything is durable.
    fn with_files<'a>(files: impl Iterator<Item = (&'a String, Vec<u8>)>) -> Self {
        let names: BTreeMap<_, _> = files
            .map(|(name, bytes)| {
                let content = Content::of_disk(bytes);
                (name.clone(), Arc::new(MemoryFile(Mutex::new(content))))
            })
            .collect();
        Self::with_folder(Folder { durable: names.clone(), names, ..Folder::default() })
    }

    fn with_folder(folder: Folder) -> Self {
        Self { shared: Arc::new(Shared { moment: RwLock::new(()), folder: Mutex::new(folder) }) }
    }

    fn used_bytes(&self) -> u64 {
        locked(&self.shared.folder).names.values().map(|file| locked(&file.0).bytes.len() as u64).sum()
    }

    fn has_room(&self, more_bytes: u64) -> io::Result<()> {
        let capacity_bytes = locked(&self.shared.folder).capacity_bytes;
        match capacity_bytes {
            // What is written in place needs no room, however little there is.
            Some(limit) if more_bytes > 0 && self.used_bytes() + more_bytes > limit => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether it is this sync's turn to fail.
    fn sync_fails(&self) -> bool {
        let mut folder = locked(&self.shared.folder);
        let left = folder.syncs_until_failure.take();
        folder.syncs_until_failure = left.and_then(|left| left.checked_sub(1));
        left == Some(0)
    }
}

/// Gives the folder back when it is dropped.
struct MemoryLock(Arc<Shared>);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        locked(&self.0.folder).locked = false;
    }
}

impl Storage for MemoryStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut folder = locked(&self.shared.folder);
        if std::mem::replace(&mut folder.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock(Arc::clone(&self.shared)))))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let _moment = self.shared.in_one_moment();
        let mut folder = locked(&self.shared.folder);
        if folder.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        folder.names.insert(name.to_owned(), Arc::clone(&file));
        folder.changes.push(Change::Add(name.to_owned(), Arc::clone(&file)));
        Ok(Arc::new(OpenFile { file, storage: self.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = locked(&self.shared.folder).names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(OpenFile { file, storage: self.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.shared.folder).names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _moment = self.shared.in_one_moment();
        let mut folder = locked(&self.shared.folder);
        let file = folder.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        folder.names.insert(to.to_owned(), file);
        folder.changes.push(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _moment = self.shared.in_one_moment();
        let mut folder = locked(&self.shared.folder);
        folder.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        folder.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let _moment = self.shared.in_one_moment();
        let mut folder = locked(&self.shared.folder);
        folder.changes.clear();
        folder.durable = folder.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

/// A file together with its folder, whose capacity limits it.
struct OpenFile {
    file: Arc<MemoryFile>,
    storage: MemoryStorage,
}

impl StorageFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = locked(&self.file.0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.bytes.len());
        let count = buffer.len().min(content.bytes.len() - start);
        buffer[..count].copy_from_slice(&content.bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let _moment = self.storage.shared.in_one_moment();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start + bytes.len();
        let length = locked(&self.file.0).bytes.len();
        self.storage.has_room((end.max(length) - length) as u64)?;
        locked(&self.file.0).write(start, bytes);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let _moment = self.storage.shared.in_one_moment();
        if self.storage.sync_fails() {
            locked(&self.file.0).fail_sync();
            return Err(io::Error::from_raw_os_error(EIO));
        }
        locked(&self.file.0).sync();
        Ok(())
    }

    fn links(&self) -> io::Result<u64> {
        let folder = locked(&self.storage.shared.folder);
        Ok(folder.names.values().filter(|file| Arc::ptr_eq(file, &self.file)).count() as u64)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(locked(&self.file.0).bytes.len() as u64)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let _moment = self.storage.shared.in_one_moment();
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let now = locked(&self.file.0).bytes.len();
        self.storage.has_room(length.saturating_sub(now) as u64)?;
        locked(&self.file.0).set_length(length);
        Ok(())
    }
}
