//! A folder of the operating system.

mod map;

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use super::{Mapped, Storage, StorageFile};

/// The file that is locked while a process has the folder.
const LOCK_NAME: &str = "LOCK";
/// Data files are for their owner alone.
const FILE_MODE: u32 = 0o600;

/// A folder of the operating system.
#[derive(Debug, Clone)]
pub struct RealStorage {
    folder: PathBuf,
}

impl RealStorage {
    /// The folder, made durable with its parents if it has to be created.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        create_durably(&folder)?;
        Ok(Self { folder })
    }

    /// A folder that must be there already.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or whatever else the file system says.
    pub fn existing(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        match std::fs::metadata(&folder)?.is_dir() {
            true => Ok(Self { folder }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

/// The file that is locked. It is unlocked by a call, because closing it is not enough: a process that another thread
/// is just starting has a copy of it until it has begun with its own program.
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Where it fails, closing the file unlocks it all the same, a moment later.
        let _ = self.0.unlock();
    }
}

/// Creates a folder and its missing parents, each made durable by a sync of the folder that names it.
fn create_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Storage for RealStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let path = self.folder.join(LOCK_NAME);
        // To lock it, it need not be written: so a folder that can't be written can be locked if it ever was.
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&path)?
            }
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(FolderLock(file)))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let file =
            OpenOptions::new().create_new(true).read(true).write(true).mode(FILE_MODE).open(self.folder.join(name))?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.folder.join(name))?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(File::open(self.folder.join(name))?))
    }

    fn link_from(&self, path: &Path, name: &str) -> io::Result<()> {
        std::fs::hard_link(path, self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A link counts: who put it there means a file.
            if !entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl StorageFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn begin_writeback(&self, offset: u64, bytes: u64) {
        // Linux begins to write what is to leave its cache, without waiting. A hint: where it is refused, nothing is lost.
        let _ = fadvise(self, offset, NonZeroU64::new(bytes), Advice::DontNeed);
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::empty(), 0, bytes)?)
    }

    fn map(&self) -> Option<Mapped> {
        let mapping = map::Mapping::new(self).ok()?;
        Some(Box::new(mapping))
    }

    fn links(&self) -> io::Result<u64> {
        Ok(self.metadata()?.nlink())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_at_once_though_a_copy_of_its_lock_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::create(folder.path()).unwrap();
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(folder.path().join(LOCK_NAME)).unwrap();
        file.lock().unwrap();
        // What a child process has between its birth and its own program.
        let _copy = file.try_clone().unwrap();
        let lock = FolderLock(file);
        assert!(storage.lock().unwrap().is_none(), "it is taken");
        drop(lock);
        assert!(storage.lock().unwrap().is_some(), "it is free");
    }
}
