//! What all pools share: counting jobs, catching their panics, and waiting until none is left.
//!
//! What must hold: a job that was admitted is counted as accepted until it has ended or was revoked; once the pool is
//! closed, the end of the last job wakes whoever waits. Counting costs no lock, because with `inline` it stands on the
//! way of every request.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::{Busy, PoolFigures, PoolObserver};

thread_local! {
    /// The pool whose job this thread is running, as the address of its [`Running`]; 0 outside a job.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// When the job that this thread is running was admitted, and when it began.
    static TIMES: Cell<Option<(Instant, Instant)>> = const { Cell::new(None) };
}

/// When the job that this thread is running was admitted to its pool, and when it began; `None` outside a job.
pub(crate) fn job_times() -> Option<(Instant, Instant)> {
    TIMES.get()
}

/// The jobs of one pool.
pub(super) struct Running {
    /// Jobs that wait or run.
    accepted: AtomicUsize,
    /// Jobs that wait.
    queued: AtomicUsize,
    closed: AtomicBool,
    /// Guards nothing but the moment between looking at `accepted` and waiting on `idle`.
    waiting: Mutex<()>,
    /// The last job of a closed pool has ended.
    idle: Condvar,
    limits: Limits,
    observer: Arc<dyn PoolObserver>,
}

/// How many jobs a pool takes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The most jobs that wait.
    pub(super) queued: usize,
    /// The most jobs that wait or run.
    pub(super) accepted: usize,
}

impl Running {
    pub(super) fn new(limits: Limits, observer: Arc<dyn PoolObserver>) -> Arc<Self> {
        Arc::new(Self {
            accepted: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            waiting: Mutex::new(()),
            idle: Condvar::new(),
            limits,
            observer,
        })
    }

    /// Takes room for one job, which must then be run by [`run`](Self::run) or given up by [`revoke`](Self::revoke).
    pub(super) fn admit(&self) -> Result<Instant, Busy> {
        // Counted first and looked at afterwards: a pool that closes meanwhile sees this job, or this sees it closed.
        let accepted = self.accepted.fetch_add(1, Ordering::SeqCst);
        let queued = self.queued.fetch_add(1, Ordering::SeqCst);
        if accepted >= self.limits.accepted || queued >= self.limits.queued || self.closed.load(Ordering::SeqCst) {
            return Err(self.revoke());
        }
        Ok(Instant::now())
    }

    /// Gives back the room of a job that can't be run after all.
    pub(super) fn revoke(&self) -> Busy {
        self.queued.fetch_sub(1, Ordering::SeqCst);
        self.forget();
        self.observer.rejected();
        Busy
    }

    /// Runs a job that was admitted, and survives its panic.
    pub(super) fn run(&self, admitted: Instant, job: impl FnOnce()) {
        self.queued.fetch_sub(1, Ordering::SeqCst);
        let began = Instant::now();
        self.observer.began(began.duration_since(admitted));
        let outer = CURRENT.replace(std::ptr::from_ref(self).addr());
        let outer_times = TIMES.replace(Some((admitted, began)));
        // The job owns all that it touches; what it shares with others is behind locks that outlive a panic.
        let outcome = catch_unwind(AssertUnwindSafe(job));
        CURRENT.set(outer);
        TIMES.set(outer_times);
        self.observer.ended(began.elapsed(), outcome.is_err());
        self.forget();
    }

    /// Refuses further jobs and waits until those that were admitted have ended; `false` when a job of this pool asks,
    /// for which nothing may wait.
    pub(super) fn close_and_wait(&self) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        if CURRENT.get() == std::ptr::from_ref(self).addr() {
            return false;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while self.accepted.load(Ordering::SeqCst) > 0 {
            waiting = self.idle.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// What is going on, for a pool of so many threads, or of one for each running job.
    pub(super) fn figures(&self, workers: Option<usize>) -> PoolFigures {
        let queued = self.queued.load(Ordering::SeqCst);
        let busy = self.accepted.load(Ordering::SeqCst).saturating_sub(queued);
        PoolFigures {
            queued_jobs: queued,
            queue_capacity_jobs: self.limits.queued,
            busy_workers: busy,
            workers: workers.unwrap_or(busy),
        }
    }

    fn forget(&self) {
        let last = self.accepted.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.closed.load(Ordering::SeqCst) {
            // Through the lock, so that the word can't fall between a waiter's look and its wait.
            drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            self.idle.notify_all();
        }
    }
}
