//! A mutex and a condition variable without a clock, for the model that tries schedules.
//!
//! What must hold: a short wait ends by time whenever the scheduler likes, because it polls; a long one never does. The
//! engine's long waits only mend what should not happen, such as a wake-up that got lost: so the model reports the loss
//! as a deadlock instead of waiting it out.

use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

use shuttle::{sync, thread};

/// The longest wait that is a poll.
const LONGEST_POLL: Duration = Duration::from_millis(100);

/// The model's mutex; its guard knows it, so that a wait can let go of it and take it again.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// Holds a [`Mutex`].
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: sync::MutexGuard<'a, T>,
    mutex: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.guarded(self.0.lock())
    }

    fn guarded<'a>(&'a self, locked: LockResult<sync::MutexGuard<'a, T>>) -> LockResult<MutexGuard<'a, T>> {
        match locked {
            Ok(guard) => Ok(MutexGuard { guard, mutex: self }),
            Err(error) => Err(PoisonError::new(MutexGuard { guard: error.into_inner(), mutex: self })),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// The model's condition variable.
#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

/// Whether a wait ended by time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

/// What a wait with a limit returns.
type Timed<'a, T> = LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<'a, T>(&self, held: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { guard, mutex } = held;
        mutex.guarded(self.0.wait(guard))
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        mut held: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut held) {
            held = self.wait(held)?;
        }
        Ok(held)
    }

    pub(crate) fn wait_timeout<'a, T>(&self, held: MutexGuard<'a, T>, limit: Duration) -> Timed<'a, T> {
        let polls = limit <= LONGEST_POLL;
        let waited = if polls { poll(held) } else { self.wait(held) };
        timed(waited, polls)
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut held: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Timed<'a, T> {
        if limit > LONGEST_POLL {
            return timed(self.wait_while(held, condition), false);
        }
        let mut held = match condition(&mut held) {
            true => poll(held),
            false => Ok(held),
        };
        let timed_out = held.as_mut().is_ok_and(|held| condition(held));
        timed(held, timed_out)
    }
}

/// Lets others go on, then takes the mutex again: time is up.
fn poll<T>(held: MutexGuard<'_, T>) -> LockResult<MutexGuard<'_, T>> {
    let mutex = held.mutex;
    drop(held);
    thread::yield_now();
    mutex.lock()
}

fn timed<'a, T>(waited: LockResult<MutexGuard<'a, T>>, timed_out: bool) -> Timed<'a, T> {
    match waited {
        Ok(held) => Ok((held, WaitTimeoutResult(timed_out))),
        Err(error) => Err(PoisonError::new((error.into_inner(), WaitTimeoutResult(timed_out)))),
    }
}
