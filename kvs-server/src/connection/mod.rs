//! `Connection`: reads frames, gives batches to the pool, writes answers in order.
//!
//! What must hold:
//! * at most one job of a connection is with the pool, so its requests reach the engine in the order of their coming;
//! * whatever it holds is bounded: requests, their bytes, answers; by itself, and together with all others. At a bound it
//!   stops reading, so a client that does not read its answers is not read either;
//! * every wait has a deadline;
//! * what can't be read is answered, and then nothing more is read.

mod decoding;
mod ending;
mod output;
mod patience;
mod streaming;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use kvs_protocol::resp::{Decoder, Replies, Reply};
use kvs_protocol::{Answer, ErrorCode, FrameBuffer, RequestId, Response, WireError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep};

use crate::access::Session;
use crate::answered::Answered;
use crate::budget::{Lease, too_many_bytes};
use crate::failed_requests::RequestName;
use crate::job::Job;
use crate::limits::{IN_FLIGHT_PAUSE, LINGER_BYTES, LINGER_DEADLINE, Limits};
use crate::operation::OperationName;
use crate::protocol_choice::Protocol;
use crate::responses::{Asked, Left, Opening, Responses};
use crate::shared::Shared;
use crate::slowlog::SlowRequest;

pub(crate) use ending::Ending;
use output::Output;
use patience::{Next, Patience};
use streaming::Streaming;
use waiting::Event;

/// What one pending request costs beside its key and value, in bytes: its places in the queues.
const REQUEST_OVERHEAD_BYTES: usize = 256;

/// How many requests a connection keeps room for between two jobs.
const SPARE_REQUESTS: usize = 32;

/// One client.
pub(crate) struct Connection<S> {
    stream: S,
    /// Of its connection, for the log.
    number: u64,
    shared: Arc<Shared>,
    /// As they were when the connection began.
    limits: Arc<Limits>,
    session: Arc<Session>,
    responses: Arc<Responses>,
    lease: Lease,
    /// Set by the first byte.
    protocol: Option<Protocol>,
    frames: FrameBuffer,
    /// Reads and spells RESP2; only on connections that speak it.
    resp: Option<Box<Resp>>,
    /// Since when the line at the front of `frames` has been incomplete.
    line_began: Option<Instant>,
    /// Slots of requests that were just decoded.
    opening: Opening,
    /// Requests that are decoded and not yet with the pool.
    waiting: VecDeque<Asked>,
    /// Requests that are decoded and not yet answered, in order: those in `waiting` come last.
    pending: VecDeque<Pending>,
    /// What `pending` holds, in bytes.
    pending_bytes: usize,
    /// Reused between turns.
    answers: Vec<Answered>,
    /// The answer of many responses that is being given; those behind it wait.
    streaming: Option<Streaming>,
    output: Output,
    /// Since when the client has had to authenticate, if it has to.
    stranger_since: Option<Instant>,
    /// When the client last sent or took something.
    last_progress: Instant,
    /// Since when there has been no memory for the client's large line.
    starved: Option<Instant>,
    /// While the pool has no place for a job of this connection.
    patience: Patience,
    /// Until when nothing is read, after requests were refused for want of bytes in flight.
    paused_until: Option<Instant>,
    /// How many were refused so since the last pause.
    refused: usize,
    /// Set when nothing more is to be read.
    ending: Option<Ending>,
    alarm: Pin<Box<Sleep>>,
}

/// A request that is not yet answered.
struct Pending {
    /// Of its slot.
    token: u64,
    operation: OperationName,
    spelling: Spelling,
    bytes: usize,
    decoded: Instant,
}

/// How the answer to a request is written.
enum Spelling {
    Json(Option<RequestId>),
    Resp(Reply),
}

impl Spelling {
    /// What it holds beside itself, in bytes.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Json(_) => 0,
            Self::Resp(reply) => reply.held_bytes(),
        }
    }

    /// The same for a request that is refused: an answer that was spelled beforehand is let go of.
    fn of_refusal(self) -> Self {
        match self {
            Self::Resp(Reply::Raw(_) | Reply::Switch { .. }) => Self::Resp(Reply::Value),
            spelling => spelling,
        }
    }
}

/// What a connection needs for RESP2.
struct Resp {
    decoder: Decoder,
    replies: Replies,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, shared: Arc<Shared>, responses: Arc<Responses>, session: Arc<Session>) -> Self {
        let now = Instant::now();
        let limits = shared.limits();
        Self {
            stream,
            number: 0,
            lease: Lease::new(Arc::clone(&shared.budget)),
            frames: FrameBuffer::new(limits.frame_bytes),
            alarm: Box::pin(tokio::time::sleep_until(now + limits.idle_deadline)),
            shared,
            limits,
            session,
            responses,
            protocol: None,
            resp: None,
            line_began: None,
            opening: Opening::default(),
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            answers: Vec::new(),
            streaming: None,
            output: Output::default(),
            stranger_since: None,
            last_progress: now,
            starved: None,
            patience: Patience::default(),
            paused_until: None,
            refused: 0,
            ending: None,
        }
    }

    /// The same with a number by which the log tells it from others.
    #[must_use]
    pub(crate) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// Serves the client until either side ends it.
    pub(crate) async fn serve(mut self) -> Ending {
        loop {
            if self.responses.is_draining() {
                self.ending.get_or_insert(Ending::Drain);
            }
            if self.session.is_expelled() {
                self.ending.get_or_insert(Ending::Unauthenticated);
            }
            if self.is_a_stranger_too_long() {
                return Ending::Unauthenticated;
            }
            let stopped_full = self.decode();
            self.start_job();
            self.encode();
            if stopped_full && self.output.is_empty() && self.may_take_requests() {
                // Room was made and nothing is to be written, so no event would bring us back to what has arrived.
                continue;
            }
            // What waits in the buffer for the end of a pause is still answered.
            if let Some(ending) = self.finished().filter(|_| !stopped_full) {
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
                Event::Part(part) => self.take_part(part),
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

    /// Whether the client has not authenticated in time: since it came, or since its token was revoked.
    fn is_a_stranger_too_long(&mut self) -> bool {
        if !self.session.is_stranger() {
            self.stranger_since = None;
            return false;
        }
        let now = Instant::now();
        now >= *self.stranger_since.get_or_insert(now) + self.limits.auth_deadline
    }

    /// Gives what waits to the pool, if the last job has ended and its answers left room. While the pool has no place,
    /// it is asked again for some time, in which nothing more is read; then the requests are answered `busy`.
    fn start_job(&mut self) {
        self.responses.open_all(&mut self.opening);
        let Some(Left { mut spare, was_refused }) = self.responses.take_undone(&mut self.waiting) else { return };
        match self.patience.next(was_refused, Instant::now) {
            Next::Ask => {}
            Next::Wait => return,
            Next::GiveUp => {
                for (token, _) in self.waiting.drain(..) {
                    let error = WireError::new(ErrorCode::Busy, "the pool's queue is full; try again later");
                    self.responses.fill(token, Answered::Refused(error));
                }
                return;
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        if !self.responses.has_room() {
            self.responses.requests_wait();
            return;
        }
        // The next requests go where the last ones were, so that a steady client costs no allocation; what a burst took
        // is given back.
        spare.shrink_to(SPARE_REQUESTS);
        let requests = std::mem::replace(&mut self.waiting, spare);
        let job = Job::new(
            Arc::clone(&self.shared.handler),
            Arc::clone(&self.session),
            Arc::clone(&self.responses),
            requests,
        );
        // A job that is refused hands its requests back.
        let _ = self.shared.pool.spawn(move || job.run());
    }

    /// Encodes the answers that are there, in order, as far as the output has room. A value that has no room among
    /// the bytes in flight is not sent: only here is its size known, and many clients could ask for large ones and
    /// read none.
    fn encode(&mut self) {
        if self.streaming.is_none() {
            self.responses
                .drain(self.limits.output_bytes.saturating_sub(self.output.untaken().len()), &mut self.answers);
        }
        if !self.answers.is_empty() {
            let now = Instant::now();
            let mut answers = std::mem::take(&mut self.answers);
            for answered in answers.drain(..) {
                let request = self.pending.pop_front().expect("each answer has its request");
                if let Answered::Engine(Err(error)) = &answered
                    && error.is_fatal()
                {
                    self.shared.fatal.suspect();
                }
                if let Answered::Stream(parts) = answered {
                    // The last that was drained: its request is answered when its last part is.
                    self.streaming = Some(Streaming::new(parts, request));
                    continue;
                }
                let answer_bytes = answered.value_bytes();
                let mut body = request.operation.answer(answered);
                if answer_bytes > 0
                    && !request.operation.changes_what_it_reads()
                    && !self.lease.try_grow(self.used_bytes(self.frames.capacity_bytes()) + answer_bytes)
                {
                    body = Err(too_many_bytes());
                }
                self.write_answer(request, body, now);
            }
            self.answers = answers;
        }
        self.lease.record(self.used_bytes(self.frames.capacity_bytes()));
    }

    /// Writes the one answer, or the last part of the answer, to a request.
    fn write_answer(&mut self, request: Pending, body: Result<Answer, WireError>, now: Instant) {
        self.pending_bytes -= request.bytes;
        let took = now.duration_since(request.decoded);
        let code = body.as_ref().err().map(|error| error.code);
        self.shared.metrics.requests.answered(request.operation, &body, took);
        if let Err(error) = &body {
            self.shared.failed_requests.note(request.operation, error, || self.name_of(&request));
        }
        if took >= self.limits.slow_request {
            self.note_slow(&request, code, now);
        }
        match request.spelling {
            Spelling::Json(id) => Response { body, id }.encode(self.output.tail()),
            Spelling::Resp(reply) => {
                let resp = self.resp.as_mut().expect("what is spelled in RESP2 was read in RESP2");
                resp.replies.encode(reply, body, self.output.tail());
            }
        }
    }

    /// Remembers a request that took long, with where its time went.
    fn note_slow(&self, request: &Pending, error: Option<ErrorCode>, now: Instant) {
        let took = now.duration_since(request.decoded);
        let parts = self.responses.parts(request.token, request.decoded.into_std(), now.into_std()).within(took);
        let name = self.name_of(request);
        self.shared.metrics.requests.was_slow();
        self.shared.handler.slow_log().note(&SlowRequest { operation: request.operation, error, name, took, parts });
    }

    /// What a request is called in the log.
    fn name_of(&self, request: &Pending) -> RequestName {
        let id = match &request.spelling {
            Spelling::Json(id) => id.clone(),
            Spelling::Resp(_) => None,
        };
        RequestName { connection: self.number, request: request.token + 1, id }
    }

    /// What the connection uses, with a buffer of this size. `responses` counts by itself what it holds.
    fn used_bytes(&self, frame_bytes: usize) -> usize {
        frame_bytes + self.pending_bytes + self.output.capacity_bytes()
    }

    /// Why the connection is over, if all that it owes is sent.
    fn finished(&self) -> Option<Ending> {
        let owes = !self.pending.is_empty() || !self.output.is_empty() || self.streaming.is_some();
        self.ending.filter(|_| !owes)
    }

    /// Whether the client may send more now. Asks for memory when a long line needs it.
    fn may_read(&mut self) -> bool {
        // Asked first, whatever else there is: a pause that is over and kept would ring the alarm without end.
        let is_paused = self.is_paused();
        let room = self.ending.is_none()
            && !self.patience.is_tried()
            && !is_paused
            && self.may_take_requests()
            && self.output.untaken().len() < self.limits.output_bytes
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

    /// Whether nothing is to be read for a while.
    fn is_paused(&mut self) -> bool {
        if self.paused_until.is_some_and(|until| Instant::now() >= until) {
            (self.paused_until, self.refused) = (None, 0);
        }
        self.paused_until.is_some()
    }

    /// Takes note that a request is refused for want of bytes in flight.
    fn pause(&mut self, now: Instant) {
        self.refused += 1;
        self.paused_until = Some(now + IN_FLIGHT_PAUSE);
    }

    /// Closes so that the client gets the last answer: says that nothing more comes, and takes for a while what the
    /// client still sends, because closing with unread bytes would take back what was sent.
    async fn close(&mut self, ending: Ending) {
        // Inside TLS, what was written last may still have to be taken by the client.
        let said = tokio::time::timeout(self.limits.write_deadline, self.stream.shutdown()).await;
        if !matches!(said, Ok(Ok(()))) || ending == Ending::Client {
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
