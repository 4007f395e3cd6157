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
    /// Stores a value if the key's present state allows it. Looking and storing are one step.
    SetIf {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// What must hold for it to be stored.
        condition: Condition,
        /// Whether the old value is the answer; else the answer is whether it was stored.
        old: bool,
    },
    /// Removes a key that must be there.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// Removes a key, if it is there, and answers the value that it had. Both are one step.
    Take {
        /// The key.
        key: Vec<u8>,
    },
    /// Applies all mutations or, after a crash, none.
    Batch(Vec<Mutation>),
}

/// What must hold for a value to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key has no value.
    Missing,
    /// The key has a value.
    Present,
}

impl Condition {
    /// Whether it holds of a key that has a value, or has none.
    #[must_use]
    pub const fn holds(self, is_there: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Missing => !is_there,
            Self::Present => is_there,
        }
    }
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

impl Outcome {
    /// The answer to an [`Operation::SetIf`].
    pub(crate) fn of_set_if(stored: bool, wants_old: bool, old: Option<Vec<u8>>) -> Self {
        if wants_old { Self::Value(old) } else { Self::Stored(stored) }
    }
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
    /// To [`Operation::Get`]: the value, or that there is none. To [`Operation::Take`], and to [`Operation::SetIf`]
    /// where it asks for it: the value that there was.
    Value(Option<Vec<u8>>),
    /// To [`Operation::SetIf`] otherwise: whether the value was stored.
    Stored(bool),
    /// To every other operation: it is done and, under [`SyncPolicy::Always`](crate::SyncPolicy::Always), durable.
    Done,
}
