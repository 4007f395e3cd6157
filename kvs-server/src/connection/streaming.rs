//! `Streaming`: an answer of many responses, given as fast as the client takes it.
//!
//! What must hold: a part is taken from who makes it only when the output has room, so that a slow client slows that
//! down and holds no more than the few parts between the two.

use std::task::{Context, Poll};

use kvs_protocol::{Answer, BackupPart, ErrorCode, RequestId, Response, WireError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{Connection, Pending, Spelling};
use crate::backup_stream::BackupStream;
use crate::limits::STREAM_OUTPUT_BYTES;

/// A backup that is being sent.
pub(super) struct Streaming {
    parts: BackupStream,
    request: Pending,
}

/// What came of it: `None` when who makes it has ended without a last word.
pub(super) type Part = Option<Result<BackupPart, WireError>>;

impl Streaming {
    pub(super) fn new(parts: BackupStream, request: Pending) -> Self {
        Self { parts, request }
    }

    fn id(&self) -> Option<RequestId> {
        match &self.request.spelling {
            Spelling::Json(id) => id.clone(),
            Spelling::Resp(_) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The next part, when the output has room for it.
    pub(super) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Part> {
        let has_room = self.output.untaken().len() < STREAM_OUTPUT_BYTES;
        match &mut self.streaming {
            Some(streaming) if has_room => streaming.parts.poll_next(context),
            _ => Poll::Pending,
        }
    }

    /// Writes a part; with the last one the request is answered.
    pub(super) fn take_part(&mut self, part: Part) {
        let Some(streaming) = self.streaming.take() else { return };
        let fault = || Err(WireError::new(ErrorCode::Internal, "a fault of the server; its log says more"));
        let part = part.unwrap_or_else(fault);
        let now = Instant::now();
        if let Ok(part @ (BackupPart::File(_) | BackupPart::Data(_))) = part {
            Response { body: Ok(Answer::Part(part)), id: streaming.id() }.encode(self.output.tail());
            self.streaming = Some(streaming);
        } else {
            self.write_answer(streaming.request, part.map(Answer::Part), now);
        }
    }
}
