//! `Connection`: reads frames, gives batches to the pool, writes answers in order.
//!
//! What must hold:
//! * at most one job of a connection is with the pool, so its requests reach the engine in the order of their coming;
//! * whatever it holds is bounded: requests, their bytes, answers. At a bound it stops reading, so a client that does
//!   not read its answers is not read either;
//! * every wait has a deadline;
//! * a line that can't be read is answered, and then nothing more is read.

mod ending;
mod output;
mod waiting;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kvs_protocol::{Answer, ErrorCode, FrameBuffer, Request, RequestId, Response, WireError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};

use crate::budget::{Lease, too_many_bytes};
use crate::job::Job;
use crate::limits::{
    IDLE_DEADLINE, LINGER_BYTES, LINGER_DEADLINE, MAX_OUTPUT_BYTES, MAX_PIPELINE_BYTES, MAX_PIPELINE_REQUESTS,
};
use crate::operation::{OperationName, payload_bytes};
use crate::protocol_choice::Protocol;
use crate::responses::{Answered, Asked, Responses};
use crate::shared::Shared;

pub(crate) use ending::Ending;
use output::Output;
use waiting::Event;

/// What one pending request costs beside its key and value, in bytes: its places in the queues.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// One client.
pub(crate) struct Connection<S> {
    stream: S,
    shared: Arc<Shared>,
    responses: Arc<Responses>,
    lease: Lease,
    /// Set by the first byte.
    protocol: Option<Protocol>,
    frames: FrameBuffer,
    /// Since when the line at the front of `frames` has been incomplete.
    line_began: Option<Instant>,
    /// Requests that are decoded and not yet with the pool.
    waiting: VecDeque<Asked>,
    /// Requests that are decoded and not yet answered, in order: those in `waiting` come last.
    pending: VecDeque<Pending>,
    /// What `pending` holds, in bytes.
    pending_bytes: usize,
    /// Reused between turns.
    answers: Vec<Answered>,
    output: Output,
    /// When the client last sent or took something.
    last_progress: Instant,
    /// Since when there has been no memory for the client's large line.
    starved: Option<Instant>,
    /// Set when nothing more is to be read.
    ending: Option<Ending>,
    alarm: Pin<Box<Sleep>>,
}

/// A request that is not yet answered.
struct Pending {
    operation: OperationName,
    id: Option<RequestId>,
    bytes: usize,
    decoded: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, shared: Arc<Shared>, responses: Arc<Responses>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            lease: Lease::new(Arc::clone(&shared.budget)),
            frames: FrameBuffer::new(shared.limits.frame_bytes),
            shared,
            responses,
            protocol: None,
            line_began: None,
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            answers: Vec::new(),
            output: Output::default(),
            last_progress: now,
            starved: None,
            ending: None,
            alarm: Box::pin(tokio::time::sleep_until(now + IDLE_DEADLINE)),
        }
    }

    /// Serves the client until either side ends it.
    pub(crate) async fn serve(mut self) -> Ending {
        loop {
            if self.responses.is_draining() {
                self.ending.get_or_insert(Ending::Drain);
            }
            self.decode();
            self.start_job();
            self.encode();
            if let Some(ending) = self.finished() {
                self.close(ending).await;
                return ending;
            }
            let may_read = self.may_read();
            let event = std::future::poll_fn(|context| self.poll_event(context, may_read)).await;
            self.responses.is_awake();
            match event {
                Event::Read(count) => {
                    self.frames.filled(count);
                    self.shared.metrics.received_bytes.inc_by(count as u64);
                    self.last_progress = Instant::now();
                }
                // The client sends nothing more; what it asked is still answered.
                Event::EndOfInput => self.ending = Some(Ending::Client),
                Event::Wrote(count) => {
                    self.shared.metrics.sent_bytes.inc_by(count as u64);
                    self.last_progress = Instant::now();
                    self.output.take(count, self.last_progress);
                }
                Event::Woken => {}
                Event::Alarm => {
                    if let Some(ending) = self.alarm_rang() {
                        return ending;
                    }
                }
                Event::Failed(error) => {
                    tracing::debug!(%error, "a connection failed");
                    return Ending::Error;
                }
            }
        }
    }

    /// Takes whole lines out of the buffer, as far as the bounds allow.
    fn decode(&mut self) {
        if self.protocol.is_none() {
            self.choose_protocol();
        }
        let now = Instant::now();
        while self.reads_lines()
            && self.pending.len() < MAX_PIPELINE_REQUESTS
            && self.pending_bytes < MAX_PIPELINE_BYTES
        {
            let decoded = match self.frames.next_line() {
                Ok(line) => line.map(Request::decode),
                Err(too_large) => {
                    let error = WireError::new(ErrorCode::TooLarge, format!("{too_large}; the connection is closed"));
                    self.refuse(error.into(), now);
                    self.ending = Some(Ending::Protocol);
                    return;
                }
            };
            let Some(decoded) = decoded else {
                return self.line_is_incomplete(now);
            };
            self.line_began = None;
            match decoded {
                Ok(Request { verb, id }) if self.lease.is_too_much() => {
                    self.pend(OperationName::of(&verb), id, REQUEST_OVERHEAD_BYTES, now);
                    self.responses.open_refused(too_many_bytes());
                }
                Ok(Request { verb, id }) => {
                    let bytes = REQUEST_OVERHEAD_BYTES + payload_bytes(&verb);
                    self.pend(OperationName::of(&verb), id, bytes, now);
                    self.waiting.push_back((self.responses.open(&verb), verb));
                }
                Err(refusal) => self.refuse(refusal, now),
            }
        }
        // Whole lines wait for room, which is no slow client's fault.
        self.line_began = None;
    }

    /// More bytes must arrive before there is a line.
    fn line_is_incomplete(&mut self, now: Instant) {
        if self.frames.pending().is_empty() {
            self.line_began = None;
        } else if self.ending == Some(Ending::Client) {
            let message = "the connection ended inside a line; a line ends with a newline";
            self.refuse(WireError::new(ErrorCode::Malformed, message).into(), now);
        } else {
            self.line_began.get_or_insert(now);
        }
    }

    fn choose_protocol(&mut self) {
        let Some(&first_byte) = self.frames.pending().first() else { return };
        let protocol = Protocol::of(first_byte);
        self.protocol = Some(protocol);
        if protocol != Protocol::JsonLines {
            self.output.tail().extend_from_slice(&protocol.refusal());
            self.shared.metrics.requests.answered(
                OperationName::Invalid,
                Some(ErrorCode::WrongProtocol),
                Duration::ZERO,
            );
            self.ending = Some(Ending::Protocol);
        }
    }

    /// Whether lines in the buffer are still read as requests: until the input could not be read, and to the end of
    /// what has arrived when the server is ending.
    fn reads_lines(&self) -> bool {
        self.protocol == Some(Protocol::JsonLines) && matches!(self.ending, None | Some(Ending::Client | Ending::Drain))
    }

    /// Answers a line, in its turn, without doing it.
    fn refuse(&mut self, refusal: Response, now: Instant) {
        let error = refusal.body.expect_err("a refusal is an error");
        if error.code.closes_connection() {
            self.ending = Some(Ending::Protocol);
        }
        self.pend(OperationName::Invalid, refusal.id, REQUEST_OVERHEAD_BYTES, now);
        self.responses.open_refused(error);
    }

    fn pend(&mut self, operation: OperationName, id: Option<RequestId>, bytes: usize, decoded: Instant) {
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { operation, id, bytes, decoded });
    }

    /// Gives what waits to the pool, if the last job has ended and its answers left room.
    fn start_job(&mut self) {
        if !self.responses.take_undone(&mut self.waiting) || self.waiting.is_empty() || !self.responses.has_room() {
            return;
        }
        let requests = std::mem::take(&mut self.waiting);
        let job = Job::new(Arc::clone(&self.shared.handler), Arc::clone(&self.responses), requests);
        // A job that is refused answers its requests itself.
        let _ = self.shared.pool.spawn(move || job.run());
    }

    /// Encodes the answers that are there, in order, as far as the output has room. A value that has no room among
    /// the bytes in flight is not sent: only here is its size known, and many clients could ask for large ones and
    /// read none.
    fn encode(&mut self) {
        self.responses.drain(MAX_OUTPUT_BYTES.saturating_sub(self.output.untaken().len()), &mut self.answers);
        if !self.answers.is_empty() {
            let now = Instant::now();
            let mut answers = std::mem::take(&mut self.answers);
            for answered in answers.drain(..) {
                let request = self.pending.pop_front().expect("each answer has its request");
                self.pending_bytes -= request.bytes;
                if let Answered::Engine(Err(error)) = &answered
                    && error.is_fatal()
                {
                    self.shared.fatal.suspect();
                }
                let mut body = request.operation.answer(answered);
                if let Ok(Answer::Bytes(value)) = &body
                    && !self.lease.try_grow(self.used_bytes(self.frames.capacity_bytes()) + value.len())
                {
                    body = Err(too_many_bytes());
                }
                let took = now.duration_since(request.decoded);
                let code = body.as_ref().err().map(|error| error.code);
                self.shared.metrics.requests.answered(request.operation, code, took);
                Response { body, id: request.id }.encode(self.output.tail());
            }
            self.answers = answers;
        }
        self.lease.record(self.used_bytes(self.frames.capacity_bytes()));
    }

    /// What the connection uses, with a buffer of this size. `responses` counts by itself what it holds.
    fn used_bytes(&self, frame_bytes: usize) -> usize {
        frame_bytes + self.pending_bytes + self.output.capacity_bytes()
    }

    /// Why the connection is over, if all that it owes is sent.
    fn finished(&self) -> Option<Ending> {
        let owes = !self.pending.is_empty() || !self.output.is_empty();
        self.ending.filter(|_| !owes)
    }

    /// Whether the client may send more now. Asks for memory when a long line needs it.
    fn may_read(&mut self) -> bool {
        let room = self.ending.is_none()
            && self.pending.len() < MAX_PIPELINE_REQUESTS
            && self.pending_bytes < MAX_PIPELINE_BYTES
            && self.output.untaken().len() < MAX_OUTPUT_BYTES
            && self.responses.has_room();
        if !room {
            self.starved = None;
            return false;
        }
        let needed = self.frames.capacity_needed_bytes();
        if needed <= self.frames.capacity_bytes() || self.lease.try_grow(self.used_bytes(needed)) {
            self.starved = None;
            return true;
        }
        self.starved.get_or_insert_with(Instant::now);
        false
    }

    /// Closes so that the client gets the last answer: says that nothing more comes, and takes for a while what the
    /// client still sends, because closing with unread bytes would take back what was sent.
    async fn close(&mut self, ending: Ending) {
        if self.stream.shutdown().await.is_err() || ending == Ending::Client {
            return;
        }
        let discard = async {
            let mut scrap = [0; 4096];
            let mut rest = LINGER_BYTES;
            while let Ok(count @ 1..) = self.stream.read(&mut scrap).await {
                rest = rest.saturating_sub(count);
                if rest == 0 {
                    break;
                }
            }
        };
        // Either way the connection is closed now.
        let _ = tokio::time::timeout(LINGER_DEADLINE, discard).await;
    }
}
