//! How a connection takes requests out of what has arrived, in either protocol.
//!
//! What must hold: requests are taken only as far as the connection's bounds allow, and refusals take their turn like
//! answers; after what can't be read nothing is taken any more.

use std::time::Duration;

use kvs_protocol::resp::{Decoder, ProtocolError, Replies, Reply, Step, What};
use kvs_protocol::{ErrorCode, FrameTooLarge, Request, RequestId, Verb, WireError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{Connection, Ending, Pending, REQUEST_OVERHEAD_BYTES, Resp, Spelling};
use crate::budget::too_many_bytes;
use crate::limits::{IN_FLIGHT_REFUSALS, STRANGER_FRAME_BYTES};
use crate::operation::{OperationName, payload_bytes};
use crate::protocol_choice::Protocol;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes whole requests out of the buffer, as far as the bounds allow. Whether they were what stopped it, so that
    /// there may be more in the buffer.
    pub(super) fn decode(&mut self) -> bool {
        if self.protocol.is_none() {
            self.choose_protocol();
        }
        let known = self.pending.len();
        let stopped_full = self.take_requests(Instant::now());
        let taken = self.pending.len() - known;
        if let Some(protocol) = self.protocol.filter(|_| taken > 0) {
            self.shared.metrics.requests.received(protocol, taken as u64);
        }
        stopped_full
    }

    fn take_requests(&mut self, now: Instant) -> bool {
        while self.reads_requests() && self.may_take_requests() {
            let taken = if self.resp.is_some() { self.take_command(now) } else { self.take_line(now) };
            if !taken {
                return false;
            }
            self.line_began = None;
        }
        // Whole requests wait for room, which is no slow client's fault.
        self.line_began = None;
        self.reads_requests() && !self.frames.pending().is_empty()
    }

    /// Whether there is room for another request. A client that has yet to say who it is has room for one at a time, so
    /// that what follows is judged by what came of it, and for a small one. Neither that client nor anybody while bytes
    /// in flight are scarce has room for more before the answers that are there are taken: the bounds of one connection,
    /// refusals included, would be too much for all of them together.
    pub(super) fn may_take_requests(&mut self) -> bool {
        let is_stranger = self.session.is_stranger();
        self.frames.set_limit(if is_stranger { STRANGER_FRAME_BYTES } else { self.limits.frame_bytes });
        let most_requests = if is_stranger { 1 } else { self.limits.pipeline_requests };
        let must_take = !self.output.is_empty() && (is_stranger || self.lease.is_scarce());
        let must_wait = !self.pending.is_empty() && self.lease.is_far_too_much();
        let must_pause = self.is_paused() && self.refused >= IN_FLIGHT_REFUSALS;
        !must_take
            && !must_wait
            && !must_pause
            && self.pending.len() < most_requests
            && self.pending_bytes < self.limits.pipeline_bytes
    }

    /// Takes one line of JSON; `false` when there is none to be taken now.
    fn take_line(&mut self, now: Instant) -> bool {
        match self.frames.next_line() {
            Ok(None) => {
                self.request_is_incomplete(now);
                return false;
            }
            Err(too_large) => {
                self.end_with(too_large_frame(too_large), now);
                return false;
            }
            Ok(Some(line)) => match Request::decode(line) {
                Ok(Request { verb, id }) => self.ask(verb, Spelling::Json(id), now),
                Err(refusal) => {
                    let error = refusal.body.expect_err("a refusal is an error");
                    if error.code.closes_connection() {
                        self.ending = Some(Ending::Protocol);
                    }
                    self.refuse(error, Spelling::Json(refusal.id), now);
                }
            },
        }
        true
    }

    /// Takes one request of RESP2; `false` when there is none to be taken now.
    fn take_command(&mut self, now: Instant) -> bool {
        let resp = self.resp.as_mut().expect("the protocol was chosen");
        match resp.decoder.next(self.frames.pending(), self.frames.limit_bytes()) {
            Ok(None) => {
                self.request_is_incomplete(now);
                return false;
            }
            Err(error) => {
                let code = match error {
                    ProtocolError::TooLarge { .. } => ErrorCode::TooLarge,
                    _ => ErrorCode::Malformed,
                };
                self.end_with(WireError::new(code, error.to_string()), now);
                return false;
            }
            Ok(Some(Step { taken_bytes, what })) => {
                self.frames.consume(taken_bytes);
                match what {
                    What::Nothing => {}
                    What::Ask(verb, reply) => self.ask(verb, Spelling::Resp(reply), now),
                    What::Last(verb, reply) => {
                        self.ask(verb, Spelling::Resp(reply), now);
                        // What follows is not read, and what was asked is still answered.
                        self.ending = Some(Ending::Quit);
                    }
                    What::Refuse(error) => self.refuse(error, Spelling::Resp(Reply::Value), now),
                }
            }
        }
        true
    }

    /// Takes a request, which the pool gets with the next job.
    fn ask(&mut self, verb: Verb, spelling: Spelling, now: Instant) {
        if matches!(verb, Verb::Auth { .. }) {
            self.frames.wipe_taken();
        }
        let operation = OperationName::of(&verb);
        let bytes = REQUEST_OVERHEAD_BYTES + spelling.held_bytes();
        // Its key and value were asked for with the line that brought them.
        let used_bytes = self.used_bytes(self.frames.capacity_bytes()) + bytes;
        if self.lease.is_too_much() || !self.lease.try_grow(used_bytes) {
            let spelling = spelling.of_refusal();
            let bytes = REQUEST_OVERHEAD_BYTES + spelling.held_bytes();
            self.pend(operation, spelling, bytes, now);
            self.opening.open_refused(too_many_bytes());
            self.pause(now);
            return;
        }
        self.pend(operation, spelling, bytes + payload_bytes(&verb), now);
        self.waiting.push_back((self.opening.open(&verb), verb));
    }

    /// More bytes must arrive before there is a request.
    fn request_is_incomplete(&mut self, now: Instant) {
        if self.frames.pending().is_empty() {
            self.line_began = None;
        } else if self.ending == Some(Ending::Client) {
            let message = match &self.resp {
                Some(_) => "Protocol error: the connection ended inside a command",
                None => "the connection ended inside a line; a line ends with a newline",
            };
            self.end_with(WireError::new(ErrorCode::Malformed, message), now);
        } else {
            self.line_began.get_or_insert(now);
        }
    }

    fn choose_protocol(&mut self) {
        let Some(&first_byte) = self.frames.pending().first() else { return };
        let protocol = Protocol::of(first_byte);
        self.protocol = Some(protocol);
        if protocol == Protocol::Resp {
            let decoder = Decoder::new(self.shared.next_resp_connection());
            self.resp = Some(Box::new(Resp { decoder, replies: Replies::default() }));
        }
        if !protocol.is_spoken() {
            self.output.tail().extend_from_slice(&protocol.refusal());
            self.shared.metrics.requests.ended(OperationName::Invalid, Some(ErrorCode::WrongProtocol), Duration::ZERO);
            self.ending = Some(Ending::Protocol);
        }
    }

    /// Whether what has arrived is still read as requests: until it could not be read, and to its end when the client
    /// sends nothing more or the server is ending.
    fn reads_requests(&self) -> bool {
        self.protocol.is_some_and(Protocol::is_spoken)
            && matches!(self.ending, None | Some(Ending::Client | Ending::Drain))
    }

    /// Answers what could not be read, in its turn, and reads nothing more.
    pub(super) fn end_with(&mut self, error: WireError, now: Instant) {
        self.ending = Some(Ending::Protocol);
        let spelling = self.plain_spelling(None);
        self.refuse(error, spelling, now);
    }

    /// How an answer is written that is not shaped by its request.
    fn plain_spelling(&self, id: Option<RequestId>) -> Spelling {
        match self.resp {
            Some(_) => Spelling::Resp(Reply::Value),
            None => Spelling::Json(id),
        }
    }

    /// Answers a request, in its turn, without doing it.
    fn refuse(&mut self, error: WireError, spelling: Spelling, now: Instant) {
        let bytes = REQUEST_OVERHEAD_BYTES + error.message.len();
        if !self.lease.try_grow(self.used_bytes(self.frames.capacity_bytes()) + bytes) {
            self.pause(now);
        }
        self.pend(OperationName::Invalid, spelling, bytes, now);
        self.opening.open_refused(error);
    }

    fn pend(&mut self, operation: OperationName, spelling: Spelling, bytes: usize, decoded: Instant) {
        self.pending_bytes += bytes;
        let token = self.opening.next_token();
        self.pending.push_back(Pending { token, operation, spelling, bytes, decoded });
    }
}

fn too_large_frame(too_large: FrameTooLarge) -> WireError {
    WireError::new(ErrorCode::TooLarge, format!("{too_large}; the connection is closed"))
}
