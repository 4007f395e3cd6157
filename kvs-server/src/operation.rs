//! `OperationName`: the closed set of operations that metrics tell apart, and where a request's answer is worded.

use kvs_engine::{Error, Outcome};
use kvs_protocol::{Answer, ErrorCode, Verb, WireError};

use crate::answered::Answered;

/// What a request asked for, as the label `op` of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperationName {
    Ping,
    Auth,
    Get,
    Exists,
    Length,
    Set,
    /// A set with a condition, or one that answers the old value.
    SetIf,
    Take,
    Remove,
    Batch,
    Scan,
    Count,
    Clear,
    Info,
    Backup,
    /// What came was no request.
    Invalid,
}

impl OperationName {
    pub(crate) const ALL: [Self; 16] = [
        Self::Ping,
        Self::Auth,
        Self::Get,
        Self::Exists,
        Self::Length,
        Self::Set,
        Self::SetIf,
        Self::Take,
        Self::Remove,
        Self::Batch,
        Self::Scan,
        Self::Count,
        Self::Clear,
        Self::Info,
        Self::Backup,
        Self::Invalid,
    ];

    /// The value of the label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Auth => "auth",
            Self::Get => "get",
            Self::Exists => "exists",
            Self::Length => "length",
            Self::Set => "set",
            Self::SetIf => "set_if",
            Self::Take => "take",
            Self::Remove => "remove",
            Self::Batch => "batch",
            Self::Scan => "scan",
            Self::Count => "count",
            Self::Clear => "clear",
            Self::Info => "info",
            Self::Backup => "backup",
            Self::Invalid => "invalid",
        }
    }

    /// The label of the histogram of durations: what touches no key shares one, because each costs two dozen series.
    pub(crate) const fn duration_label(self) -> &'static str {
        match self {
            Self::Ping | Self::Auth | Self::Count | Self::Clear | Self::Info | Self::Backup | Self::Invalid => "other",
            Self::Get
            | Self::Exists
            | Self::Length
            | Self::Set
            | Self::SetIf
            | Self::Take
            | Self::Remove
            | Self::Batch
            | Self::Scan => self.as_str(),
        }
    }

    pub(crate) const fn of(verb: &Verb) -> Self {
        match verb {
            Verb::Ping => Self::Ping,
            Verb::Auth { .. } => Self::Auth,
            Verb::Get { .. } => Self::Get,
            Verb::Exists { .. } => Self::Exists,
            Verb::Length { .. } => Self::Length,
            Verb::Set { .. } => Self::Set,
            Verb::SetIf { .. } => Self::SetIf,
            Verb::Take { .. } => Self::Take,
            Verb::Remove { .. } => Self::Remove,
            Verb::Batch(_) => Self::Batch,
            Verb::Scan { .. } => Self::Scan,
            Verb::Count => Self::Count,
            Verb::Clear => Self::Clear,
            Verb::Info { .. } => Self::Info,
            Verb::Backup => Self::Backup,
        }
    }

    /// Whether the value that is answered may be gone from the store: then it is never given up for want of room.
    pub(crate) const fn changes_what_it_reads(self) -> bool {
        matches!(self, Self::SetIf | Self::Take)
    }

    /// What the client is answered.
    pub(crate) fn answer(self, answered: Answered) -> Result<Answer, WireError> {
        match answered {
            Answered::Engine(Ok(Outcome::Value(value))) if self == Self::Exists => Ok(Answer::Bool(value.is_some())),
            Answered::Engine(Ok(Outcome::Value(Some(value)))) if self == Self::Length => {
                Ok(Answer::Number(value.len() as u64))
            }
            Answered::Engine(Ok(Outcome::Value(Some(value)))) => Ok(Answer::Bytes(value)),
            Answered::Engine(Ok(Outcome::Value(None) | Outcome::Done)) => Ok(Answer::Null),
            Answered::Engine(Ok(Outcome::Stored(stored))) => Ok(Answer::Bool(stored)),
            Answered::Engine(Err(error)) => Err(WireError::new(code_of(&error), error.to_string())),
            Answered::Pong => Ok(Answer::Bytes(b"pong".to_vec())),
            Answered::Direct(answer) => Ok(answer),
            // The connection takes streams before it asks for an answer.
            Answered::Stream(_) => Err(WireError::new(ErrorCode::Internal, "a stream is no answer by itself")),
            Answered::Refused(error) => Err(error),
        }
    }
}

/// The code that a client decides by.
pub(crate) const fn code_of(error: &Error) -> ErrorCode {
    match error {
        Error::KeyNotFound => ErrorCode::KeyNotFound,
        Error::TooLarge { .. } => ErrorCode::TooLarge,
        Error::WrongCursor => ErrorCode::InvalidRequest,
        Error::NotSupported { .. } => ErrorCode::NotSupported,
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
        Verb::Ping | Verb::Count | Verb::Clear | Verb::Backup => 0,
        Verb::Get { key } | Verb::Exists { key } | Verb::Length { key } | Verb::Take { key } | Verb::Remove { key } => {
            key.len()
        }
        Verb::Set { key, value } | Verb::SetIf { key, value, .. } => key.len() + value.len(),
        Verb::Auth { token } => token.as_bytes().len(),
        Verb::Info { section } => section.as_ref().map_or(0, String::len),
        Verb::Scan { prefix, cursor, .. } => prefix.len() + cursor.as_ref().map_or(0, String::len),
        Verb::Batch(changes) => changes
            .iter()
            .map(|change| match change {
                Change::Set { key, value } => size_of::<Change>() + key.len() + value.len(),
                Change::Remove { key } => size_of::<Change>() + key.len(),
            })
            .sum(),
    }
}
