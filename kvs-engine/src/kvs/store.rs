//! `KvStore`, the handle that programs hold: opening, closing, threads, figures. A mutation's way is in `mutate.rs`.
//!
//! What must hold: whoever drops the last handle, or closes the store, ends its threads first and seals the log last.

use std::path::Path;

use super::checkpoint::{self, CHECKPOINT_NAME, Cadence, Start, Unusable};
use super::compaction;
use super::index::Index;
use super::location::MAX_SEGMENT_BYTES;
use super::replay;
use crate::backup::Backup;
use crate::completion::{Complete, Completion, Waiter as Blocking};
use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::limits::{HIGHEST_MAX_VALUE_BYTES, Limits, MAX_KEY_BYTES};
use crate::log::coverage::Folder;
use crate::log::{Log, Waiter};
use crate::memory::check;
use crate::operation::{Operation, Outcome};
use crate::options::Options;
use crate::scan::{Page, Scan};
use crate::stats::Stats;
use crate::storage::{RealStorage, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::JoinHandle;
use crate::sync::{Arc, Mutex, OnceLock, PoisonError, thread};

/// The smallest segment, in bytes: a few records and a header.
const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

/// How many hashes are tried on a log before it is given up: each fails once in millions of times.
const MAX_HASHES: u32 = 16;
/// The file that says that what writes a folder is not done: it is refused, because it would open with half of what it
/// is to hold.
const UNFINISHED_NAME: &str = "UNFINISHED";

/// A persistent key-value store: a handle that is cheap to clone. The last handle that is dropped closes the store.
///
/// ```
/// use kvs_engine::{KvStore, KvsEngine};
///
/// let folder = tempfile::tempdir()?;
/// let store = KvStore::open(folder.path())?;
/// store.set("key", "value")?;
/// assert_eq!(store.get("key")?, Some(b"value".to_vec()));
/// drop(store);
/// assert_eq!(KvStore::open(folder.path())?.get("key")?, Some(b"value".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KvStore {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for KvStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KvStore").finish_non_exhaustive()
    }
}

/// Owns the store's threads.
struct Handle {
    core: Arc<Core>,
    /// Held while the store is closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// How closing it ended, for whoever closes it again.
    closed: OnceLock<Result<()>>,
}

/// What handles and threads share.
pub(super) struct Core {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) options: Options,
    pub(super) index: Index,
    pub(super) log: Log<Waiting>,
    /// Bytes of all records, and of those that the index points at; only a hint when to look closer.
    pub(super) record_bytes: AtomicU64,
    pub(super) live_bytes: AtomicU64,
    pub(super) compaction: compaction::State,
    pub(super) cadence: Cadence,
    torn_bytes: u64,
    replayed_bytes: u64,
    pub(super) closed: AtomicBool,
    /// Keeps other processes out until the store is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

/// An answer that waits until what it shows is durable.
pub(super) struct Waiting {
    pub(super) completion: Completion,
    pub(super) result: Result<Outcome>,
}

impl Waiting {
    pub(super) fn answer(self) {
        self.completion.complete(self.result);
    }
}

impl Waiter for Waiting {
    fn settled(self, result: Result<()>) {
        match result {
            Ok(()) => self.answer(),
            Err(error) => self.completion.complete(Err(error)),
        }
    }
}

impl KvStore {
    /// Opens the store of a folder, which is created if it is missing.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, Options::default())
    }

    /// Opens the store of a folder, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Corruption`] when acknowledged data is damaged,
    /// [`Error::WrongFolder`] when it belongs to another engine or version, and I/O errors.
    pub fn open_with(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let folder = folder.as_ref();
        let storage = RealStorage::create(folder)
            .map_err(|error| Error::io(format!("creating the folder {}", folder.display()), error))?;
        Self::open_storage(Arc::new(storage), options)
    }

    /// Opens the store of a [`Storage`], such as one that fails on purpose.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open_storage(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        let names = storage.list().map_err(|error| Error::io("listing the folder", error))?;
        if names.iter().any(|name| name == UNFINISHED_NAME) {
            let reason = "holds the beginning of a repair that did not end; remove the folder and repair again";
            return Err(Error::WrongFolder { folder: storage.path(""), reason: reason.to_owned() });
        }
        Self::open_locked(storage, options)
    }

    /// Fills a new store, which opens only when all is in it.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with), and what `fill` says.
    pub(crate) fn build<T>(
        storage: &Arc<dyn Storage>,
        options: Options,
        fill: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let failed = |error| Error::io("marking the folder as unfinished", error);
        storage.create(UNFINISHED_NAME).and_then(|file| file.sync_data()).map_err(failed)?;
        storage.sync_folder().map_err(failed)?;
        let store = Self::open_locked(Arc::clone(storage), options)?;
        let filled = fill(&store)?;
        store.close()?;
        storage.remove(UNFINISHED_NAME).and_then(|()| storage.sync_folder()).map_err(failed)?;
        Ok(filled)
    }

    fn open_locked(storage: Arc<dyn Storage>, options: Options) -> Result<Self> {
        let options = checked(options)?;
        let folder = storage.path("");
        let lock = storage
            .lock()
            .map_err(|error| Error::io(format!("locking {}", folder.display()), error))?
            .ok_or(Error::Locked { folder })?;
        let mut manifest = Folder::read(storage.as_ref())?;
        let mut start = start_of(storage.as_ref(), &manifest)?;
        let mut tries = 0;
        let (log, recovered, sums) = loop {
            let mut replay = replay::Replay::new(&start, storage.as_ref());
            let (log, recovered) = Log::open(
                Arc::clone(&storage),
                options.clone(),
                manifest,
                &start.coverage,
                &mut |segment, offset, line| replay.visit(segment, offset, line),
            )?;
            if !replay.collided {
                let sums = replay.finish(&log);
                break (log, recovered, sums);
            }
            // One hash in some thousands of millions; the next one is chosen at random again.
            tries += 1;
            if tries == MAX_HASHES {
                let context = format!("indexing the log: {tries} hashes in turn gave two keys of one batch the same");
                return Err(Error::io(context, std::io::ErrorKind::Other.into()));
            }
            remove_checkpoint(storage.as_ref())?;
            start = Start::empty();
            // The try has changed it.
            manifest = Folder::read(storage.as_ref())?;
        };
        let cadence = Cadence::new(options.checkpoint_bytes, start.bytes, sums.replayed_bytes);
        let index = start.index;
        let core = Arc::new(Core {
            storage,
            options,
            index,
            log,
            record_bytes: AtomicU64::new(sums.record_bytes),
            live_bytes: AtomicU64::new(sums.live_bytes),
            compaction: compaction::State::default(),
            cadence,
            torn_bytes: recovered.torn_bytes,
            replayed_bytes: sums.replayed_bytes,
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        let threads = start_threads(&core)?;
        // What died before the last end is worth a compaction even if nothing is written any more.
        core.count_appended(0);
        Ok(Self { handle: Arc::new(Handle { core, threads: Mutex::new(threads), closed: OnceLock::new() }) })
    }

    /// What handles and threads share.
    pub(super) fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Rewrites every segment that holds dead bytes, and returns when that is done. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Poisoned`], [`Error::Closed`], [`Error::Corruption`] and I/O errors; the log is as
    /// it was then.
    pub fn compact(&self) -> Result<()> {
        let core = &self.handle.core;
        if core.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        core.compact_all()
    }
}

/// What a store's index starts from: its checkpoint, or nothing.
fn start_of(storage: &dyn Storage, folder: &Folder) -> Result<Start> {
    match checkpoint::read(storage, folder) {
        Ok(start) => return Ok(start),
        Err(Unusable::Missing) => {}
        Err(reason) => {
            // It could be read another day, also where a disk gave wrong bytes once, and would then know numbers of
            // segments that were given to new ones.
            tracing::warn!(%reason, "the index's checkpoint is taken away: the whole log is read");
            remove_checkpoint(storage)?;
        }
    }
    Ok(Start::empty())
}

fn remove_checkpoint(storage: &dyn Storage) -> Result<()> {
    match storage.remove(CHECKPOINT_NAME) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing the checkpoint", error)),
        _ => Ok(()),
    }
}

/// Options within the bounds of the format.
fn checked(mut options: Options) -> Result<Options> {
    let Limits { key_bytes, value_bytes } = options.limits;
    for (what, bytes, limit_bytes) in
        [("key limit", key_bytes, MAX_KEY_BYTES), ("value limit", value_bytes, HIGHEST_MAX_VALUE_BYTES)]
    {
        if bytes > limit_bytes {
            return Err(Error::TooLarge { what, bytes, limit_bytes });
        }
    }
    options.segment_bytes = options.segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES / 4);
    Ok(options)
}

/// A thread's name and what it runs until the store closes.
type Job = (&'static str, fn(&Core));

fn start_threads(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>> {
    let jobs: [Job; 3] = [
        ("kvs-commit", |core| core.log.run_commits()),
        ("kvs-segments", |core| core.log.run_segments()),
        ("kvs-compact", Core::run_compactions),
    ];
    let mut threads = Vec::with_capacity(jobs.len());
    for (name, job) in jobs {
        let shared = Arc::clone(core);
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Without this thread nothing would become durable, or no space be made: somebody would wait for ever.
            let _or_poison = shared.log.or_poison(name);
            job(&shared);
        });
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                core.stop();
                return Err(Error::io("starting a thread of the store", error));
            }
        }
    }
    Ok(threads)
}

impl Core {
    /// Begins an operation and blocks until it is answered.
    pub(super) fn wait(&self, begin: impl FnOnce(Completion)) -> Result<Outcome> {
        let waiter = Arc::new(Blocking::default());
        begin(Completion::new(Arc::clone(&waiter) as Arc<dyn Complete>, 0));
        if !waiter.is_answered() {
            self.log.lead();
        }
        waiter.wait()
    }

    /// Refuses further operations and ends the store's threads, which the caller joins.
    fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.compaction.stop();
        self.log.stop();
    }
}

impl KvsEngine for KvStore {
    const NAME: &'static str = "kvs";

    fn submit(&self, operation: Operation, completion: Completion) {
        let core = &self.handle.core;
        if let Err(error) = check(&operation, &core.options.limits) {
            return completion.complete(Err(error));
        }
        if core.closed.load(Ordering::Acquire) {
            return completion.complete(Err(Error::Closed));
        }
        let mutates = !matches!(operation, Operation::Get { .. });
        core.mutate(operation, completion);
        if mutates {
            core.log.kick();
        }
    }

    fn prefetch(&self, keys: &[&[u8]]) {
        self.handle.core.prefetch(keys);
    }

    fn execute(&self, operation: Operation) -> Result<Outcome> {
        let core = &self.handle.core;
        check(&operation, &core.options.limits)?;
        if core.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match operation {
            Operation::Get { key } => core.get_and_wait(&key),
            operation => core.wait(|completion| core.mutate(operation, completion)),
        }
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        self.handle.core.scan(scan)
    }

    fn count(&self) -> Result<u64> {
        self.handle.core.count_keys()
    }

    fn backup_into(&self, target: &dyn Storage, also: &[&str]) -> Result<Backup> {
        self.backup_storage(target, also)
    }

    fn stats(&self) -> Stats {
        let core = &self.handle.core;
        let segments = core.log.segments();
        let (keys, index_bytes) = core.index.size();
        let (appended_bytes, syncs) = core.log.counters();
        let sum = |bytes: fn(&crate::log::segment::Segment) -> u64| segments.iter().map(|one| bytes(one)).sum::<u64>();
        let live_bytes = sum(|segment| segment.live_bytes.load(Ordering::Relaxed));
        let record_bytes = sum(crate::log::segment::Segment::record_bytes);
        let dead_bytes = record_bytes.saturating_sub(live_bytes);
        core.compaction.stats(Stats {
            keys,
            live_bytes,
            dead_bytes,
            compaction_backlog_bytes: compaction::backlog_bytes(dead_bytes, record_bytes, &core.options),
            disk_bytes: sum(crate::log::segment::Segment::disk_bytes),
            segments: segments.len() as u64,
            index_bytes,
            appended_bytes,
            syncs,
            checkpoints: core.cadence.written(),
            replayed_bytes: core.replayed_bytes,
            torn_bytes: core.torn_bytes,
            read_only: core.log.is_read_only(),
            append_stall_us: core.log.stall_us(),
            ..Stats::default()
        })
    }

    fn flush(&self) -> Result<()> {
        self.handle.core.log.flush()
    }

    fn close(&self) -> Result<()> {
        self.handle.close()
    }

    fn fatal(&self) -> Option<Error> {
        self.handle.core.log.poisoned()
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(closed) = self.closed.get() {
            return closed.clone();
        }
        self.core.stop();
        for thread in threads.drain(..) {
            // An answer may drop the last handle: then this is one of them, and ends when it returns.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
        // Who compacts on a thread of its own ends first; the seal must be the manifest's last change.
        let _running = self.core.compaction.running.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = self.core.log.seal_all();
        if sealed.is_ok() {
            self.core.checkpoint_at_close();
        }
        // Nothing of the folder is touched any more.
        drop(self.core.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.closed.get_or_init(|| sealed).clone()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed cleanly; it recovers when it is opened again");
        }
    }
}
