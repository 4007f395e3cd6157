//! How a connection waits: for the socket, for answers, for a deadline.
//!
//! What must hold: between looking for work and going to sleep nothing is missed; every wait has an end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kvs_protocol::{ErrorCode, WireError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::output::time_for;
use super::{Connection, Ending};
use crate::limits::{
    CONNECTION_ALLOWANCE_BYTES, FRAME_DEADLINE, IDLE_DEADLINE, IN_FLIGHT_DEADLINE, IN_FLIGHT_RETRY, MAX_OUTPUT_BYTES,
};

/// How long a connection is quiet before it gives back what a burst made it take.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// What a connection waits for.
pub(super) enum Event {
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
    /// Writes, reads and listens, in this order.
    pub(super) fn poll_event(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Event> {
        if !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.output.untaken()) {
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
        if !self.output.is_empty() {
            self.output.is_blocked(Instant::now());
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
        let may_encode = look.is_ready && self.output.untaken().len() < MAX_OUTPUT_BYTES;
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
        if let Some(deadline) = self.output.deadline() {
            return (deadline, Ending::Unread);
        }
        if !self.pending.is_empty() {
            // The engine is at work; the client owes nothing.
            return (Instant::now() + IDLE_DEADLINE, Ending::Timeout);
        }
        if let Some(began) = self.line_began {
            return (began + FRAME_DEADLINE + time_for(self.frames.pending().len()), Ending::Timeout);
        }
        let trim = self.used_bytes(self.frames.capacity_bytes()) > CONNECTION_ALLOWANCE_BYTES;
        (self.last_progress + if trim { TRIM_AFTER } else { IDLE_DEADLINE }, Ending::Timeout)
    }

    /// Looks which deadline has passed; gives how the connection ends, if it ends without a further word.
    pub(super) fn alarm_rang(&mut self) -> Option<Ending> {
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
        self.output.trim();
        self.waiting.shrink_to_fit();
        self.pending.shrink_to_fit();
        self.answers.shrink_to_fit();
        self.responses.trim();
    }
}
