//! A folder in memory whose calls a story can watch, hold up or refuse.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kvs_engine::storage::{MemoryStorage, Storage, StorageFile};

/// Is asked before each call that changes or syncs something: the call's name and the file's. May block, may fail.
type Hook = dyn Fn(&str, &str) -> io::Result<()> + Send + Sync;

/// A folder in memory with a hook before each call.
#[derive(Clone)]
pub(crate) struct Hooked {
    inner: MemoryStorage,
    hook: Arc<Hook>,
}

struct HookedFile {
    inner: Arc<dyn StorageFile>,
    name: String,
    hook: Arc<Hook>,
}

impl Hooked {
    pub(crate) fn new(
        inner: &MemoryStorage,
        hook: impl Fn(&str, &str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), hook: Arc::new(hook) })
    }

    fn wrap(&self, inner: Arc<dyn StorageFile>, name: &str) -> Arc<dyn StorageFile> {
        Arc::new(HookedFile { inner, name: name.to_owned(), hook: Arc::clone(&self.hook) })
    }
}

impl Storage for Hooked {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.inner.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        (self.hook)("create", name)?;
        Ok(self.wrap(self.inner.create(name)?, name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(self.inner.open(name)?, name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.hook)("rename", from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)("remove", name)?;
        self.inner.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        (self.hook)("sync_folder", "")?;
        self.inner.sync_folder()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

impl StorageFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        (self.hook)("write", &self.name)?;
        self.inner.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook)("sync", &self.name)?;
        self.inner.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        (self.hook)("set_length", &self.name)?;
        self.inner.set_length(bytes)
    }
}
