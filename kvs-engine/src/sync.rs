//! The locks, atomics and threads of the engine: the standard library's, or those of a model that tries schedules.
//!
//! Built with `--cfg shuttle`, every lock, atomic and wait is a point where a scheduler chooses who goes on, so that
//! `tests/schedules.rs` runs the same code in thousands of chosen orders and sees it when nobody can go on.
//!
//! What must hold: `kvs`, `log`, `completion` and `memory` take nothing of this kind from anywhere else. [`OnceLock`]
//! is the standard library's in the model too: the engine only sets and gets it, and neither ever waits. [`StdArc`] is
//! for what other libraries share.

#[cfg(shuttle)]
mod model;

pub(crate) use std::sync::{Arc as StdArc, OnceLock};

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic},
    thread, thread_local,
};

#[cfg(shuttle)]
pub(crate) use self::model::{Condvar, Mutex, MutexGuard};
#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Arc, PoisonError, atomic},
    thread, thread_local,
};
