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
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use kvs_engine::{Complete, Completion, Error, Outcome};
use kvs_protocol::{Verb, WireError};

use crate::answered::Answered;
use crate::budget::{Budget, too_many_bytes};
use crate::limits::{CONNECTION_ALLOWANCE_BYTES, MAX_HELD_READS};
use crate::operation::OperationName;
use crate::slowlog::Parts;
use crate::slowlog::disk_times::{self, Group};
use crate::wakes;

/// A request that a job has not done yet, with the token of its slot.
pub(crate) type Asked = (u64, Verb);

/// When a job began and ended: for the slow log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobTimes {
    /// The first and the last request that it did, or is to do.
    pub(crate) tokens: (u64, u64),
    pub(crate) began: Instant,
    /// All its requests were with the engine, or answered.
    pub(crate) ended: Instant,
    /// Whether waiting and running took long enough to be noted.
    pub(crate) is_long: bool,
}

impl JobTimes {
    /// Shorter times, waiting included, are not worth a note: a slow request takes far longer.
    pub(crate) const NOTED: Duration = Duration::from_millis(1);
}

/// The answers of one connection.
pub(crate) struct Responses {
    budget: Arc<Budget>,
    /// Beyond so many bytes of values, requests wait.
    output_bytes: usize,
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
    /// The first request of the job of this connection that is with the pool.
    job: Option<u64>,
    /// What the last job left undone for want of room.
    undone: VecDeque<Asked>,
    /// The pool had no place for the last job.
    was_refused: bool,
    /// The job before the next one had no place in the pool, or its answers no room, so what the next one does has waited.
    has_waited: bool,
    /// Jobs that took long and whose answers were not all taken yet, in order; no more of them than slots.
    long_jobs: VecDeque<JobTimes>,
    /// Groups of the log with the first and the last request that each answered and that was not taken yet, in order; as
    /// many at most.
    groups: VecDeque<(u64, u64, Group)>,
}

/// Slots of requests that were just decoded: a batch of them is handed over under one lock.
#[derive(Default)]
pub(crate) struct Opening {
    slots: Vec<Slot>,
    /// The token of the next slot. Tokens count the slots of the connection.
    next: u64,
}

impl Opening {
    /// Opens the slot of the next request; gives its token.
    pub(crate) fn open(&mut self, verb: &Verb) -> u64 {
        self.push(Slot::Open { is_read: is_read(verb), must_keep: OperationName::of(verb).changes_what_it_reads() })
    }

    /// Opens the slot of the next request with its answer.
    pub(crate) fn open_refused(&mut self, error: WireError) {
        self.push(Slot::Filled { answered: Answered::Refused(error), leased_bytes: 0 });
    }

    /// The token of the next slot.
    pub(crate) fn next_token(&self) -> u64 {
        self.next
    }

    fn push(&mut self, slot: Slot) -> u64 {
        self.slots.push(slot);
        self.next += 1;
        self.next - 1
    }

    /// Gives back memory that a burst of requests took.
    pub(crate) fn trim(&mut self) {
        self.slots.shrink_to_fit();
    }
}

enum Slot {
    /// Not answered.
    Open {
        /// Whether the engine answers it with a value.
        is_read: bool,
        /// Whether that value may be gone from the store when it is answered, so that it must not be given up.
        must_keep: bool,
    },
    /// Answered.
    Filled {
        answered: Answered,
        /// What its value has of the budget, in bytes.
        leased_bytes: usize,
    },
}

/// What the last job of a connection left behind.
pub(crate) struct Left {
    /// An empty queue that has memory already.
    pub(crate) spare: VecDeque<Asked>,
    /// The pool had no place for the job.
    pub(crate) was_refused: bool,
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
    /// The pool had no place for the last job.
    pub(crate) was_refused: bool,
}

impl Responses {
    pub(crate) fn new(budget: Arc<Budget>, output_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            budget,
            output_bytes,
            state: Mutex::default(),
            held_bytes: AtomicUsize::default(),
            held_reads: AtomicUsize::default(),
            draining: AtomicBool::default(),
            sleeper: AtomicWaker::default(),
        })
    }

    /// Takes over slots that were opened beside, in their order.
    pub(crate) fn open_all(&self, opening: &mut Opening) {
        if !opening.slots.is_empty() {
            self.lock().slots.extend(opening.slots.drain(..));
        }
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
        let Some(&Slot::Open { is_read, must_keep }) = state.slots.get(place) else { return };
        self.held_reads.fetch_sub(usize::from(submitted && is_read), Ordering::Relaxed);
        state.slots[place] = self.hold(answered, must_keep);
        if let Some(group) = disk_times::group().filter(|_| submitted) {
            state.note_group(token, group);
        }
        drop(state);
        if place == 0
            && let Some(waker) = self.sleeper.take()
        {
            wakes::wake(waker);
        }
    }

    /// An answer in its slot. A value for which there is no room is given up: to read is easily done again.
    fn hold(&self, answered: Answered, must_keep: bool) -> Slot {
        let value_bytes = answered.value_bytes();
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
        if must_keep {
            return Slot::Filled { answered, leased_bytes: 0 };
        }
        self.held_bytes.fetch_sub(value_bytes, Ordering::Relaxed);
        Slot::Filled { answered: Answered::Refused(too_many_bytes()), leased_bytes: 0 }
    }

    /// Takes the answers at the front, in order, until their values pass `max_bytes`.
    pub(crate) fn drain(&self, max_bytes: usize, answers: &mut Vec<Answered>) {
        let (mut taken_bytes, mut given_bytes) = (0, 0);
        let mut state = self.lock();
        state.forget_times();
        while taken_bytes < max_bytes {
            match state.slots.pop_front() {
                Some(Slot::Filled { answered, leased_bytes }) => {
                    state.first += 1;
                    given_bytes += leased_bytes;
                    taken_bytes += answered.value_bytes();
                    let is_stream = matches!(answered, Answered::Stream(_));
                    answers.push(answered);
                    // What is behind it waits for its end.
                    if is_stream {
                        break;
                    }
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
        self.held_bytes() < self.output_bytes && self.held_reads.load(Ordering::Relaxed) < MAX_HELD_READS
    }

    /// Bytes of values that are answered and not yet taken.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Takes note that a job is on its way to the pool which begins with this request; returns whether its requests have
    /// waited for a place or for room.
    pub(crate) fn job_begins(&self, first: u64) -> bool {
        let mut state = self.lock();
        state.job = Some(first);
        state.has_waited
    }

    /// Where the time of a request went that was taken by the last [`drain`](Self::drain) and is encoded now, as far as its
    /// job took long enough to be noted.
    pub(crate) fn parts(&self, token: u64, decoded: Instant, encoded: Instant) -> Parts {
        let state = self.lock();
        let is_in = |(first, last): (u64, u64)| (first..=last).contains(&token);
        let job = state.long_jobs.iter().rev().find(|job| is_in(job.tokens));
        let group = state.groups.iter().find(|(first, last, _)| is_in((*first, *last))).map(|(_, _, group)| group);
        let queue = job.map_or(Duration::ZERO, |job| job.began.saturating_duration_since(decoded));
        let waited = encoded.saturating_duration_since(decoded).saturating_sub(queue);
        // What was answered by no group was answered by its job.
        let is_at_work = group.is_none() && state.job.is_some_and(|first| first <= token);
        let index = match job {
            _ if is_at_work => waited,
            Some(job) => job.ended.saturating_duration_since(job.began.max(decoded)).min(waited),
            None => Duration::ZERO,
        };
        Parts {
            queue,
            index,
            sync: group.map_or(Duration::ZERO, |group| group.sync),
            answer: group
                .map_or(waited.saturating_sub(index), |group| encoded.saturating_duration_since(group.settled)),
        }
    }

    /// Takes note that requests wait for the client to take answers.
    pub(crate) fn requests_wait(&self) {
        self.lock().has_waited = true;
    }

    /// Takes note that a job's requests waited long before it began.
    pub(crate) fn job_waited(&self, times: JobTimes) {
        self.lock().note_job(times);
    }

    /// Takes back what a job left undone, and lets the next one begin. Its times are
    /// noted if they are long, or if it had to wait for a place or for room.
    pub(crate) fn job_ends(&self, undone: VecDeque<Asked>, was_refused: bool, times: Option<JobTimes>) {
        let mut state = self.lock();
        state.job = None;
        let was_left = was_refused || !undone.is_empty();
        state.undone = undone;
        state.was_refused = was_refused;
        let has_waited = std::mem::replace(&mut state.has_waited, was_left);
        if let Some(times) = times.filter(|times| times.is_long || has_waited) {
            state.note_job(times);
        }
        drop(state);
        self.sleeper.wake();
    }

    /// `None` while a job is with the pool; else puts what the last one left undone in front of `waiting`.
    pub(crate) fn take_undone(&self, waiting: &mut VecDeque<Asked>) -> Option<Left> {
        let mut state = self.lock();
        if state.job.is_some() {
            return None;
        }
        let mut undone = std::mem::take(&mut state.undone);
        let was_refused = std::mem::take(&mut state.was_refused);
        drop(state);
        if !undone.is_empty() {
            undone.append(waiting);
            std::mem::swap(waiting, &mut undone);
        }
        Some(Left { spare: undone, was_refused })
    }

    /// What there is to do.
    pub(crate) fn look(&self) -> Look {
        let state = self.lock();
        Look {
            is_ready: matches!(state.slots.front(), Some(Slot::Filled { .. })),
            has_job: state.job.is_some(),
            has_undone: !state.undone.is_empty(),
            was_refused: state.was_refused,
        }
    }

    /// Gives back memory that a burst of requests took.
    pub(crate) fn trim(&self) {
        let mut state = self.lock();
        state.slots.shrink_to_fit();
        state.undone.shrink_to_fit();
        state.forget_times();
        state.groups.shrink_to_fit();
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

    /// Makes the connection look around, if it sleeps.
    pub(crate) fn wake(&self) {
        self.sleeper.wake();
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

    /// A job waited or took long; what was noted about it before is replaced.
    fn note_job(&mut self, times: JobTimes) {
        self.long_jobs.pop_back_if(|noted| noted.began == times.began && noted.tokens.0 == times.tokens.0);
        self.long_jobs.push_back(times);
    }

    /// A group of the log answered this request.
    fn note_group(&mut self, token: u64, group: Group) {
        match self.groups.back_mut() {
            Some((_, last, noted)) if *noted == group && *last < token => *last = token,
            _ => self.groups.push_back((token, token, group)),
        }
    }

    /// Forgets what belongs to requests that were taken before.
    fn forget_times(&mut self) {
        while self.long_jobs.front().is_some_and(|job| job.tokens.1 < self.first) {
            self.long_jobs.pop_front();
        }
        while self.groups.front().is_some_and(|(_, last, _)| *last < self.first) {
            self.groups.pop_front();
        }
    }
}

/// Whether the engine answers with a value.
pub(crate) fn is_read(verb: &Verb) -> bool {
    match verb {
        Verb::Get { .. } | Verb::Exists { .. } | Verb::Length { .. } | Verb::Take { .. } => true,
        Verb::SetIf { old, .. } => *old,
        Verb::Ping
        | Verb::Auth { .. }
        | Verb::Set { .. }
        | Verb::Remove { .. }
        | Verb::Batch(_)
        | Verb::Scan { .. }
        | Verb::Count
        | Verb::Clear
        | Verb::Info { .. }
        | Verb::Backup => false,
    }
}

impl Complete for Responses {
    fn complete(&self, token: u64, result: Result<Outcome, Error>) {
        // A completion that a panic drops says that the store is closing, which is not what happened.
        let answered = if std::thread::panicking() { Answered::fault() } else { Answered::Engine(result) };
        self.fill_submitted(token, answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_a_read_is_given_up_and_what_was_taken_out_of_the_store_is_not() {
        let responses = Responses::new(Budget::new(0), usize::MAX);
        let mut opening = Opening::default();
        let key = || b"k".to_vec();
        let value = || Ok(Outcome::Value(Some(vec![b'v'; 4 * CONNECTION_ALLOWANCE_BYTES])));
        let swap = Verb::SetIf { key: key(), value: key(), condition: kvs_protocol::Condition::Always, old: true };
        for verb in [Verb::Get { key: key() }, Verb::Take { key: key() }, swap] {
            let token = opening.open(&verb);
            responses.open_all(&mut opening);
            responses.read_begins();
            responses.fill_submitted(token, Answered::Engine(value()));
        }
        let mut answers = Vec::new();
        responses.drain(usize::MAX, &mut answers);
        assert!(
            matches!(&answers[0], Answered::Refused(error) if error.code == kvs_protocol::ErrorCode::Busy),
            "{:?}",
            answers[0]
        );
        for answered in &answers[1..] {
            assert!(matches!(answered, Answered::Engine(Ok(Outcome::Value(Some(_))))), "{answered:?}");
        }
        assert_eq!(responses.held_bytes(), 0);
    }
}
