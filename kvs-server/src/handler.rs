//! `Handler`: the one place where a request becomes an operation of the engine.
//!
//! What must hold: the match names every verb, so that a new one can't be forgotten; who may do what is decided here
//! and nowhere else; nothing here waits for a sync.

use std::sync::Arc;

use kvs_engine::{Mutation, Operation};
use kvs_protocol::{Change, Verb};

use crate::responses::{Answered, Responses};
use crate::store::Store;

/// Gives requests to the engine.
pub(crate) struct Handler {
    store: Arc<dyn Store>,
}

impl Handler {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Does one request. Its answer goes to the slot of this token, now or when it is durable.
    pub(crate) fn handle(&self, verb: Verb, token: u64, responses: &Arc<Responses>) {
        let operation = match verb {
            Verb::Ping => return responses.fill(token, Answered::Pong),
            Verb::Get { key } | Verb::Exists { key } => {
                responses.read_begins();
                Operation::Get { key }
            }
            Verb::Set { key, value } => Operation::Set { key, value },
            Verb::Remove { key } => Operation::Remove { key },
            Verb::Batch(changes) => Operation::Batch(changes.into_iter().map(mutation).collect()),
        };
        self.store.submit(operation, responses.completion(token));
    }
}

fn mutation(change: Change) -> Mutation {
    match change {
        Change::Set { key, value } => Mutation::Set { key, value },
        Change::Remove { key } => Mutation::Remove { key },
    }
}
