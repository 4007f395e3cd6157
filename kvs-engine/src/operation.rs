//! What can be asked of an engine, and what it answers.

/// One request to an engine. Keys and values are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The value of a key.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// Stores a value, over an older one if there is one.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key that must be there.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// Applies all mutations or, after a crash, none.
    Batch(Vec<Mutation>),
}

/// One change inside a batch. Removing a key that is not there is no error in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Stores a value.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
}

impl Mutation {
    /// The key that this changes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Set { key, .. } | Self::Remove { key } => key,
        }
    }
}

/// The answer to an [`Operation`] that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To [`Operation::Get`]: the value, or that there is none.
    Value(Option<Vec<u8>>),
    /// To every other operation: it is done and, under [`SyncPolicy::Always`](crate::SyncPolicy::Always), durable.
    Done,
}
