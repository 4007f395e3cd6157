//! `KvStore`, the handle that programs hold, and the way of a mutation through it.
//!
//! What must hold, under the lock of a key's shard: the record is appended and the index points at it before anybody
//! else sees the key; a removal and a batch decide by what the index says then. So operations on one key happen in the
//! order of their sequences, a pipeline reads its own writes, and two removals of one key never both succeed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::index::{Index, KeyHash, Shard};
use super::location::{Location, MAX_SEGMENT_BYTES};
use super::read::{Found, Want};
use super::record;
use super::replay;
use crate::completion::{Complete, Completion, Waiter as Blocking};
use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::limits::{HIGHEST_MAX_VALUE_BYTES, Limits, MAX_KEY_BYTES};
use crate::log::{Log, Placed, Purpose, Waiter};
use crate::memory::check;
use crate::operation::{Mutation, Operation, Outcome};
use crate::options::Options;
use crate::stats::Stats;
use crate::storage::{RealStorage, Storage};

/// The smallest segment, in bytes: a few records and a header.
const MIN_SEGMENT_BYTES: u64 = 4 * 1024;

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
    /// Emptied by whoever closes the store, so that it is closed once. Held while it is closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    pub(super) compaction: super::compaction::State,
    torn_bytes: u64,
    closed: AtomicBool,
    /// Keeps other processes out until the store is closed and dropped.
    _lock: Box<dyn Send + Sync>,
}

/// An answer that waits until what it shows is durable.
pub(super) struct Waiting {
    completion: Completion,
    result: Result<Outcome>,
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
        let options = checked(options)?;
        let folder = storage.path("");
        let lock = storage
            .lock()
            .map_err(|error| Error::io(format!("locking {}", folder.display()), error))?
            .ok_or(Error::Locked { folder })?;
        let index = Index::new();
        let mut replay = replay::Replay::new(&index, storage.as_ref());
        let (log, recovered) = Log::open(Arc::clone(&storage), options.clone(), &mut |segment, offset, line| {
            replay.visit(segment, offset, line)
        })?;
        let sums = replay.finish(&log);
        let core = Arc::new(Core {
            storage,
            options,
            index,
            log,
            record_bytes: AtomicU64::new(sums.record_bytes),
            live_bytes: AtomicU64::new(sums.live_bytes),
            compaction: super::compaction::State::default(),
            torn_bytes: recovered.torn_bytes,
            closed: AtomicBool::new(false),
            _lock: lock,
        });
        let threads = start_threads(&core)?;
        // What died before the last end is worth a compaction even if nothing is written any more.
        core.count(0);
        Ok(Self { handle: Arc::new(Handle { core, threads: Mutex::new(threads) }) })
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
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || job(&shared));
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
    /// Applies a mutation under its key's lock; the answer waits for the log. Does not make the log go.
    fn mutate(&self, operation: Operation, completion: Completion) {
        let mut completion = Some(completion);
        let done = match operation {
            Operation::Set { key, value } => self.set(Mutation::Set { key, value }, &mut completion),
            Operation::Remove { key } => self.remove(key, &mut completion),
            Operation::Batch(mutations) => self.batch(&mutations, &mut completion),
            Operation::Get { key } => {
                let completion = completion.take().expect("it was put there above");
                self.get(&key, |value| Waiting { completion, result: value.map(Outcome::Value) });
                return;
            }
        };
        if let (Err(error), Some(completion)) = (done, completion) {
            completion.complete(Err(error));
        }
    }

    fn set(&self, mutation: Mutation, completion: &mut Option<Completion>) -> Result<()> {
        let payload = record::encode(&mutation);
        let key = mutation.key();
        let hash = self.index.hash(key);
        let (found, mut shard) = self.find_and_lock(hash, key)?;
        let placed = self.append(&payload, Purpose::Grow, completion)?;
        let new = Location::new(placed.segment.slot(), placed.offset, false, placed.bytes);
        self.point(&mut shard, hash, found.record.map(|(old, _)| old.location), Some(new), placed.sequence);
        drop(shard);
        self.count(placed.bytes);
        Ok(())
    }

    fn remove(&self, key: Vec<u8>, completion: &mut Option<Completion>) -> Result<()> {
        let hash = self.index.hash(&key);
        let (found, mut shard) = self.find_and_lock(hash, &key)?;
        let Some((old, _)) = found.record else {
            drop(shard);
            // That there is nothing may be the work of a removal that is not durable yet.
            let completion = completion.take().expect("nobody answered yet");
            let waiting = Waiting { completion, result: Err(Error::KeyNotFound) };
            if let Some(waiting) = self.log.wait_for_sequence(found.removed_at, waiting) {
                waiting.answer();
            }
            return Ok(());
        };
        let payload = record::encode(&Mutation::Remove { key });
        let placed = self.append(&payload, Purpose::Shrink, completion)?;
        self.point(&mut shard, hash, Some(old.location), None, placed.sequence);
        drop(shard);
        self.count(placed.bytes);
        Ok(())
    }

    fn batch(&self, mutations: &[Mutation], completion: &mut Option<Completion>) -> Result<()> {
        if mutations.is_empty() {
            completion.take().expect("nobody answered yet").complete(Ok(Outcome::Done));
            return Ok(());
        }
        let elements: Vec<Vec<u8>> = mutations.iter().map(record::encode).collect();
        let payload = record::join_batch(&elements);
        let last = last_of_each_key(mutations);
        let hashes: Vec<KeyHash> = last.iter().map(|place| self.index.hash(mutations[*place].key())).collect();
        let keys: Vec<&[u8]> = last.iter().map(|place| mutations[*place].key()).collect();
        let (found, mut shards) = self.find_and_lock_all(&keys, &hashes)?;
        let shrinks = mutations.iter().all(|mutation| matches!(mutation, Mutation::Remove { .. }));
        let purpose = if shrinks { Purpose::Shrink } else { Purpose::Grow };
        let placed = self.append(&payload, purpose, completion)?;
        let sets = last.iter().filter(|place| matches!(mutations[**place], Mutation::Set { .. })).count();
        for ((place, hash), found) in last.iter().zip(&hashes).zip(found) {
            let shard = shards.binary_search_by_key(&hash.shard, |(shard, _)| *shard).expect("its shard was locked");
            let bytes = record::bytes_in_batch(elements[*place].len(), sets);
            let new = match mutations[*place] {
                Mutation::Set { .. } => Some(Location::new(placed.segment.slot(), placed.offset, true, bytes)),
                Mutation::Remove { .. } => None,
            };
            let old = found.record.map(|(old, _)| old.location);
            self.point(&mut shards[shard].1, *hash, old, new, placed.sequence);
        }
        drop(shards);
        self.count(placed.bytes);
        Ok(())
    }

    /// Looks a key up and locks its shard, with nothing changed in between.
    fn find_and_lock(&self, hash: KeyHash, key: &[u8]) -> Result<(Found, std::sync::MutexGuard<'_, Shard>)> {
        loop {
            let found = self.find(hash, key, Want::Place)?;
            let shard = self.index.lock(hash);
            if shard.has_candidates(hash, &found.candidates) {
                return Ok((found, shard));
            }
        }
    }

    /// Looks many keys up and locks all their shards, in ascending order, with nothing changed in between.
    #[expect(clippy::type_complexity, reason = "a list of guards with their numbers, used in one place")]
    fn find_and_lock_all(
        &self,
        keys: &[&[u8]],
        hashes: &[KeyHash],
    ) -> Result<(Vec<Found>, Vec<(usize, std::sync::MutexGuard<'_, Shard>)>)> {
        let mut numbers: Vec<usize> = hashes.iter().map(|hash| hash.shard).collect();
        numbers.sort_unstable();
        numbers.dedup();
        loop {
            let mut found = Vec::with_capacity(keys.len());
            for (key, hash) in keys.iter().zip(hashes) {
                found.push(self.find(*hash, key, Want::Place)?);
            }
            let shards: Vec<_> = numbers.iter().map(|number| (*number, self.index.lock_shard(*number))).collect();
            let unchanged = hashes.iter().zip(&found).all(|(hash, found)| {
                let place = shards.binary_search_by_key(&hash.shard, |(shard, _)| *shard).expect("it was locked");
                shards[place].1.has_candidates(*hash, &found.candidates)
            });
            if unchanged {
                return Ok((found, shards));
            }
        }
    }

    /// Appends a record whose answer is `Done`. On an error the completion is still there to be told.
    fn append(&self, payload: &[u8], purpose: Purpose, completion: &mut Option<Completion>) -> Result<Placed> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.log.append(payload, purpose, || Waiting {
            completion: completion.take().expect("nobody answered yet"),
            result: Ok(Outcome::Done),
        })
    }

    /// Points the index from a key's old record to its new one, and keeps the sums.
    fn point(&self, shard: &mut Shard, hash: KeyHash, old: Option<Location>, new: Option<Location>, sequence: u64) {
        if let Some(old) = old {
            let segment = self.log.segment(old.slot());
            segment.live_bytes.fetch_sub(old.charge_bytes(), Ordering::Relaxed);
            self.live_bytes.fetch_sub(old.charge_bytes(), Ordering::Relaxed);
        }
        if let Some(new) = new {
            let segment = self.log.segment(new.slot());
            segment.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
            self.live_bytes.fetch_add(new.charge_bytes(), Ordering::Relaxed);
        }
        match (old, new) {
            (Some(old), Some(new)) => {
                let replaced = shard.replace(hash, old, new);
                debug_assert!(replaced, "the candidates were compared under this lock");
            }
            (None, Some(new)) => shard.insert(hash, new),
            (Some(old), None) => {
                let removed = shard.remove(hash, old);
                debug_assert!(removed, "the candidates were compared under this lock");
            }
            (None, None) => {}
        }
        if new.is_none() {
            shard.removed_at = sequence;
        }
    }

    /// Counts an appended record and wakes the compaction when enough is dead.
    fn count(&self, bytes: u64) {
        let record_bytes = self.record_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let dead_bytes = record_bytes.saturating_sub(self.live_bytes.load(Ordering::Relaxed));
        self.compaction.hint(dead_bytes, record_bytes, &self.options);
    }

    /// Refuses further operations and ends the store's threads, which the caller joins.
    fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.compaction.stop();
        self.log.stop();
    }
}

/// The place of the last mutation of each key, in no order.
fn last_of_each_key(mutations: &[Mutation]) -> Vec<usize> {
    let last: HashMap<&[u8], usize> =
        mutations.iter().enumerate().map(|(place, mutation)| (mutation.key(), place)).collect();
    last.into_values().collect()
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

    fn execute(&self, operation: Operation) -> Result<Outcome> {
        let core = &self.handle.core;
        check(&operation, &core.options.limits)?;
        if core.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let waiter = Arc::new(Blocking::default());
        core.mutate(operation, Completion::new(Arc::clone(&waiter) as Arc<dyn Complete>, 0));
        if !waiter.is_answered() {
            core.log.lead();
        }
        waiter.wait()
    }

    fn stats(&self) -> Stats {
        let core = &self.handle.core;
        let segments = core.log.segments();
        let (keys, index_bytes) = core.index.size();
        let (appended_bytes, syncs) = core.log.counters();
        let sum = |bytes: fn(&crate::log::segment::Segment) -> u64| segments.iter().map(|one| bytes(one)).sum::<u64>();
        let live_bytes = sum(|segment| segment.live_bytes.load(Ordering::Relaxed));
        core.compaction.stats(Stats {
            keys,
            live_bytes,
            dead_bytes: sum(crate::log::segment::Segment::record_bytes).saturating_sub(live_bytes),
            disk_bytes: sum(crate::log::segment::Segment::disk_bytes),
            segments: segments.len() as u64,
            index_bytes,
            appended_bytes,
            syncs,
            torn_bytes: core.torn_bytes,
            read_only: core.log.is_read_only(),
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
        if threads.is_empty() {
            return Ok(());
        }
        self.core.stop();
        for thread in threads.drain(..) {
            // An answer may drop the last handle: then this is one of them, and ends when it returns.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
        // Last, because the seal must be the manifest's last change.
        self.core.log.seal_all()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store was not closed cleanly; it recovers when it is opened again");
        }
    }
}
