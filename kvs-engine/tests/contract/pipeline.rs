//! A client that submits without waiting, and checks that every answer comes exactly once.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use kvs_engine::{Complete, Completion, KvsEngine, Mutation, Operation, Outcome, Result};

/// A deadline for what must happen. Long, because it is only reached when something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Operations under way and their answers.
pub(crate) struct Pipeline<'a, E> {
    engine: &'a E,
    answers: Arc<Answers>,
    submitted: usize,
}

/// The answers by token: more than one for a token would be a broken promise, and is kept to be found.
#[derive(Default)]
struct Answers {
    by_token: Mutex<Vec<Vec<Result<Outcome>>>>,
    arrived: Condvar,
}

impl Complete for Answers {
    fn complete(&self, token: u64, result: Result<Outcome>) {
        let token = usize::try_from(token).expect("tokens count the operations of a test");
        let mut by_token = self.by_token.lock().unwrap();
        if by_token.len() <= token {
            by_token.resize_with(token + 1, Vec::new);
        }
        by_token[token].push(result);
        self.arrived.notify_all();
    }
}

impl<'a, E: KvsEngine> Pipeline<'a, E> {
    pub(crate) fn new(engine: &'a E) -> Self {
        Self { engine, answers: Arc::default(), submitted: 0 }
    }

    /// Submits and does not wait.
    pub(crate) fn submit(&mut self, operation: Operation) {
        let sink = Arc::clone(&self.answers) as Arc<dyn Complete>;
        self.engine.submit(operation, Completion::new(sink, self.submitted as u64));
        self.submitted += 1;
    }

    /// How many answers are there.
    pub(crate) fn answered(&self) -> usize {
        self.answers.by_token.lock().unwrap().iter().filter(|answers| !answers.is_empty()).count()
    }

    /// Waits for all answers and gives them in the order of the submits.
    ///
    /// # Panics
    /// When an answer is missing after the deadline or came twice.
    pub(crate) fn finish(self) -> Vec<Result<Outcome>> {
        let begin = Instant::now();
        let mut by_token = self.answers.by_token.lock().unwrap();
        while by_token.len() < self.submitted || by_token.iter().any(Vec::is_empty) {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            assert!(!left.is_zero(), "an operation was never answered");
            by_token = self.answers.arrived.wait_timeout(by_token, left).unwrap().0;
        }
        let answers = std::mem::take(&mut *by_token);
        drop(by_token);
        let mut single = Vec::new();
        for (token, mut answers) in answers.into_iter().enumerate() {
            assert_eq!(answers.len(), 1, "operation {token} was answered {} times", answers.len());
            single.append(&mut answers);
        }
        single
    }
}

/// `Operation::Set` of a key and a value.
pub(crate) fn set(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Operation {
    Operation::Set { key: key.into(), value: value.into() }
}

/// `Operation::Get` of a key.
pub(crate) fn get(key: impl Into<Vec<u8>>) -> Operation {
    Operation::Get { key: key.into() }
}

/// `Operation::Remove` of a key.
pub(crate) fn remove(key: impl Into<Vec<u8>>) -> Operation {
    Operation::Remove { key: key.into() }
}

/// `Mutation::Set` of a key and a value.
pub(crate) fn batch_set(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Mutation {
    Mutation::Set { key: key.into(), value: value.into() }
}

/// `Mutation::Remove` of a key.
pub(crate) fn batch_remove(key: impl Into<Vec<u8>>) -> Mutation {
    Mutation::Remove { key: key.into() }
}
