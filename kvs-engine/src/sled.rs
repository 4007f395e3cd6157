//! The `sled` crate behind [`KvsEngine`].
//!
//! What must hold: the contract of the trait, although sled's own promises are weaker. So nothing is answered straight
//! after sled's call. Writes are applied at once, their answers queue up, and one committer thread flushes sled, syncs
//! its files and then gives all answers that were queued before. A read that saw such a write queues up behind it.
//!
//! # What sled does and does not guarantee
//! * Its `flush` hands the data to the disk but waits for no barrier: a disk's cache, a new file size and its blobs
//!   can be lost with the power. We sync its files ourselves; the kernel reports failures to our own handles too.
//! * It buffers in its process. Under the policies [`Interval`](crate::SyncPolicy::Interval) and
//!   [`Os`](crate::SyncPolicy::Os) an answer therefore still waits for a flush, without the barrier; a killed process
//!   loses nothing that was acknowledged.
//! * Its own thread writes, cleans and syncs twice a second, whatever the policy. When that cleaner moves a page of
//!   more than 128 KiB (values of several KiB and more), the moved copy is durable only with the next write's sync or
//!   the kernel's own write-back: a loss of power in between can lose that page.
//! * Its file can't tell a torn tail from damage further back: what it can't read it may cut off silently. The `kvs`
//!   engine tells the two apart and refuses to open; this one can't.
//! * A full disk or any other failed write ends it: the store is poisoned, where `kvs` would go on reading.
//! * Keys are not counted ([`Stats::keys`] is 0): that would read the whole store at each opening. Dead bytes and
//!   compactions are sled's secret. It takes more disk and memory than its data, and its format may change with its version.

mod commit;
mod files;
mod open;
mod unsettled;

use std::any::Any;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use crate::completion::{Complete, Completion, Waiter};
use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::memory::check;
use crate::operation::{Mutation, Operation, Outcome};
use crate::options::Options;
use crate::scan::{Gathering, Page, Scan};
use crate::stats::Stats;

use commit::{Committer, Held, Queue};
use files::{Barrier, Files};
use open::{from_sled, open_sled};
use unsettled::Unsettled;

/// A sled database: a handle that is cheap to clone. The last handle that is dropped closes the store.
#[derive(Clone)]
pub struct SledEngine {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    options: Options,
    /// `None` once closed. Read while an operation is applied and queued, written only to close: after the write
    /// nothing more is queued. Rank: before a shard's lock.
    opened: RwLock<Option<Opened>>,
    unsettled: Unsettled,
    queue: Arc<Queue>,
    /// Bytes of keys and values written since the store was opened.
    appended_bytes: AtomicU64,
    /// The committer, until somebody has waited for its end. Held while waiting, so that a second `close` waits too.
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What an open store has and a closed one has given back.
struct Opened {
    db: ::sled::Db,
    /// Let go after `db`, as the order of fields says.
    _lock: std::fs::File,
}

impl SledEngine {
    /// Opens or creates the store in a folder with [`Options::default`].
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(folder, Options::default())
    }

    /// Opens or creates the store in a folder. The options about compaction and segments do not apply.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process (or another handle of this one) has the folder open,
    /// [`Error::WrongFolder`] when it holds data of the `kvs` engine, [`Error::Corruption`] and [`Error::Sled`] when
    /// sled refuses its own files, [`Error::Io`].
    pub fn open_with(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let folder = folder.as_ref();
        Self::open_with_barrier(folder, options, || {
            let files = Files::open(folder);
            let context = || format!("cannot make the files of {} durable", folder.display());
            Ok(Box::new(files.map_err(|error| Error::io(context(), error))?))
        })
    }

    /// Whether a folder holds data of this engine.
    #[must_use]
    pub fn has_data(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        folder.join("db").is_file() && folder.join("blobs").is_dir()
    }

    /// Opens a store whose barrier is made after sled has opened its files.
    fn open_with_barrier(
        folder: &Path,
        options: Options,
        barrier: impl FnOnce() -> Result<Box<dyn Barrier>>,
    ) -> Result<Self> {
        let lock = files::lock(folder)?;
        files::remove_unfinished_snapshots(folder)?;
        let db = open_sled(folder, options.sled_cache_bytes)?;
        let queue = Arc::new(Queue::new());
        let committer = Committer {
            queue: Arc::clone(&queue),
            db: db.clone(),
            barrier: barrier()?,
            policy: options.sync,
            observer: Arc::clone(&options.observer),
            unsynced: commit::Unsynced::default(),
        };
        let committer = thread::Builder::new()
            .name("sled-committer".into())
            .spawn(move || committer.run())
            .map_err(|error| Error::io("cannot start the committer thread", error))?;
        let inner = Inner {
            folder: folder.to_owned(),
            options,
            opened: RwLock::new(Some(Opened { db, _lock: lock })),
            unsettled: Unsettled::new(),
            queue,
            appended_bytes: AtomicU64::new(0),
            committer: Mutex::new(Some(committer)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl KvsEngine for SledEngine {
    const NAME: &'static str = "sled";

    fn submit(&self, operation: Operation, completion: Completion) {
        let inner = &*self.inner;
        if let Err(error) = check(&operation, &inner.options.limits) {
            return completion.complete(Err(error));
        }
        let opened = inner.opened.read().unwrap_or_else(PoisonError::into_inner);
        let now = match &*opened {
            None => Some((completion, Err(Error::Closed))),
            Some(opened) => match inner.queue.poison() {
                Some(error) => Some((completion, Err(error))),
                None => inner.apply(&opened.db, operation, completion),
            },
        };
        // An answer runs the caller's code: no lock may be held.
        drop(opened);
        if let Some((completion, result)) = now {
            completion.complete(result);
        }
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        let after = scan.checked()?.map(|cursor| cursor.key()).transpose()?;
        let inner = &*self.inner;
        let begin = after.map_or(Bound::Included(scan.prefix.clone()), Bound::Excluded);
        let opened = inner.opened.read().unwrap_or_else(PoisonError::into_inner);
        let Some(opened_now) = opened.as_ref() else { return Err(inner.queue.poison().unwrap_or(Error::Closed)) };
        if let Some(error) = inner.queue.poison() {
            return Err(error);
        }
        let mut entries = opened_now.db.range((begin, Bound::Unbounded));
        let entries = std::iter::from_fn(|| inner.guarded(|| entries.next().transpose()).transpose());
        let page = Gathering::new(scan).of_ordered(entries)?;
        // A writer holds its key's lock from before its change can be seen until its answer is queued. So once every
        // lock was free, all that the page shows or misses is queued, and what is queued now is answered after it.
        inner.unsettled.wait_for_writers();
        let waiter = Arc::new(Waiter::default());
        let completion = Completion::new(Arc::clone(&waiter) as Arc<dyn Complete>, 0);
        inner.queue.push(completion, Ok(Outcome::Done), &Held::Read);
        drop(opened);
        waiter.wait().map(|_| page)
    }

    fn stats(&self) -> Stats {
        let inner = &*self.inner;
        let opened = inner.opened.read().unwrap_or_else(PoisonError::into_inner);
        let disk_bytes = opened.as_ref().and_then(|opened| opened.db.size_on_disk().ok()).unwrap_or(0);
        Stats {
            disk_bytes,
            appended_bytes: inner.appended_bytes.load(Ordering::Relaxed),
            syncs: inner.queue.syncs(),
            ..Stats::default()
        }
    }

    fn flush(&self) -> Result<()> {
        let inner = &*self.inner;
        let waiter = Arc::new(Waiter::default());
        let completion = Completion::new(Arc::clone(&waiter) as Arc<dyn Complete>, 0);
        let opened = inner.opened.read().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            return inner.queue.poison().map_or(Err(Error::Closed), Err);
        }
        inner.queue.push(completion, Ok(Outcome::Done), &Held::Flush);
        drop(opened);
        waiter.wait().map(|_| ())
    }

    fn close(&self) -> Result<()> {
        self.inner.close()
    }

    fn fatal(&self) -> Option<Error> {
        self.inner.queue.poison()
    }
}

impl std::fmt::Debug for SledEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SledEngine").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

/// An answer that need not wait, for the caller to give when no lock is held.
type Now = Option<(Completion, Result<Outcome>)>;

impl Inner {
    /// Applies an operation to sled, then queues its answer or returns it.
    fn apply(&self, db: &::sled::Db, operation: Operation, completion: Completion) -> Now {
        match operation {
            Operation::Get { key } => self.get(db, &key, completion),
            Operation::Set { key, value } => {
                let bytes = byte_count(key.len() + value.len());
                self.write_one(&key, bytes, completion, || db.insert(&key, value).map(|_| true))
            }
            Operation::Remove { key } => {
                let bytes = byte_count(key.len());
                self.write_one(&key, bytes, completion, || db.remove(&key).map(|old| old.is_some()))
            }
            Operation::SetIf { key, value, condition, old } => {
                let (key, bytes) = (&key, byte_count(key.len() + value.len()));
                self.write_decided(db, key, bytes, completion, move |found| {
                    let stored = condition.holds(found.is_some());
                    let outcome = Outcome::of_set_if(stored, old, found.map(|value| value.to_vec()));
                    let write = move || db.insert(key, value).map(drop);
                    (outcome, stored.then_some(write))
                })
            }
            Operation::Take { key } => {
                let (key, bytes) = (&key, byte_count(key.len()));
                self.write_decided(db, key, bytes, completion, move |found| {
                    let write = move || db.remove(key).map(drop);
                    let write = found.is_some().then_some(write);
                    (Outcome::Value(found.map(|value| value.to_vec())), write)
                })
            }
            Operation::Batch(mutations) => self.write_batch(db, mutations, completion),
        }
    }

    /// Reads first and locks the shard after: a writer holds that lock from before its change can be seen until the
    /// change is marked, so whatever was seen is marked by then or settled already.
    fn get(&self, db: &::sled::Db, key: &[u8], completion: Completion) -> Now {
        let outcome = match self.guarded(|| db.get(key)) {
            Ok(value) => Ok(Outcome::Value(value.map(|value| value.to_vec()))),
            Err(error) => return Some((completion, Err(error))),
        };
        let hash = self.unsettled.hash(key);
        let shard = self.unsettled.lock(hash);
        self.answer_read(shard.contains(hash, self.queue.settled()), completion, outcome)
    }

    /// One key's write. `write` says whether it changed anything; if not, the key was missing.
    fn write_one(
        &self,
        key: &[u8],
        bytes: u64,
        completion: Completion,
        write: impl FnOnce() -> ::sled::Result<bool>,
    ) -> Now {
        let hash = self.unsettled.hash(key);
        let mut shard = self.unsettled.lock(hash);
        match self.guarded(write) {
            Ok(true) => {
                shard.mark(hash, self.answer_write(completion, bytes, Outcome::Done));
                None
            }
            // That the key is missing may be the work of a removal that is not settled.
            Ok(false) => {
                let unsettled = shard.contains(hash, self.queue.settled());
                self.answer_read(unsettled, completion, Err(Error::KeyNotFound))
            }
            Err(error) => Some((completion, Err(error))),
        }
    }

    /// One key's write that its present value decides, with the answer of either decision. No other writer of the key
    /// comes between, because every one of them holds its shard's lock.
    fn write_decided<W: FnOnce() -> ::sled::Result<()>>(
        &self,
        db: &::sled::Db,
        key: &[u8],
        bytes: u64,
        completion: Completion,
        decide: impl FnOnce(Option<::sled::IVec>) -> (Outcome, Option<W>),
    ) -> Now {
        let hash = self.unsettled.hash(key);
        let mut shard = self.unsettled.lock(hash);
        let found = match self.guarded(|| db.get(key)) {
            Ok(found) => found,
            Err(error) => return Some((completion, Err(error))),
        };
        let (outcome, write) = decide(found);
        let Some(write) = write else {
            let unsettled = shard.contains(hash, self.queue.settled());
            return self.answer_read(unsettled, completion, Ok(outcome));
        };
        match self.guarded(write) {
            Ok(()) => {
                shard.mark(hash, self.answer_write(completion, bytes, outcome));
                None
            }
            Err(error) => Some((completion, Err(error))),
        }
    }

    fn write_batch(&self, db: &::sled::Db, mutations: Vec<Mutation>, completion: Completion) -> Now {
        if mutations.is_empty() {
            return Some((completion, Ok(Outcome::Done)));
        }
        let hashes: Vec<u64> = mutations.iter().map(|mutation| self.unsettled.hash(mutation.key())).collect();
        let mut batch = ::sled::Batch::default();
        let mut bytes = 0;
        // A later mutation of the same key replaces the earlier one in sled's batch, as applying them in order would.
        for mutation in mutations {
            match mutation {
                Mutation::Set { key, value } => {
                    bytes += byte_count(key.len() + value.len());
                    batch.insert(key, value);
                }
                Mutation::Remove { key } => {
                    bytes += byte_count(key.len());
                    batch.remove(key);
                }
            }
        }
        let mut shards = self.unsettled.lock_all(&hashes);
        if let Err(error) = self.guarded(|| db.apply_batch(batch)) {
            return Some((completion, Err(error)));
        }
        let generation = self.answer_write(completion, bytes, Outcome::Done);
        hashes.into_iter().for_each(|hash| shards.mark(hash, generation));
        None
    }

    /// Queues the answer to a write; returns the group that makes it durable.
    fn answer_write(&self, completion: Completion, bytes: u64, outcome: Outcome) -> u64 {
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.queue.push(completion, Ok(outcome), &Held::Write(bytes))
    }

    /// Queues an answer that shows an unsettled write; any other need not wait.
    fn answer_read(&self, unsettled: bool, completion: Completion, result: Result<Outcome>) -> Now {
        if !unsettled {
            return Some((completion, result));
        }
        self.queue.push(completion, result, &Held::Read);
        None
    }

    /// Calls sled. Its errors become ours; those that leave it unusable, and its panics, poison the store.
    fn guarded<T>(&self, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error @ (::sled::Error::Io(_) | ::sled::Error::ReportableBug(_)))) => {
                Err(self.queue.set_poison(format!("sled failed: {error}")))
            }
            Ok(Err(error)) => Err(from_sled(&self.folder, error)),
            Err(panic) => Err(self.queue.set_poison(format!("sled panicked: {}", panic_message(&*panic)))),
        }
    }

    fn close(&self) -> Result<()> {
        let opened = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        self.queue.close();
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = committer.take() {
            if handle.thread().id() == thread::current().id() {
                // The last handle was dropped by an answer: the committer ends by itself after it.
                drop(handle);
            } else if handle.join().is_err() {
                self.queue.set_poison("the committer panicked while it ended".into());
            }
        }
        if let Some(opened) = opened
            && self.queue.poison().is_some()
        {
            // As in the committer: sled must not sync again. The folder stays locked until the process ends.
            std::mem::forget(opened);
        }
        self.queue.poison().map_or(Ok(()), Err)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(folder = %self.folder.display(), %error, "the store was closed after a failure");
        }
    }
}

/// What a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

fn byte_count(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests;
