//! `Responses`: the answers of one connection, put in order. Where the engine's threads and the connection meet.
//!
//! What must hold:
//! * each request has one slot, opened in the order of the requests; answers leave in that order, whoever came first;
//! * the lock is held for a push or a pop, never while the engine, a socket or another lock is waited for;
//! * whoever fills the first slot, or ends a job, wakes the connection if it sleeps;
//! * values beyond a connection's allowance are held only as far as the bytes in flight of all connections allow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures::task::AtomicWaker;
use kvs_engine::{Complete, Completion, Error, Outcome};
use kvs_protocol::{ErrorCode, Verb, WireError};

use crate::budget::{Budget, too_many_bytes};
use crate::limits::{CONNECTION_ALLOWANCE_BYTES, MAX_HELD_READS, MAX_OUTPUT_BYTES};

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The engine answered.
    Engine(Result<Outcome, Error>),
    /// It was answered without the engine.
    Pong,
    /// It was not done.
    Refused(WireError),
}

impl Answered {
    /// Ours, not the client's.
    pub(crate) fn fault() -> Self {
        Self::Refused(WireError::new(ErrorCode::Internal, "a fault of the server; its log says more"))
    }
}

/// A request that a job has not done yet, with the token of its slot.
pub(crate) type Asked = (u64, Verb);

/// The answers of one connection.
pub(crate) struct Responses {
    budget: Arc<Budget>,
    /// Guards the slots and what a job hands back. Ranks last: nothing else is locked under it.
    state: Mutex<State>,
    /// Bytes of values in filled slots.
    held_bytes: AtomicUsize,
    /// Reads that the engine has and has not answered.
    held_reads: AtomicUsize,
    /// The server is ending: finish what was read, read no more.
    draining: AtomicBool,
    /// The connection, while it sleeps.
    sleeper: AtomicWaker,
}

#[derive(Default)]
struct State {
    /// The token of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// A job of this connection is with the pool.
    job: bool,
    /// What the last job left undone for want of room.
    undone: VecDeque<Asked>,
}

enum Slot {
    /// Not answered.
    Open {
        /// Whether the engine answers it with a value.
        is_read: bool,
    },
    /// Answered.
    Filled {
        answered: Answered,
        /// What its value has of the budget, in bytes.
        leased_bytes: usize,
    },
}

/// What a connection learns by one look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// The first answer is there.
    pub(crate) is_ready: bool,
    /// A job is with the pool.
    pub(crate) has_job: bool,
    /// The last job left something undone.
    pub(crate) has_undone: bool,
}

impl Responses {
    pub(crate) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            state: Mutex::default(),
            held_bytes: AtomicUsize::default(),
            held_reads: AtomicUsize::default(),
            draining: AtomicBool::default(),
            sleeper: AtomicWaker::default(),
        })
    }

    /// Opens the slot of the next request; gives its token.
    pub(crate) fn open(&self, verb: &Verb) -> u64 {
        self.push(Slot::Open { is_read: is_read(verb) })
    }

    /// Opens the slot of the next request with its answer.
    pub(crate) fn open_refused(&self, error: WireError) {
        self.push(Slot::Filled { answered: Answered::Refused(error), leased_bytes: 0 });
    }

    fn push(&self, slot: Slot) -> u64 {
        let mut state = self.lock();
        state.slots.push_back(slot);
        state.first + (state.slots.len() as u64 - 1)
    }

    /// The right to answer a request that the engine gets now.
    pub(crate) fn completion(self: &Arc<Self>, token: u64) -> Completion {
        Completion::new(Arc::clone(self) as Arc<dyn Complete>, token)
    }

    /// Takes note that the engine gets a read now.
    pub(crate) fn read_begins(&self) {
        self.held_reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers a request that the engine did not get.
    pub(crate) fn fill(&self, token: u64, answered: Answered) {
        self.put(token, answered, false);
    }

    /// Answers a request that the engine got.
    pub(crate) fn fill_submitted(&self, token: u64, answered: Answered) {
        self.put(token, answered, true);
    }

    /// Fills a slot that is open; a second answer changes nothing.
    fn put(&self, token: u64, answered: Answered, submitted: bool) {
        let mut state = self.lock();
        let Some(place) = state.place(token) else { return };
        let Some(&Slot::Open { is_read }) = state.slots.get(place) else { return };
        self.held_reads.fetch_sub(usize::from(submitted && is_read), Ordering::Relaxed);
        state.slots[place] = self.hold(answered);
        drop(state);
        if place == 0 {
            self.sleeper.wake();
        }
    }

    /// An answer in its slot. A value for which there is no room is given up: to read is easily done again.
    fn hold(&self, answered: Answered) -> Slot {
        let value_bytes = match &answered {
            Answered::Engine(result) => value_bytes(result),
            Answered::Pong | Answered::Refused(_) => 0,
        };
        // What is done must be answered as done, so nothing but a value is ever refused here.
        if value_bytes == 0 {
            return Slot::Filled { answered, leased_bytes: 0 };
        }
        let held_bytes = self.held_bytes.fetch_add(value_bytes, Ordering::Relaxed) + value_bytes;
        if held_bytes <= CONNECTION_ALLOWANCE_BYTES {
            return Slot::Filled { answered, leased_bytes: 0 };
        }
        if self.budget.take(value_bytes) {
            return Slot::Filled { answered, leased_bytes: value_bytes };
        }
        self.held_bytes.fetch_sub(value_bytes, Ordering::Relaxed);
        Slot::Filled { answered: Answered::Refused(too_many_bytes()), leased_bytes: 0 }
    }

    /// Takes the answers at the front, in order, until their values pass `max_bytes`.
    pub(crate) fn drain(&self, max_bytes: usize, answers: &mut Vec<Answered>) {
        let (mut taken_bytes, mut given_bytes) = (0, 0);
        let mut state = self.lock();
        while taken_bytes < max_bytes {
            match state.slots.pop_front() {
                Some(Slot::Filled { answered, leased_bytes }) => {
                    state.first += 1;
                    given_bytes += leased_bytes;
                    if let Answered::Engine(result) = &answered {
                        taken_bytes += value_bytes(result);
                    }
                    answers.push(answered);
                }
                Some(open @ Slot::Open { .. }) => {
                    state.slots.push_front(open);
                    break;
                }
                None => break,
            }
        }
        drop(state);
        self.held_bytes.fetch_sub(taken_bytes, Ordering::Relaxed);
        if given_bytes > 0 {
            self.budget.give(given_bytes);
        }
    }

    /// Whether the connection has room for what another request may answer.
    pub(crate) fn has_room(&self) -> bool {
        self.held_bytes() < MAX_OUTPUT_BYTES && self.held_reads.load(Ordering::Relaxed) < MAX_HELD_READS
    }

    /// Bytes of values that are answered and not yet taken.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Takes note that a job is on its way to the pool.
    pub(crate) fn job_begins(&self) {
        self.lock().job = true;
    }

    /// Takes back what a job left undone, and lets the next one begin.
    pub(crate) fn job_ends(&self, undone: VecDeque<Asked>) {
        let mut state = self.lock();
        state.job = false;
        state.undone = undone;
        drop(state);
        self.sleeper.wake();
    }

    /// Whether no job is with the pool; if so, puts what the last one left undone in front of `waiting`.
    pub(crate) fn take_undone(&self, waiting: &mut VecDeque<Asked>) -> bool {
        let mut state = self.lock();
        if state.job {
            return false;
        }
        if !state.undone.is_empty() {
            let mut undone = std::mem::take(&mut state.undone);
            undone.append(waiting);
            *waiting = undone;
        }
        true
    }

    /// What there is to do.
    pub(crate) fn look(&self) -> Look {
        let state = self.lock();
        Look {
            is_ready: matches!(state.slots.front(), Some(Slot::Filled { .. })),
            has_job: state.job,
            has_undone: !state.undone.is_empty(),
        }
    }

    /// Gives back memory that a burst of requests took.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        state.slots.shrink_to_fit();
        state.undone.shrink_to_fit();
    }

    /// Tells the connection that the server is ending.
    pub(crate) fn drain_connection(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.sleeper.wake();
    }

    /// Whether the server is ending.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// The connection is about to sleep: wake it from now on. It must look once more after this.
    pub(crate) fn sleeps(&self, waker: &Waker) {
        self.sleeper.register(waker);
    }

    /// The connection is awake: waking it would only cost a turn.
    pub(crate) fn is_awake(&self) {
        self.sleeper.take();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Responses {
    /// A connection can end before it has taken its answers.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let leased = state.slots.iter().map(|slot| match slot {
            Slot::Filled { leased_bytes, .. } => *leased_bytes,
            Slot::Open { .. } => 0,
        });
        self.budget.give(leased.sum());
    }
}

impl State {
    /// The place of a token's slot, if it was not taken yet.
    fn place(&self, token: u64) -> Option<usize> {
        usize::try_from(token.checked_sub(self.first)?).ok()
    }
}

/// Whether the engine answers with a value.
fn is_read(verb: &Verb) -> bool {
    match verb {
        Verb::Get { .. } | Verb::Exists { .. } => true,
        Verb::Ping | Verb::Set { .. } | Verb::Remove { .. } | Verb::Batch(_) => false,
    }
}

fn value_bytes(result: &Result<Outcome, Error>) -> usize {
    match result {
        Ok(Outcome::Value(Some(value))) => value.len(),
        Ok(Outcome::Value(None) | Outcome::Done) | Err(_) => 0,
    }
}

impl Complete for Responses {
    fn complete(&self, token: u64, result: Result<Outcome, Error>) {
        // A completion that a panic drops says that the store is closing, which is not what happened.
        let answered = if std::thread::panicking() { Answered::fault() } else { Answered::Engine(result) };
        self.fill_submitted(token, answered);
    }
}
