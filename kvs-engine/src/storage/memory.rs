//! A folder in memory that loses what was not synced, the way a disk does when the power fails.
//!
//! What must hold: a byte written and not synced may be there after a crash, or not, each 512-byte sector for itself;
//! a name that was created, renamed or removed and not synced may be there, or not, but names change in the order in
//! which the calls were made. What was synced is there.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StorageFile};

/// The unit that a disk writes whole, in bytes.
const SECTOR_BYTES: usize = 512;

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    /// Never held across another lock but those of the files in it.
    folder: Arc<Mutex<Folder>>,
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
}

#[derive(Clone)]
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
}

#[derive(Default)]
struct MemoryFile(Mutex<Content>);

#[derive(Default, Clone)]
struct Content {
    /// What programs read.
    bytes: Vec<u8>,
    /// What is on the disk for certain.
    durable: Vec<u8>,
}

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
        locked(&self.folder).capacity_bytes = bytes;
    }

    /// A folder as it may be after the power failed now. `keep` is asked once for each sector that differs from what
    /// is durable and once for each un-synced change of a name: `true` keeps it. The first change of a name that is
    /// not kept loses all later ones as well.
    #[must_use]
    pub fn after_power_loss(&self, mut keep: impl FnMut() -> bool) -> Self {
        let folder = locked(&self.folder);
        let mut names = folder.durable.clone();
        for change in &folder.changes {
            if !keep() {
                break;
            }
            change.apply(&mut names);
        }
        let names: BTreeMap<_, _> = names
            .into_iter()
            .map(|(name, file)| (name, Arc::new(MemoryFile(Mutex::new(locked(&file.0).after_power_loss(&mut keep))))))
            .collect();
        Self::with_names(names)
    }

    /// The folder as another process finds it after this one was killed: everything that was written is there.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let folder = locked(&self.folder);
        let names = folder
            .names
            .iter()
            .map(|(name, file)| {
                let bytes = locked(&file.0).bytes.clone();
                (name.clone(), Arc::new(MemoryFile(Mutex::new(Content { durable: bytes.clone(), bytes }))))
            })
            .collect();
        Self::with_names(names)
    }

    /// Changes one bit of a file behind everybody's back, on the disk as well.
    ///
    /// # Panics
    /// When there is no such file or no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let file = Arc::clone(locked(&self.folder).names.get(name).expect("the file exists"));
        let mut content = locked(&file.0);
        let index = usize::try_from(bit / 8).expect("an offset into memory");
        content.bytes[index] ^= 1 << (bit % 8);
        let byte = content.bytes[index];
        if let Some(durable) = content.durable.get_mut(index) {
            *durable = byte;
        }
    }

    fn with_names(names: BTreeMap<String, Arc<MemoryFile>>) -> Self {
        Self { folder: Arc::new(Mutex::new(Folder { durable: names.clone(), names, ..Folder::default() })) }
    }

    fn used_bytes(&self) -> u64 {
        locked(&self.folder).names.values().map(|file| locked(&file.0).bytes.len() as u64).sum()
    }

    fn has_room(&self, more_bytes: u64) -> io::Result<()> {
        let capacity_bytes = locked(&self.folder).capacity_bytes;
        match capacity_bytes {
            Some(limit) if self.used_bytes() + more_bytes > limit => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Content {
    fn after_power_loss(&self, keep: &mut impl FnMut() -> bool) -> Self {
        // The length is metadata of the file: it is durable with the data, or it is not.
        let length =
            if self.bytes.len() == self.durable.len() || keep() { self.bytes.len() } else { self.durable.len() };
        let mut bytes = self.durable.clone();
        bytes.resize(length, 0);
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(length);
            let Some(written) = self.bytes.get(start..end) else { continue };
            if written != &bytes[start..end] && keep() {
                bytes[start..end].copy_from_slice(written);
            }
        }
        Self { durable: bytes.clone(), bytes }
    }
}

/// Gives the folder back when it is dropped.
struct MemoryLock(Arc<Mutex<Folder>>);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        locked(&self.0).locked = false;
    }
}

impl Storage for MemoryStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut folder = locked(&self.folder);
        if std::mem::replace(&mut folder.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock(Arc::clone(&self.folder)))))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut folder = locked(&self.folder);
        if folder.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        folder.names.insert(name.to_owned(), Arc::clone(&file));
        folder.changes.push(Change::Add(name.to_owned(), Arc::clone(&file)));
        Ok(Arc::new(OpenFile { file, storage: self.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file = locked(&self.folder).names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(OpenFile { file, storage: self.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.folder).names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut folder = locked(&self.folder);
        let file = folder.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        folder.names.insert(to.to_owned(), file);
        folder.changes.push(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut folder = locked(&self.folder);
        folder.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        folder.changes.push(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut folder = locked(&self.folder);
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
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start + bytes.len();
        let length = locked(&self.file.0).bytes.len();
        self.storage.has_room((end.max(length) - length) as u64)?;
        let mut content = locked(&self.file.0);
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = locked(&self.file.0);
        content.durable = content.bytes.clone();
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(locked(&self.file.0).bytes.len() as u64)
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let now = locked(&self.file.0).bytes.len();
        self.storage.has_room(length.saturating_sub(now) as u64)?;
        locked(&self.file.0).bytes.resize(length, 0);
        Ok(())
    }
}
