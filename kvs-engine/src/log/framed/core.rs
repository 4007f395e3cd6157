//! What handles and threads of a [`FramedLog`](super::FramedLog) share.

use super::Entry;
use super::options::{LogOptions, ReadLimits};
use crate::error::{Error, Result};
use crate::log::coverage::{Coverage, Folder};
use crate::log::group;
use crate::log::lines::Lines;
use crate::log::manifest::Holds;
use crate::log::notices::{Listener, Notice, Notices, Slot};
use crate::log::places::Places;
use crate::log::segment::{self, Segment};
use crate::log::{Log, Purpose};
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What handles and threads share.
pub(super) struct Core {
    pub(super) log: Log<Notice>,
    /// Rank 3, below the tail's lock. No I/O under it.
    places: Arc<Mutex<Places>>,
    pub(super) notices: Arc<Notices>,
    payload_bytes: usize,
    pub(super) torn_bytes: u64,
    closed: AtomicBool,
    /// Keeps other processes out until the log is closed and dropped.
    _lock: Box<dyn Send + Sync>,
}

/// An entry that is not the next one: another program wrote here.
fn gap(storage: &dyn Storage, segment: &Segment, offset: u64, sequence: u64, expected: u64) -> Error {
    Error::Corruption {
        file: storage.path(&segment::name_of(segment.id)),
        offset,
        sequence,
        reason: format!("sequence {sequence} stands where {expected} should"),
    }
}

/// Refuses what would not be one line of the log.
fn check(payload: &[u8], limit_bytes: usize) -> Result<()> {
    if payload.len() > limit_bytes {
        return Err(Error::TooLarge { what: "payload", bytes: payload.len(), limit_bytes });
    }
    if payload.is_empty() {
        return Err(Error::NotALine { offset: 0, reason: "is missing" });
    }
    if group::announced(payload).is_some() {
        return Err(Error::NotALine { offset: 0, reason: "begins what the log itself writes to announce a group" });
    }
    // The text is not parsed, which would cost more than the append; what would break the frame is looked for.
    if let Some(offset) = payload.iter().position(|byte| *byte < b' ') {
        return Err(Error::NotALine { offset, reason: "is a control character" });
    }
    std::str::from_utf8(payload)
        .map(drop)
        .map_err(|error| Error::NotALine { offset: error.valid_up_to(), reason: "is not UTF-8" })
}

/// A thread's name and what it runs until the log closes.
type Job = (&'static str, fn(&Core));

pub(super) fn start_threads(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>> {
    let jobs: [Job; 2] = [("log-commit", Core::run_commits), ("log-segments", |core| core.log.run_segments())];
    let mut threads = Vec::with_capacity(jobs.len());
    for (name, job) in jobs {
        let shared = Arc::clone(core);
        match thread::Builder::new().name(name.to_owned()).spawn(move || job(&shared)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                core.stop();
                return Err(Error::io("starting a thread of the log", error));
            }
        }
    }
    Ok(threads)
}

/// Answers whoever waits for a change, at the latest when it is dropped.
struct Answer(Option<Arc<Slot<()>>>);

impl Answer {
    fn put(mut self, result: Result<()>) {
        if let Some(slot) = self.0.take() {
            slot.put(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.put(Err(Error::Closed));
        }
    }
}

impl Core {
    /// Opens the log and finds out where its entries are.
    pub(super) fn open(storage: Arc<dyn Storage>, options: &LogOptions) -> Result<Self> {
        let log_options = options.checked()?;
        let folder = storage.path("");
        let lock = storage
            .lock()
            .map_err(|error| Error::io(format!("locking {}", folder.display()), error))?
            .ok_or(Error::Locked { folder })?;
        let folder = Folder::read_as(storage.as_ref(), Holds::Entries)?;
        let mut places: Option<Places> = None;
        let (log, recovered) = Log::open(
            Arc::clone(&storage),
            log_options,
            folder,
            &Coverage::default(),
            &mut |segment, offset, line| {
                let places = places.get_or_insert_with(|| Places::new(line.sequence));
                if line.sequence != places.next_sequence() {
                    return Err(gap(storage.as_ref(), segment, offset, line.sequence, places.next_sequence()));
                }
                places.note(segment, offset, line.sequence);
                Ok(())
            },
        )?;
        let mut places = places.unwrap_or_else(|| Places::new(log.appended_sequence() + 1));
        places.rebind(&log.segments());
        Ok(Self {
            log,
            places: Arc::new(Mutex::new(places)),
            notices: Notices::new(),
            payload_bytes: options.payload_bytes,
            torn_bytes: recovered.torn_bytes,
            closed: AtomicBool::new(false),
            _lock: lock,
        })
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, payload: &[u8], listener: Listener) -> Result<u64> {
        check(payload, self.payload_bytes)?;
        let placed = self.log.append(payload, Purpose::Grow, |placed| {
            self.places().note(&placed.segment, placed.offset, placed.sequence);
            Notice::new(&self.notices, placed.sequence, listener)
        })?;
        Ok(placed.sequence)
    }

    pub(super) fn watch(&self, sequence: u64, listener: Listener) -> Result<()> {
        let watch = self.notices.watch(sequence, listener)?;
        // Under the tail's lock, through which a group's leader goes between settling and telling.
        let settled_sequence = self.log.settled_sequence_now();
        if sequence <= settled_sequence {
            self.notices.tell_one(watch);
        }
        Ok(())
    }

    pub(super) fn read(&self, from: u64, limits: ReadLimits, only_durable: bool) -> Result<Vec<Entry>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        // The last sequence that is shown, and the state of the log that all entries are of.
        let mut seen = None;
        loop {
            let (start, through) = {
                let places = self.places();
                let (through, moves) = *seen.get_or_insert_with(|| {
                    let appended = places.next_sequence() - 1;
                    let through = if only_durable { self.log.settled_sequence() } else { appended };
                    (through, places.moves())
                });
                if next > through || places.moves() != moves {
                    return Ok(entries);
                }
                match places.locate(next) {
                    Some(start) => (start, through),
                    None if entries.is_empty() => {
                        let (first, next) = (places.first_sequence(), places.next_sequence());
                        return Err(Error::NotInLog { sequence: from, first, next });
                    }
                    // Purged meanwhile.
                    None => return Ok(entries),
                }
            };
            let mut lines = Lines::new(&self.log, start.segment, start.mark);
            while lines.position().sequence <= through.min(start.last) {
                let line = lines.next()?;
                if line.mark.sequence < next {
                    continue;
                }
                let payload = line.payload();
                bytes += payload.len();
                if !entries.is_empty() && (entries.len() >= limits.records || bytes > limits.bytes) {
                    return Ok(entries);
                }
                entries.push(Entry { sequence: next, payload: payload.to_vec() });
                next += 1;
            }
        }
    }

    /// Has the thread that owns the list of segments change it, and waits for that.
    pub(super) fn change(
        &self,
        job: impl FnOnce(&Log<Notice>, &Mutex<Places>, &Notices) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let slot = Slot::new();
        let answer = Answer(Some(Arc::clone(&slot)));
        let (places, notices) = (Arc::clone(&self.places), Arc::clone(&self.notices));
        self.log.post(Box::new(move |log| answer.put(job(log, &places, &notices))))?;
        slot.wait().map_err(|error| match error {
            Error::Closed => self.log.poisoned().unwrap_or(Error::Closed),
            error => error,
        })
    }

    fn run_commits(&self) {
        self.log.run_commits();
        if let Some(error) = self.log.poisoned() {
            self.notices.end(&error);
        }
    }

    /// Refuses further calls and ends the log's threads, which the caller joins.
    pub(super) fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.log.stop();
    }
}
