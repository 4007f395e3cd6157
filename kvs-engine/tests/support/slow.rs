//! A folder in memory whose syncs take a while, as those of a disk do: what is written and not durable yet can be met.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvs_engine::storage::{MemoryStorage, Storage, StorageFile};

/// How long a sync takes: many times what an operation in memory takes.
const SYNC: Duration = Duration::from_micros(300);

/// A folder whose syncs are slow.
pub(crate) struct Slow(pub(crate) MemoryStorage);

struct SlowFile(Arc<dyn StorageFile>);

impl Storage for Slow {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.0.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(SlowFile(self.0.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(SlowFile(self.0.open(name)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.0.sync_folder()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

impl StorageFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(SYNC);
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.0.set_length(bytes)
    }
}
