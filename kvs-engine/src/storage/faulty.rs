//! A storage that fails one chosen call, once or from then on.
//!
//! What must hold: calls are counted over all files in the order in which they are made, so that a workload that is
//! run again with the next number meets every call in turn; a call that fails does nothing, but for a short write.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Storage, StorageFile};

/// What a failing call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It fails with this error number.
    Errno(i32),
    /// A write takes half of its bytes; every other call works.
    ShortWrite,
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the call, from zero. Reads are not counted: only calls that change something or sync it.
    pub call: u64,
    /// What it does.
    pub kind: FaultKind,
    /// Whether every later call fails as well.
    pub for_ever: bool,
}

/// A storage that fails as planned.
#[derive(Clone)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

struct Plan {
    fault: Option<Fault>,
    /// Calls made so far.
    calls: AtomicU64,
}

impl Plan {
    /// The fault of the call that is made now, if it has one.
    fn next(&self) -> Option<FaultKind> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault?;
        (call == fault.call || (fault.for_ever && call > fault.call)).then_some(fault.kind)
    }

    /// Fails if it is this call's turn.
    fn check(&self) -> io::Result<()> {
        match self.next() {
            Some(FaultKind::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(FaultKind::ShortWrite) | None => Ok(()),
        }
    }
}

impl FaultyStorage {
    /// A storage over `inner` that fails as `fault` says; `None` only counts.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, fault: Option<Fault>) -> Self {
        Self { inner, plan: Arc::new(Plan { fault, calls: AtomicU64::new(0) }) }
    }

    /// How many calls that change or sync something were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::SeqCst)
    }

    fn wrap(&self, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        Arc::new(FaultyFile { inner: file, plan: Arc::clone(&self.plan) })
    }
}

impl Storage for FaultyStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.inner.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.plan.check()?;
        Ok(self.wrap(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.wrap(self.inner.open(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.check()?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.check()?;
        self.inner.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.plan.check()?;
        self.inner.sync_folder()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

struct FaultyFile {
    inner: Arc<dyn StorageFile>,
    plan: Arc<Plan>,
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match self.plan.next() {
            Some(FaultKind::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
            Some(FaultKind::ShortWrite) => self.inner.write_at(&bytes[..bytes.len().div_ceil(2)], offset),
            None => self.inner.write_at(bytes, offset),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.check()?;
        self.inner.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.plan.check()?;
        self.inner.set_length(bytes)
    }
}
