//! `FramedLog`, the log on its own: the handle that programs hold.
//!
//! What must hold: sequences ascend by one in the order of appending, from 1 or from where the log was purged; a call
//! that says that an entry is durable comes after its sync; what was truncated or purged never comes back.

mod core;
pub(super) mod options;

use std::path::Path;

use self::core::{Core, start_threads};
use super::notices::{Listener, Slot};
use crate::error::{Error, Result};
use crate::storage::{RealStorage, Storage};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, PoisonError};
use options::{LogOptions, LogStats, ReadLimits};

/// A durable, checksummed log of JSON texts: a handle that is cheap to clone. The last one that is dropped closes it.
///
/// It is the log under [`KvStore`](crate::KvStore), with the same files, recovery and group commit, for programs that
/// keep something else than keys: the log of a consensus protocol, above all. Each entry has a sequence, one more than
/// the entry before it.
///
/// ```
/// use kvs_engine::log::{FramedLog, LogOptions, ReadLimits};
///
/// let folder = tempfile::tempdir()?;
/// let log = FramedLog::open(folder.path(), LogOptions::default())?;
/// assert_eq!(log.append(br#"{"term":1,"set":"a"}"#)?, 1); // Durable when it returns.
/// log.submit(br#"{"term":1,"set":"b"}"#, |durable| assert_eq!(durable.unwrap(), 2))?; // Returns at once.
/// log.submit(br#"{"term":1,"set":"c"}"#, |_| {})?;
/// log.wait_durable(3)?;
///
/// log.truncate_after(1)?; // A new leader has other entries from 2 on.
/// assert_eq!(log.append(br#"{"term":2,"set":"x"}"#)?, 2);
/// drop(log);
///
/// let log = FramedLog::open(folder.path(), LogOptions::default())?;
/// let entries = log.read(1, ReadLimits::default())?;
/// assert_eq!(entries.len(), 2);
/// assert_eq!(entries[1].payload, br#"{"term":2,"set":"x"}"#);
///
/// log.purge_before(3)?; // A snapshot holds everything up to 2.
/// assert_eq!((log.first_sequence(), log.last_sequence()), (3, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FramedLog {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for FramedLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FramedLog").finish_non_exhaustive()
    }
}

/// One entry, as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub sequence: u64,
    /// JSON text.
    pub payload: Vec<u8>,
}

/// Owns the log's threads.
struct Handle {
    core: Arc<Core>,
    /// Emptied by whoever closes the log, so that it is closed once. Held while it is closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl FramedLog {
    /// Opens the log of a folder, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Corruption`] when an entry that was durable is damaged,
    /// [`Error::WrongFolder`] when it belongs to something else, and I/O errors.
    pub fn open(folder: impl AsRef<Path>, options: LogOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let storage = RealStorage::create(folder)
            .map_err(|error| Error::io(format!("creating the folder {}", folder.display()), error))?;
        Self::open_storage(Arc::new(storage), options)
    }

    /// Opens the log of a [`Storage`], such as one that fails on purpose.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_storage(storage: Arc<dyn Storage>, options: LogOptions) -> Result<Self> {
        let core = Arc::new(Core::open(storage, &options)?);
        let threads = start_threads(&core)?;
        Ok(Self { handle: Arc::new(Handle { core, threads: Mutex::new(threads) }) })
    }

    /// Appends an entry and returns its sequence when it is durable. Who calls it at the same time shares one sync.
    ///
    /// # Errors
    /// [`Error::NotALine`], [`Error::TooLarge`], [`Error::NoSpace`] and [`Error::Closed`]: it was not appended.
    /// [`Error::Poisoned`]: it is not known whether it will be there when the log is opened again.
    pub fn append(&self, payload: &[u8]) -> Result<u64> {
        let slot = Slot::new();
        let core = &self.handle.core;
        core.append(payload, Listener::Thread(Arc::clone(&slot)))?;
        if !slot.is_answered() {
            core.log.lead();
        }
        slot.wait()
    }

    /// Appends an entry, returns its sequence at once, and calls `durable` with it when it is durable, or with why it
    /// never will be. The call comes once, after those of the entries before it that were durable earlier, on the
    /// thread that made it durable or the one that closes the log: it must not block and must not call the log.
    ///
    /// # Errors
    /// As [`append`](Self::append). `durable` is not called then.
    pub fn submit(&self, payload: &[u8], durable: impl FnOnce(Result<u64>) + Send + 'static) -> Result<u64> {
        let core = &self.handle.core;
        let sequence = core.append(payload, Listener::Function(Box::new(durable)))?;
        core.log.kick();
        Ok(sequence)
    }

    /// Appends an entry, returns its sequence at once, and tells nobody: for all but the last of several entries. It is
    /// durable when a later one is, and made so no later than by the next call that waits.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn enqueue(&self, payload: &[u8]) -> Result<u64> {
        self.handle.core.append(payload, Listener::Nobody)
    }

    /// Calls `durable` with the sequence as soon as an entry with that sequence is durable, which may be one that is
    /// not appended yet, or with why none will be. The call comes once, as that of [`submit`](Self::submit).
    ///
    /// # Errors
    /// [`Error::TooLarge`] when 100,000 calls wait already, [`Error::Poisoned`] and [`Error::Closed`]; `durable` is not
    /// called then.
    pub fn when_durable(&self, sequence: u64, durable: impl FnOnce(Result<u64>) + Send + 'static) -> Result<()> {
        let core = &self.handle.core;
        core.watch(sequence, Listener::Function(Box::new(durable)))?;
        core.log.kick();
        Ok(())
    }

    /// Blocks until an entry with this sequence is durable. It may be one that is not appended yet.
    ///
    /// # Errors
    /// As [`when_durable`](Self::when_durable).
    pub fn wait_durable(&self, sequence: u64) -> Result<()> {
        let slot = Slot::new();
        let core = &self.handle.core;
        core.watch(sequence, Listener::Thread(Arc::clone(&slot)))?;
        if !slot.is_answered() {
            core.log.lead();
        }
        slot.wait().map(drop)
    }

    /// Makes every entry that was appended before this call durable, whatever the sync policy.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn flush(&self) -> Result<()> {
        self.handle.core.log.flush()
    }

    /// Reads entries from a sequence on that are durable; none when there is none yet.
    ///
    /// Checksum and sequence of each are verified, every time. All are of one state of the log, even if it is truncated
    /// meanwhile; there may be fewer of them than the limits allow and the log has.
    ///
    /// # Errors
    /// [`Error::NotInLog`] when `from` is below the first sequence, [`Error::Corruption`], and I/O errors.
    pub fn read(&self, from: u64, limits: ReadLimits) -> Result<Vec<Entry>> {
        self.handle.core.read(from, limits, true)
    }

    /// Reads as [`read`](Self::read) does, and entries that are appended and not durable yet as well: for who appended
    /// them. A crash may still take those away, so whoever passes them on must say so, as the leader of a consensus
    /// protocol does by counting itself only once [`durable_sequence`](Self::durable_sequence) has come that far.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Poisoned`] for entries that never reached a file.
    pub fn read_appended(&self, from: u64, limits: ReadLimits) -> Result<Vec<Entry>> {
        self.handle.core.read(from, limits, false)
    }

    /// Takes away every entry behind `after`, and returns when that is durable: none of them is there at the next
    /// opening, whatever happens. The next entry has the sequence `after + 1`. Nothing happens when `after` is the last
    /// sequence or beyond.
    ///
    /// Appends wait meanwhile. Entries that are not durable yet are made so first, and whoever waits for them hears of
    /// that before this returns, so the caller must hold no lock that such a call takes. A read that is under way shows
    /// the log as it was. It costs a copy of what stays of the segment that is cut.
    ///
    /// # Errors
    /// [`Error::NotInLog`] when `after` is more than one below the first sequence, [`Error::NoSpace`],
    /// [`Error::Corruption`], [`Error::Closed`] and I/O errors: the log is as it was. [`Error::Poisoned`]: at the next
    /// opening, all of them are there or none.
    pub fn truncate_after(&self, after: u64) -> Result<()> {
        self.handle.core.change(move |log, places, notices| log.truncate(places, notices, after))
    }

    /// Gives the space of entries below `before` back, as far as they fill whole sealed segments; the others stay and
    /// can be read. Returns when that is durable. When `before` is above the last sequence, everything goes, and the
    /// next entry has the sequence `before`: how a log begins behind a snapshot that came from elsewhere.
    ///
    /// # Errors
    /// [`Error::NoSpace`] (there is hardly a disk too full for this), [`Error::Closed`] and I/O errors: the log is as
    /// it was. [`Error::Poisoned`]: at the next opening, all of them are there or none.
    pub fn purge_before(&self, before: u64) -> Result<()> {
        self.handle.core.change(move |log, places, notices| log.purge(places, notices, before))
    }

    /// The lowest sequence that can be read; that of the next entry when there is none.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.handle.core.places().first_sequence()
    }

    /// The highest sequence that was appended; one less than the first when there is no entry.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.handle.core.places().next_sequence() - 1
    }

    /// Every entry up to this sequence is durable under the sync policy.
    #[must_use]
    pub fn durable_sequence(&self) -> u64 {
        self.handle.core.log.settled_sequence()
    }

    /// Figures of this moment.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let core = &self.handle.core;
        let segments = core.log.segments();
        let (appended_bytes, syncs) = core.log.counters();
        LogStats {
            disk_bytes: segments.iter().map(|segment| segment.disk_bytes()).sum(),
            segments: segments.len() as u64,
            appended_bytes,
            syncs,
            torn_bytes: core.torn_bytes,
            read_only: core.log.is_read_only(),
        }
    }

    /// Why nothing is acknowledged any more, if so.
    #[must_use]
    pub fn fatal(&self) -> Option<Error> {
        self.handle.core.log.poisoned()
    }

    /// Makes everything durable, seals the log, and refuses whatever comes later. Closing twice is no error.
    ///
    /// # Errors
    /// [`Error::Poisoned`], or what failed while sealing; the log opens as after a crash then.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
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
            // A call may drop the last handle: then this is one of them, and ends when it returns.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the log had panicked");
            }
        }
        // Last, because the seal must be the manifest's last change.
        let sealed = self.core.log.seal_all();
        self.core.notices.end(&sealed.clone().err().unwrap_or(Error::Closed));
        sealed
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log was not closed cleanly; it recovers when it is opened again");
        }
    }
}
