//! `OperationName`: the closed set of operations that metrics tell apart, and where a request's answer is worded.

use kvs_engine::{Error, Outcome};
use kvs_protocol::{Answer, ErrorCode, Verb, WireError};

use crate::responses::Answered;

/// What a request asked for, as the label `op` of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationName {
    Ping,
    Get,
    Exists,
    Set,
    Remove,
    Batch,
    /// The line was no request.
    Invalid,
}

impl OperationName {
    pub(crate) const ALL: [Self; 7] =
        [Self::Ping, Self::Get, Self::Exists, Self::Set, Self::Remove, Self::Batch, Self::Invalid];

    /// The value of the label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Get => "get",
            Self::Exists => "exists",
            Self::Set => "set",
            Self::Remove => "remove",
            Self::Batch => "batch",
            Self::Invalid => "invalid",
        }
    }

    pub(crate) const fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Ping => Self::Ping,
            Verb::Get { .. } => Self::Get,
            Verb::Exists { .. } => Self::Exists,
            Verb::Set { .. } => Self::Set,
            Verb::Remove { .. } => Self::Remove,
            Verb::Batch(_) => Self::Batch,
        }
    }

    /// What the client is answered.
    pub(crate) fn answer(self, answered: Answered) -> Result<Answer, WireError> {
        match answered {
            Answered::Engine(Ok(Outcome::Value(value))) if self == Self::Exists => Ok(Answer::Bool(value.is_some())),
            Answered::Engine(Ok(Outcome::Value(Some(value)))) => Ok(Answer::Bytes(value)),
            Answered::Engine(Ok(Outcome::Value(None) | Outcome::Done)) => Ok(Answer::Null),
            Answered::Engine(Err(error)) => Err(WireError::new(code_of(&error), error.to_string())),
            Answered::Pong => Ok(Answer::Bytes(b"pong".to_vec())),
            Answered::Refused(error) => Err(error),
        }
    }
}

/// The code that a client decides by.
const fn code_of(error: &Error) -> ErrorCode {
    match error {
        Error::KeyNotFound => ErrorCode::KeyNotFound,
        Error::TooLarge { .. } => ErrorCode::TooLarge,
        Error::WrongCursor => ErrorCode::InvalidRequest,
        Error::NoSpace => ErrorCode::NoSpace,
        Error::Closed => ErrorCode::ShuttingDown,
        Error::Poisoned { .. } => ErrorCode::Poisoned,
        Error::Corruption { .. } => ErrorCode::Corruption,
        Error::Locked { .. }
        | Error::WrongFolder { .. }
        | Error::NotALine { .. }
        | Error::NotInLog { .. }
        | Error::Io { .. }
        | Error::Sled(_) => ErrorCode::Internal,
    }
}

/// The bytes of keys and values in a request.
pub(crate) fn payload_bytes(verb: &Verb) -> usize {
    use kvs_protocol::Change;
    match verb {
        Verb::Ping => 0,
        Verb::Get { key } | Verb::Exists { key } | Verb::Remove { key } => key.len(),
        Verb::Set { key, value } => key.len() + value.len(),
        Verb::Batch(changes) => changes
            .iter()
            .map(|change| match change {
                Change::Set { key, value } => size_of::<Change>() + key.len() + value.len(),
                Change::Remove { key } => size_of::<Change>() + key.len(),
            })
            .sum(),
    }
}
