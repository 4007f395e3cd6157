//! How an engine answers without making anybody wait.
//!
//! What must hold: every completion is called exactly once; one that is dropped unanswered answers [`Error::Closed`],
//! so that no caller waits for ever.

use crate::error::{Error, Result};
use crate::operation::Outcome;
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

/// Something that takes answers. One connection is one `Complete`, so that an operation costs no allocation of its own.
pub trait Complete: Send + Sync + 'static {
    /// Takes the answer to the operation that was submitted with this token. Runs on the thread that made the answer
    /// durable, often while others wait for it: it must not block and must not call the engine.
    fn complete(&self, token: u64, result: Result<Outcome>);
}

/// The right to answer one operation once.
pub struct Completion {
    /// `None` once answered.
    sink: Option<Arc<dyn Complete>>,
    token: u64,
}

impl Completion {
    /// An answer that goes to `sink` under a token that the sink understands.
    #[must_use]
    pub fn new(sink: Arc<dyn Complete>, token: u64) -> Self {
        Self { sink: Some(sink), token }
    }

    /// An answer that calls a closure once.
    #[must_use]
    pub fn call(function: impl FnOnce(Result<Outcome>) + Send + 'static) -> Self {
        Self::new(Arc::new(Once(Mutex::new(Some(Box::new(function))))), 0)
    }

    /// Answers.
    pub fn complete(mut self, result: Result<Outcome>) {
        if let Some(sink) = self.sink.take() {
            sink.complete(self.token, result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.complete(self.token, Err(Error::Closed));
        }
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Completion").field("token", &self.token).finish_non_exhaustive()
    }
}

type Function = Box<dyn FnOnce(Result<Outcome>) + Send>;

/// A closure as a sink.
struct Once(Mutex<Option<Function>>);

impl Complete for Once {
    fn complete(&self, _token: u64, result: Result<Outcome>) {
        let function = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(function) = function {
            function(result);
        }
    }
}

/// A thread that waits for one answer.
#[derive(Default)]
pub(crate) struct Waiter {
    /// The answer, once it is there.
    answer: Mutex<Option<Result<Outcome>>>,
    arrived: Condvar,
}

impl Waiter {
    /// Whether the answer is there already.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Blocks until the answer is there.
    pub(crate) fn wait(&self) -> Result<Outcome> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = answer.take() {
                return result;
            }
            answer = self.arrived.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Complete for Waiter {
    fn complete(&self, _token: u64, result: Result<Outcome>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.arrived.notify_one();
    }
}
