//! `Store`: an engine as the server holds it, whichever it is.

use kvs_engine::backup::Backup;
use kvs_engine::storage::Storage;
use kvs_engine::{Completion, Error, KvsEngine, Operation, Page, Result, Scan, Stats};

/// The part of [`KvsEngine`] that the server needs, in a form that can be chosen when it starts.
pub(crate) trait Store: Send + Sync + 'static {
    /// As [`KvsEngine::submit`].
    fn submit(&self, operation: Operation, completion: Completion);
    /// As [`KvsEngine::prefetch`].
    fn prefetch(&self, keys: &[&[u8]]);
    /// As [`KvsEngine::scan`], which may wait for the disk.
    fn scan(&self, scan: &Scan) -> Result<Page>;
    /// As [`KvsEngine::count`], which may wait for the disk.
    fn count(&self) -> Result<u64>;
    /// As [`KvsEngine::clear`], which may wait for the disk, and long.
    fn clear(&self) -> Result<()>;
    /// As [`KvsEngine::backup_into`], which may wait for the disk, and long.
    fn backup_into(&self, target: &dyn Storage, also: &[&str]) -> Result<Backup>;
    /// As [`KvsEngine::stats`].
    fn stats(&self) -> Stats;
    /// As [`KvsEngine::fatal`].
    fn fatal(&self) -> Option<Error>;
    /// As [`KvsEngine::close`].
    fn close(&self) -> Result<()>;
}

impl<E: KvsEngine> Store for E {
    fn submit(&self, operation: Operation, completion: Completion) {
        KvsEngine::submit(self, operation, completion);
    }

    fn prefetch(&self, keys: &[&[u8]]) {
        KvsEngine::prefetch(self, keys);
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        KvsEngine::scan(self, scan)
    }

    fn count(&self) -> Result<u64> {
        KvsEngine::count(self)
    }

    fn clear(&self) -> Result<()> {
        KvsEngine::clear(self)
    }

    fn backup_into(&self, target: &dyn Storage, also: &[&str]) -> Result<Backup> {
        KvsEngine::backup_into(self, target, also)
    }

    fn stats(&self) -> Stats {
        KvsEngine::stats(self)
    }

    fn fatal(&self) -> Option<Error> {
        KvsEngine::fatal(self)
    }

    fn close(&self) -> Result<()> {
        KvsEngine::close(self)
    }
}
