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
use super::streaming::Part;
use super::{Connection, Ending};
use crate::limits::{CONNECTION_ALLOWANCE_BYTES, IN_FLIGHT_DEADLINE, IN_FLIGHT_RETRY};

/// How long a connection is quiet before it gives back what a burst made it take.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// What a connection waits for.
pub(super) enum Event {
    Read(usize),
    EndOfInput,
    Wrote(usize),
    /// Answers came, a job ended, or the server is ending.
    Woken,
    /// The next part of an answer of many responses.
    Part(Part),
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
        } else if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
            // Inside TLS, what is written is not sent yet.
            return Poll::Ready(Event::Failed(error));
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
        if let Poll::Ready(part) = self.poll_part(context) {
            return Poll::Ready(Event::Part(part));
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
        let may_encode =
            look.is_ready && self.streaming.is_none() && self.output.untaken().len() < self.limits.output_bytes;
        let has_more = look.was_refused || look.has_undone || !self.waiting.is_empty();
        let may_ask = has_more && self.responses.has_room() && self.patience.may_ask(Instant::now);
        // A job may have ended before anybody listened, with all its answers taken: then it has left nothing but this.
        let may_start = !look.has_job && (may_ask || self.patience.has_asked());
        let may_end = self.responses.is_draining() && self.ending.is_none();
        // A token can be revoked, which gives the client a deadline.
        let may_become_known = self.session.is_stranger() != self.stranger_since.is_some();
        may_encode || may_start || may_end || may_become_known
    }

    /// When the connection must be looked at again, whatever happens until then.
    fn deadline(&self) -> Instant {
        if self.starved.is_some() {
            return Instant::now() + IN_FLIGHT_RETRY;
        }
        let again = [self.patience.asks_again(), self.paused_until].into_iter().flatten().min();
        again.unwrap_or_else(|| self.time_left().0)
    }

    /// Until when the client has time for what it is to do now, and how the connection ends otherwise.
    fn time_left(&self) -> (Instant, Ending) {
        let (deadline, ending) = self.time_left_for_progress();
        match self.stranger_since.map(|since| since + self.limits.auth_deadline) {
            Some(stranger) if stranger <= deadline => (stranger, Ending::Unauthenticated),
            _ => (deadline, ending),
        }
    }

    /// The same, for whoever the client is.
    fn time_left_for_progress(&self) -> (Instant, Ending) {
        if let Some(deadline) = self.output.deadline(self.limits.write_deadline) {
            return (deadline, Ending::Unread);
        }
        if !self.pending.is_empty() || self.streaming.is_some() {
            // The engine is at work; the client owes nothing.
            return (Instant::now() + self.limits.idle_deadline, Ending::Timeout);
        }
        if let Some(began) = self.line_began {
            return (began + self.limits.frame_deadline + time_for(self.frames.pending().len()), Ending::Timeout);
        }
        let trim = self.used_bytes(self.frames.capacity_bytes()) > CONNECTION_ALLOWANCE_BYTES;
        (self.last_progress + if trim { TRIM_AFTER } else { self.limits.idle_deadline }, Ending::Timeout)
    }

    /// Looks which deadline has passed; gives how the connection ends, if it ends without a further word.
    pub(super) fn alarm_rang(&mut self) -> Option<Ending> {
        let now = Instant::now();
        let (deadline, ending) = self.time_left();
        self.alarm.as_mut().reset(deadline.max(now + IN_FLIGHT_RETRY));
        if let Some(since) = self.starved {
            if now.duration_since(since) > IN_FLIGHT_DEADLINE {
                let message = "too many bytes in flight for a line of this length; connect again later";
                self.end_with(WireError::new(ErrorCode::Busy, message), now);
                self.starved = None;
                self.ending = Some(Ending::Busy);
            }
            return None;
        }
        if now < deadline {
            return None;
        }
        if matches!(ending, Ending::Unread | Ending::Unauthenticated) {
            return Some(ending);
        }
        if self.line_began.is_some() {
            let message =
                format!("a line must end within {} s; the connection is closed", self.limits.frame_deadline.as_secs());
            self.end_with(WireError::new(ErrorCode::Timeout, message), now);
            self.ending = Some(Ending::Timeout);
            return None;
        }
        if self.last_progress + self.limits.idle_deadline <= now {
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
        self.opening.trim();
        self.responses.trim();
    }
}
