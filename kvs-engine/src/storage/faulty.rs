//! A storage that fails one chosen call, once or from then on.
//!
//! What must hold: calls are counted over all files in the order in which they are made, so that a workload that is
//! run again with the next number meets every call in turn; a call that fails does nothing, but for a short one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Storage, StorageFile};

/// The most failed calls that are remembered: a fault for ever meets any number of calls.
const MAX_NOTED: usize = 1_000;

/// What a failing call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It fails with this error number.
    Errno(i32),
    /// A write, or a read where reads are counted, takes half of its bytes; every other call works.
    ShortWrite,
}

/// Which call fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the call, from zero. Only calls that change something or sync it are counted, unless the storage
    /// counts [reads](FaultyStorage::with_reads) as well.
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
    /// Whether calls that change nothing are counted, too.
    reads: bool,
    /// Calls made so far.
    calls: AtomicU64,
    /// The calls that failed or were cut short.
    failed: Mutex<Vec<String>>,
}

impl Plan {
    /// The fault of the call that is made now, if it has one.
    fn next(&self) -> Option<FaultKind> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault?;
        (number == fault.call || (fault.for_ever && number > fault.call)).then_some(fault.kind)
    }

    fn note(&self, call: &str, name: &str) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() < MAX_NOTED {
            failed.push(format!("{call} {name}"));
        }
    }

    /// Fails if it is this call's turn.
    fn check(&self, call: &str, name: &str) -> io::Result<()> {
        match self.next() {
            Some(FaultKind::Errno(number)) => {
                self.note(call, name);
                Err(io::Error::from_raw_os_error(number))
            }
            Some(FaultKind::ShortWrite) | None => Ok(()),
        }
    }

    /// Fails if it is the turn of this call that changes nothing.
    fn check_read(&self, call: &str, name: &str) -> io::Result<()> {
        if self.reads { self.check(call, name) } else { Ok(()) }
    }

    /// How many of so many bytes a call takes.
    fn limit(&self, call: &str, name: &str, bytes: usize) -> io::Result<usize> {
        let Some(kind) = self.next() else { return Ok(bytes) };
        self.note(call, name);
        match kind {
            FaultKind::Errno(number) => Err(io::Error::from_raw_os_error(number)),
            FaultKind::ShortWrite => Ok(bytes.div_ceil(2)),
        }
    }
}

impl FaultyStorage {
    /// A storage over `inner` that fails as `fault` says; `None` only counts.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, fault: Option<Fault>) -> Self {
        Self::with_plan(inner, fault, false)
    }

    /// As [`new`](Self::new); calls that change nothing are counted and fail as well: opening, reading, listing,
    /// locking, asking for a length.
    #[must_use]
    pub fn with_reads(inner: Arc<dyn Storage>, fault: Option<Fault>) -> Self {
        Self::with_plan(inner, fault, true)
    }

    fn with_plan(inner: Arc<dyn Storage>, fault: Option<Fault>, reads: bool) -> Self {
        Self { inner, plan: Arc::new(Plan { fault, reads, calls: AtomicU64::new(0), failed: Mutex::default() }) }
    }

    /// The calls that failed or were cut short so far, each with its file's name: `sync 00000001.log`. At most the
    /// first 1,000.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        self.plan.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls were counted so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::SeqCst)
    }

    fn wrap(&self, file: Arc<dyn StorageFile>, name: &str) -> Arc<dyn StorageFile> {
        Arc::new(FaultyFile { inner: file, name: name.to_owned(), plan: Arc::clone(&self.plan) })
    }
}

impl Storage for FaultyStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.plan.check_read("lock", "")?;
        self.inner.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.plan.check("create", name)?;
        Ok(self.wrap(self.inner.create(name)?, name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.plan.check_read("open", name)?;
        Ok(self.wrap(self.inner.open(name)?, name))
    }

    fn link_from(&self, path: &Path, name: &str) -> io::Result<()> {
        self.plan.check("link", name)?;
        self.inner.link_from(path, name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.plan.check_read("list", "")?;
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.check("rename", from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plan.check("remove", name)?;
        self.inner.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.plan.check("sync_folder", "")?;
        self.inner.sync_folder()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

struct FaultyFile {
    inner: Arc<dyn StorageFile>,
    name: String,
    plan: Arc<Plan>,
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = if self.plan.reads { self.plan.limit("read", &self.name, buffer.len())? } else { buffer.len() };
        self.inner.read_at(&mut buffer[..bytes], offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let count = self.plan.limit("write", &self.name, bytes.len())?;
        self.inner.write_at(&bytes[..count], offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.check("sync", &self.name)?;
        self.inner.sync_data()
    }

    fn links(&self) -> io::Result<u64> {
        self.plan.check_read("links", &self.name)?;
        self.inner.links()
    }

    fn length(&self) -> io::Result<u64> {
        self.plan.check_read("length", &self.name)?;
        self.inner.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.plan.check("set_length", &self.name)?;
        self.inner.set_length(bytes)
    }
}
