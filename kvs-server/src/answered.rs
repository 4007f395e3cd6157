//! `Answered`: what became of one request, before it is spelled in the client's protocol.

use kvs_engine::{Error, Outcome};
use kvs_protocol::{Answer, ErrorCode, WireError};

use crate::backup_stream::BackupStream;

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The engine answered.
    Engine(Result<Outcome, Error>),
    /// It was answered without the engine.
    Pong,
    /// It was answered in full.
    Direct(Answer),
    /// It is answered part by part.
    Stream(BackupStream),
    /// It was not done.
    Refused(WireError),
}

impl Answered {
    /// The bytes of values in it, as far as they can be many: those of what is told of the server, too.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Engine(Ok(Outcome::Value(Some(value)))) => value.len(),
            Self::Direct(Answer::Page(page)) => page.payload_bytes(),
            Self::Direct(Answer::Info(info)) => info.payload_bytes(),
            Self::Engine(_) | Self::Direct(_) | Self::Pong | Self::Stream(_) | Self::Refused(_) => 0,
        }
    }

    /// Ours, not the client's.
    pub(crate) fn fault() -> Self {
        Self::Refused(WireError::new(ErrorCode::Internal, "a fault of the server; its log says more"))
    }
}
