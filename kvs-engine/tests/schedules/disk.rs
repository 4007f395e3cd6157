//! A folder in memory that lets the scheduler choose at every call, and whose sync can fail the way a disk's does.
//!
//! What must hold: what was to be synced by a sync that failed never becomes durable, whatever is synced later.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvs_engine::storage::{MemoryStorage, Storage, StorageFile};

/// The error number of a device that failed.
const EIO: i32 = 5;

/// The folder. Clones are the same folder.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    memory: MemoryStorage,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// Syncs of files that still work before one fails.
    sync_fails_after: Option<u32>,
    /// Files of which a sync failed.
    lost: BTreeSet<String>,
}

/// Lets the scheduler choose who goes on.
fn choose() {
    shuttle::thread::sleep(Duration::ZERO);
}

impl Disk {
    /// The disk as it is after the power failed now and all that was not synced is gone.
    pub(crate) fn after_power_loss(&self) -> Self {
        Self { memory: self.memory.after_power_loss(|| false), faults: Arc::default() }
    }

    /// Makes one sync of a file fail, after so many that work.
    pub(crate) fn fail_sync_after(&self, syncs: u32) {
        self.faults.lock().unwrap().sync_fails_after = Some(syncs);
    }

    /// Whether a sync has failed.
    pub(crate) fn has_failed(&self) -> bool {
        !self.faults.lock().unwrap().lost.is_empty()
    }

    /// Whether a text stands in a segment, so that no loss of power takes it away.
    pub(crate) fn is_durable(&self, text: &str) -> bool {
        let durable = self.memory.after_power_loss(|| false);
        let names = durable.list().unwrap();
        names.iter().filter(|name| name.ends_with(".log")).any(|name| {
            let file = durable.open(name).unwrap();
            let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
            let count = file.read_at(&mut bytes, 0).unwrap();
            bytes[..count].windows(text.len()).any(|window| window == text.as_bytes())
        })
    }

    fn wrap(&self, name: &str, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(DiskFile { name: name.to_owned(), file, faults: Arc::clone(&self.faults) })
    }
}

impl Storage for Disk {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.memory.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        choose();
        Ok(self.wrap(name, self.memory.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        choose();
        Ok(self.wrap(name, self.memory.open(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        choose();
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        choose();
        self.memory.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        choose();
        self.memory.sync_folder()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.memory.path(name)
    }
}

struct DiskFile {
    name: String,
    file: Arc<dyn StorageFile>,
    faults: Arc<Mutex<Faults>>,
}

impl StorageFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        choose();
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        choose();
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        choose();
        let mut faults = self.faults.lock().unwrap();
        if let Some(left) = faults.sync_fails_after {
            faults.sync_fails_after = left.checked_sub(1);
            if left == 0 {
                faults.lost.insert(self.name.clone());
                return Err(io::Error::from_raw_os_error(EIO));
            }
        }
        // The operating system has marked the bytes as clean: it has nothing to sync any more.
        if faults.lost.contains(&self.name) { Ok(()) } else { self.file.sync_data() }
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        choose();
        self.file.set_length(bytes)
    }
}
