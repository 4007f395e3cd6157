//! `Election`: who leads, from what the API server answers and from this process's own clock.
//!
//! What must hold: it is pure, time and answers are passed in;
//! * a process believes that it leads until `renew_deadline` after it **sent** the last write that was confirmed, and nobody
//!   takes the Lease before `duration` after it **received** word of that write or a later one. Sent comes before
//!   received and the deadline before the duration, so two never believe it at once;
//! * the times in the Lease are for people. They are written, never compared: clocks of two machines may differ by hours;
//! * each write names the version that was seen, so that of two candidates the API server lets one through;
//! * an answer that was lost says nothing, so only a confirmed write makes a leader;
//! * each renewal differs from the one before: the API server does not store an equal one, and nobody would see it.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ObjectMeta;

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the others wait after the last sign of life.
    pub duration: Duration,
    /// How long after its last confirmed sign of life a leader may act.
    pub renew_deadline: Duration,
    /// Between two signs of life, and between two tries of a call that failed.
    pub retry: Duration,
    /// Between two looks of one who waits. Shorter than `retry`, so that a Lease which is given back is taken in a second.
    pub look: Duration,
}

impl Timing {
    /// What Kubernetes' own components use: a leader that dies is followed within 17 s, and a network that is away for
    /// less than 10 s changes nothing.
    pub const USUAL: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        look: Duration::from_secs(1),
    };
}

/// Before another try after someone else was faster: long enough for the winner's write to be seen.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);

/// A call to the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Read the Lease.
    Read,
    /// Make it.
    Create(Box<Lease>),
    /// Replace it, if it still has the version that its metadata names.
    Replace(Box<Lease>),
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The Lease as it is now: what was read, or what was written.
    Found(Box<Lease>),
    /// There is none.
    Absent,
    /// The write came too late: the Lease has another version, or exists already.
    Conflict,
    /// No answer, or one that does not tell whether the call took effect.
    Lost,
}

/// One process's part in an election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    known: Known,
    /// When the last write was sent that the API server confirmed and that made this process the holder.
    confirmed: Option<Instant>,
    /// When the next call is due.
    due: Instant,
}

/// What is known of the Lease.
#[derive(Debug)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// There was none.
    Absent,
    /// This one.
    Lease {
        lease: Box<Lease>,
        /// When this version was first received.
        since: Instant,
        /// Whether a write under its version makes sense. After a conflict or a lost answer it must be read anew.
        is_current: bool,
    },
}

impl Election {
    /// A candidate that has not looked yet. No other may have the same identity while this one lives.
    #[must_use]
    pub fn new(identity: String, timing: Timing, now: Instant) -> Self {
        Self { identity, timing, known: Known::Nothing, confirmed: None, due: now }
    }

    /// When the next call is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Until when this process may act as the leader; `None` when it does not lead. At that time it must have stopped.
    #[must_use]
    pub fn leads_until(&self) -> Option<Instant> {
        self.confirmed.map(|sent| sent + self.timing.renew_deadline)
    }

    /// Who holds the Lease, as far as is known.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::Lease { lease, .. } => holder(lease),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// The call to make at `now`. `clock` is the time of day, which goes into the Lease for people to read.
    #[must_use]
    pub fn call(&self, now: Instant, clock: &MicroTime) -> Call {
        match &self.known {
            Known::Nothing | Known::Lease { is_current: false, .. } => Call::Read,
            Known::Absent => Call::Create(Box::new(self.held(&Lease::default(), clock))),
            Known::Lease { lease, since, .. } if self.may_write(lease, *since, now) => {
                Call::Replace(Box::new(self.held(lease, clock)))
            }
            Known::Lease { .. } => Call::Read,
        }
    }

    /// The call that gives the Lease back; `None` when this process does not hold it as far as it knows.
    #[must_use]
    pub fn release(&self, clock: &MicroTime) -> Option<Call> {
        let Known::Lease { lease, is_current, .. } = &self.known else { return None };
        if !is_current {
            return Some(Call::Read);
        }
        if holder(lease) != Some(self.identity.as_str()) {
            return None;
        }
        let mut released = lease.as_ref().clone();
        let spec = released.spec.get_or_insert_default();
        spec.holder_identity = None;
        // The API server wants at least 1; nobody waits for a Lease without a holder.
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(different(clock, spec.renew_time.as_ref()));
        Some(Call::Replace(Box::new(released)))
    }

    /// Takes what became of a call that was sent and whose answer was received at these times.
    pub fn answered(&mut self, call: &Call, sent: Instant, received: Instant, answer: Answer) {
        match answer {
            Answer::Found(lease) => {
                let is_ours = holder(&lease) == Some(self.identity.as_str());
                match call {
                    Call::Create(_) | Call::Replace(_) if is_ours => self.confirmed = Some(sent),
                    // Read as ours: a write whose answer was lost, or an earlier life. The next write confirms it.
                    Call::Read if is_ours => {}
                    _ => self.confirmed = None,
                }
                self.remember(lease, received);
                self.due = received + self.pause(call, received);
            }
            Answer::Absent => {
                // Someone deleted it, so anyone may have it.
                self.confirmed = None;
                self.known = Known::Absent;
                self.due = received;
            }
            Answer::Conflict => {
                self.doubt();
                self.due = received + AFTER_CONFLICT;
            }
            Answer::Lost => {
                if !matches!(call, Call::Read) {
                    self.doubt();
                }
                self.due = received + self.timing.retry;
            }
        }
    }

    /// What is known may be out of date.
    fn doubt(&mut self) {
        match &mut self.known {
            Known::Lease { is_current, .. } => *is_current = false,
            known @ (Known::Absent | Known::Nothing) => *known = Known::Nothing,
        }
    }

    /// Keeps the time at which a version was first received.
    fn remember(&mut self, lease: Box<Lease>, received: Instant) {
        let since = match &self.known {
            // By version and not by content: whatever changed it may be a sign of life.
            Known::Lease { lease: before, since, .. }
                if before.metadata.uid == lease.metadata.uid
                    && before.metadata.resource_version == lease.metadata.resource_version =>
            {
                *since
            }
            _ => received,
        };
        self.known = Known::Lease { lease, since, is_current: true };
    }

    /// How long to wait after a call that was answered with the Lease.
    fn pause(&self, call: &Call, now: Instant) -> Duration {
        let Known::Lease { lease, since, .. } = &self.known else { return Duration::ZERO };
        if !matches!(call, Call::Read) {
            return self.timing.retry;
        }
        if self.may_write(lease, *since, now) {
            return Duration::ZERO;
        }
        let expiry = *since + self.expiry(lease);
        self.timing.look.min(expiry.saturating_duration_since(now))
    }

    /// Whether the Lease is this process's, nobody's, or of someone who gave no sign of life for too long.
    fn may_write(&self, lease: &Lease, since: Instant, now: Instant) -> bool {
        match holder(lease) {
            None => true,
            Some(holder) => holder == self.identity || now >= since + self.expiry(lease),
        }
    }

    /// How long a holder's last sign of life counts: what it promised, and not less than what we promise.
    fn expiry(&self, lease: &Lease) -> Duration {
        let promised = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        self.timing.duration.max(Duration::from_secs(u64::try_from(promised).unwrap_or(0)))
    }

    /// The Lease with this process as its holder.
    fn held(&self, lease: &Lease, clock: &MicroTime) -> Lease {
        let before = lease.spec.clone().unwrap_or_default();
        let goes_on = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!goes_on));
        let is_new = lease.metadata.resource_version.is_none();
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta { managed_fields: None, ..lease.metadata.clone() },
            spec: Some(LeaseSpec {
                acquire_time: if goes_on { before.acquire_time.clone() } else { Some(clock.clone()) },
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(seconds.max(1)),
                lease_transitions: Some(if is_new { 0 } else { transitions }),
                renew_time: Some(different(clock, before.renew_time.as_ref())),
                ..before
            }),
        }
    }
}

/// The holder; an empty name is none.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The time of day, or the next microsecond where the clock stands still.
fn different(clock: &MicroTime, before: Option<&MicroTime>) -> MicroTime {
    // The Lease keeps no more than microseconds.
    if before.is_none_or(|before| before.0.as_microsecond() != clock.0.as_microsecond()) {
        return clock.clone();
    }
    MicroTime(clock.0.checked_add(SignedDuration::from_micros(1)).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests;
