//! Word of durable entries: to who appended them, and to who waits for a sequence.
//!
//! What must hold: every call is made exactly once; one that can't be kept answers [`Error::Closed`] or why the log is
//! poisoned; nobody is called under a lock.

use super::Waiter;
use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The most calls that wait for sequences at the same time: each takes memory until its sequence is there.
pub(super) const MAX_WATCHES: usize = 100_000;

/// One answer, and the thread that waits for it.
pub(super) struct Slot<T> {
    answer: Mutex<Option<Result<T>>>,
    arrived: Condvar,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(None), arrived: Condvar::new() })
    }

    pub(super) fn put(&self, result: Result<T>) {
        *locked(&self.answer) = Some(result);
        self.arrived.notify_one();
    }

    pub(super) fn is_answered(&self) -> bool {
        locked(&self.answer).is_some()
    }

    /// Blocks until the answer is there, and takes it.
    pub(super) fn wait(&self) -> Result<T> {
        let mut answer = locked(&self.answer);
        loop {
            if let Some(result) = answer.take() {
                return result;
            }
            answer = self.arrived.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who is told.
pub(super) enum Listener {
    Nobody,
    Function(Box<dyn FnOnce(Result<u64>) + Send>),
    Thread(Arc<Slot<u64>>),
}

impl Listener {
    fn tell(self, result: Result<u64>) {
        match self {
            Self::Nobody => {}
            Self::Function(function) => function(result),
            Self::Thread(slot) => slot.put(result),
        }
    }
}

/// What the log tells when an entry is durable.
pub(super) struct Notice {
    sequence: u64,
    /// `None` once told.
    listener: Option<Listener>,
    untold: Untold,
}

/// Counts a notice until it is told and dropped, also when who is told panics.
struct Untold(Arc<Notices>);

impl Drop for Untold {
    fn drop(&mut self) {
        let last = self.0.untold.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.0.quiet_wanted.load(Ordering::SeqCst) > 0 {
            drop(locked(&self.0.watches));
            self.0.quiet.notify_all();
        }
    }
}

impl Notice {
    /// A notice of an entry that is being appended.
    pub(super) fn new(notices: &Arc<Notices>, sequence: u64, listener: Listener) -> Self {
        notices.untold.fetch_add(1, Ordering::SeqCst);
        Self { sequence, listener: Some(listener), untold: Untold(Arc::clone(notices)) }
    }

    fn tell(&mut self, result: &Result<()>) {
        if let Some(listener) = self.listener.take() {
            listener.tell(result.clone().map(|()| self.sequence));
            self.untold.0.settled(self.sequence, result);
        }
    }
}

impl Waiter for Notice {
    fn settled(mut self, result: Result<()>) {
        self.tell(&result);
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.tell(&Err(Error::Closed));
    }
}

/// Somebody who waits for a sequence.
struct Watch {
    number: u64,
    sequence: u64,
    listener: Listener,
}

/// Who waits for sequences, and how many entries nobody was told of yet.
pub(super) struct Notices {
    /// Notices that are not told yet.
    untold: AtomicU64,
    /// How many wait until there are none.
    quiet_wanted: AtomicUsize,
    quiet: Condvar,
    /// How many watches there are, so that a notice need not look when there is none.
    count: AtomicUsize,
    /// Rank 4, the last: nothing is called or locked under it.
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    waiting: Vec<Watch>,
    /// How many there ever were.
    made: u64,
    /// What everybody is told from now on.
    ended: Option<Error>,
}

impl Notices {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            untold: AtomicU64::new(0),
            quiet_wanted: AtomicUsize::new(0),
            quiet: Condvar::new(),
            count: AtomicUsize::new(0),
            watches: Mutex::new(Watches::default()),
        })
    }

    /// Registers who waits for a sequence; returns the watch's number. The caller must look at the log afterwards, under
    /// the tail's lock, and call [`tell_one`](Self::tell_one) if the sequence is durable already: its notice may have
    /// been told before.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when too many wait, and how the log ended.
    pub(super) fn watch(&self, sequence: u64, listener: Listener) -> Result<u64> {
        let mut watches = locked(&self.watches);
        if let Some(error) = &watches.ended {
            return Err(error.clone());
        }
        let watched = watches.waiting.len();
        if watched >= MAX_WATCHES {
            return Err(Error::TooLarge { what: "waiting calls", bytes: watched + 1, limit_bytes: MAX_WATCHES });
        }
        watches.made += 1;
        let number = watches.made;
        watches.waiting.push(Watch { number, sequence, listener });
        self.count.store(watches.waiting.len(), Ordering::SeqCst);
        Ok(number)
    }

    /// Tells one watch that its sequence is durable, unless it was told already.
    pub(super) fn tell_one(&self, number: u64) {
        self.tell_where(|watch| watch.number == number, &Ok(()));
    }

    /// Tells those who wait for a sequence up to this one.
    pub(super) fn settled(&self, sequence: u64, result: &Result<()>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.tell_where(|watch| result.is_err() || watch.sequence <= sequence, result);
    }

    fn tell_where(&self, is_told: impl Fn(&Watch) -> bool, result: &Result<()>) {
        let mut watches = locked(&self.watches);
        let told: Vec<_> = watches.waiting.extract_if(.., |watch| is_told(watch)).collect();
        self.count.store(watches.waiting.len(), Ordering::SeqCst);
        drop(watches);
        for watch in told {
            watch.listener.tell(result.clone().map(|()| watch.sequence));
        }
    }

    /// Tells everybody who waits that the log has ended, and everybody who comes later.
    pub(super) fn end(&self, error: &Error) {
        locked(&self.watches).ended.get_or_insert_with(|| error.clone());
        self.settled(0, &Err(error.clone()));
    }

    /// Waits until everybody was told of every entry so far. Only while nothing is appended, and after a flush.
    pub(super) fn wait_until_quiet(&self) {
        self.quiet_wanted.fetch_add(1, Ordering::SeqCst);
        let mut watches = locked(&self.watches);
        while self.untold.load(Ordering::SeqCst) > 0 {
            watches = self.quiet.wait(watches).unwrap_or_else(PoisonError::into_inner);
        }
        drop(watches);
        self.quiet_wanted.fetch_sub(1, Ordering::SeqCst);
    }
}
