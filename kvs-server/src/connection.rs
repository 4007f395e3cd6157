//! `Connection`: reads frames, gives batches to the pool, writes answers in order.
//!
//! What must hold:
//! * at most one job of a connection is with the pool, so its requests reach the engine in the order of their coming;
//! * whatever it holds is bounded: requests, their bytes, answers. At a bound it stops reading, so a client that does
//!   not read its answers is not read either;
//! * every wait has a deadline;
//! * a line that can't be read is answered, and then nothing more is read.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kvs_protocol::{ErrorCode, FrameBuffer, Request, RequestId, Response, WireError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::budget::Lease;
use crate::job::Job;
use crate::limits::{
    CONNECTION_ALLOWANCE_BYTES, FRAME_DEADLINE, FRAME_RATE_BYTES, IDLE_DEADLINE, IN_FLIGHT_DEADLINE, IN_FLIGHT_RETRY,
    LINGER_BYTES, LINGER_DEADLINE, MAX_OUTPUT_BYTES, MAX_PIPELINE_BYTES, MAX_PIPELINE_REQUESTS, WRITE_DEADLINE,
};
use crate::operation::{OperationName, payload_bytes};
use crate::protocol_choice::Protocol;
use crate::responses::{Answered, Asked, Responses};
use crate::shared::Shared;

/// What one pending request costs beside its key and value, in bytes: its places in the queues.
const REQUEST_OVERHEAD_BYTES: usize = 256;
/// How long a connection is quiet before it gives back what a burst made it take.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Why a connection ended; the label `reason` of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closed it.
    Client,
    /// The client sent what can't be read.
    Protocol,
    /// The client was idle, or too slow in sending a line.
    Timeout,
    /// The client did not read its answers.
    Unread,
    /// There was no memory for the client's large line.
    Busy,
    /// The server is ending.
    Drain,
    /// Reading or writing failed.
    Error,
}

impl Ending {
    pub(crate) const ALL: [Self; 7] =
        [Self::Client, Self::Protocol, Self::Timeout, Self::Unread, Self::Busy, Self::Drain, Self::Error];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Unread => "unread",
            Self::Busy => "busy",
            Self::Drain => "drain",
            Self::Error => "error",
        }
    }
}

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
    /// Encoded answers; those before `written` are sent.
    output: Vec<u8>,
    written: usize,
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

/// What a connection waits for.
enum Event {
    Read(usize),
    EndOfInput,
    Wrote(usize),
    /// Answers came, a job ended, or the server is ending.
    Woken,
    /// A deadline may have passed.
    Alarm,
    Failed(io::Error),
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
            output: Vec::new(),
            written: 0,
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
                    self.written += count;
                    if self.written == self.output.len() {
                        self.output.clear();
                        self.written = 0;
                    }
                    self.last_progress = Instant::now();
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
                Ok(_) if self.lease.is_too_much() => {
                    self.refuse(
                        WireError::new(ErrorCode::Busy, "too many bytes in flight; try again later").into(),
                        now,
                    );
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
            self.output = protocol.refusal();
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

    /// Encodes the answers that are there, in order, as far as the output has room.
    fn encode(&mut self) {
        let unwritten = self.output.len() - self.written;
        self.responses.drain(MAX_OUTPUT_BYTES.saturating_sub(unwritten), &mut self.answers);
        if !self.answers.is_empty() {
            let now = Instant::now();
            for answered in self.answers.drain(..) {
                let request = self.pending.pop_front().expect("each answer has its request");
                self.pending_bytes -= request.bytes;
                if let Answered::Engine(Err(error)) = &answered
                    && error.is_fatal()
                {
                    self.shared.fatal.suspect();
                }
                let body = request.operation.answer(answered);
                let took = now.duration_since(request.decoded);
                let code = body.as_ref().err().map(|error| error.code);
                self.shared.metrics.requests.answered(request.operation, code, took);
                Response { body, id: request.id }.encode(&mut self.output);
            }
        }
        self.lease.record(self.used_bytes(self.frames.capacity_bytes()));
    }

    /// What the connection uses, with a buffer of this size.
    fn used_bytes(&self, frame_bytes: usize) -> usize {
        frame_bytes + self.pending_bytes + self.output.capacity() + self.responses.held_bytes()
    }

    /// Why the connection is over, if all that it owes is sent.
    fn finished(&self) -> Option<Ending> {
        let owes = !self.pending.is_empty() || self.written < self.output.len();
        self.ending.filter(|_| !owes)
    }

    /// Whether the client may send more now. Asks for memory when a long line needs it.
    fn may_read(&mut self) -> bool {
        let room = self.ending.is_none()
            && self.pending.len() < MAX_PIPELINE_REQUESTS
            && self.pending_bytes < MAX_PIPELINE_BYTES
            && self.output.len() - self.written < MAX_OUTPUT_BYTES
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

    /// Writes, reads and listens, in this order.
    fn poll_event(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Event> {
        if self.written < self.output.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Event::Failed(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => return Poll::Ready(Event::Wrote(count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => {}
            }
        }
        if may_read {
            let mut space = ReadBuf::new(self.frames.space());
            match Pin::new(&mut self.stream).poll_read(context, &mut space) {
                Poll::Ready(Ok(())) if space.filled().is_empty() => return Poll::Ready(Event::EndOfInput),
                Poll::Ready(Ok(())) => return Poll::Ready(Event::Read(space.filled().len())),
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => {}
            }
        }
        self.responses.sleeps(context.waker());
        if self.has_work() {
            return Poll::Ready(Event::Woken);
        }
        let deadline = self.deadline();
        if deadline < self.alarm.deadline() {
            self.alarm.as_mut().reset(deadline);
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Event::Alarm)
    }

    /// Whether something happened between the last turn and going to sleep.
    fn has_work(&self) -> bool {
        let look = self.responses.look();
        let may_encode = look.is_ready && self.output.len() - self.written < MAX_OUTPUT_BYTES;
        let may_start = !look.has_job && (look.has_undone || !self.waiting.is_empty()) && self.responses.has_room();
        let may_end = self.responses.is_draining() && self.ending.is_none();
        may_encode || may_start || may_end
    }

    /// When the connection must be looked at again, whatever happens until then.
    fn deadline(&self) -> Instant {
        if self.starved.is_some() {
            return Instant::now() + IN_FLIGHT_RETRY;
        }
        self.patience().0
    }

    /// Until when the client has time for what it is to do now, and how the connection ends otherwise.
    fn patience(&self) -> (Instant, Ending) {
        if self.written < self.output.len() {
            return (self.last_progress + WRITE_DEADLINE, Ending::Unread);
        }
        if !self.pending.is_empty() {
            // The engine is at work; the client owes nothing.
            return (Instant::now() + IDLE_DEADLINE, Ending::Timeout);
        }
        if let Some(began) = self.line_began {
            let bonus = Duration::from_secs((self.frames.pending().len() / FRAME_RATE_BYTES) as u64);
            return (began + FRAME_DEADLINE + bonus, Ending::Timeout);
        }
        let trim = self.used_bytes(self.frames.capacity_bytes()) > CONNECTION_ALLOWANCE_BYTES;
        (self.last_progress + if trim { TRIM_AFTER } else { IDLE_DEADLINE }, Ending::Timeout)
    }

    /// Looks which deadline has passed; gives how the connection ends, if it ends without a further word.
    fn alarm_rang(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let (deadline, ending) = self.patience();
        self.alarm.as_mut().reset(deadline.max(now + IN_FLIGHT_RETRY));
        if let Some(since) = self.starved {
            if now.duration_since(since) > IN_FLIGHT_DEADLINE {
                let message = "too many bytes in flight for a line of this length; connect again later";
                self.refuse(WireError::new(ErrorCode::Busy, message).into(), now);
                self.starved = None;
                self.ending = Some(Ending::Busy);
            }
            return None;
        }
        if now < deadline {
            return None;
        }
        if ending == Ending::Unread {
            return Some(ending);
        }
        if self.line_began.is_some() {
            let message = format!("a line must end within {} s; the connection is closed", FRAME_DEADLINE.as_secs());
            self.refuse(WireError::new(ErrorCode::Timeout, message).into(), now);
            self.ending = Some(Ending::Timeout);
            return None;
        }
        if self.last_progress + IDLE_DEADLINE <= now {
            return Some(ending);
        }
        self.trim();
        None
    }

    /// Gives back what a burst of requests made the connection take.
    fn trim(&mut self) {
        self.frames.trim();
        self.output = Vec::new();
        self.written = 0;
        self.waiting.shrink_to_fit();
        self.pending.shrink_to_fit();
        self.answers.shrink_to_fit();
        self.responses.trim();
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
