//! `Outcome`: what became of the requests of one group.

use std::time::Duration;

use crate::histogram::Histogram;

/// How long one place of [`Outcome::worst_ns`] lasts.
pub const SLOT: Duration = Duration::from_millis(100);

/// What became of the requests of one group of connections.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Requests that were done, answered before the time was over.
    pub done: u64,
    /// Requests that were done, answered after the time was over.
    pub late: u64,
    /// Gets of keys that were not there; they count as done, too.
    pub missing: u64,
    /// Requests that were answered `busy`.
    pub busy: u64,
    /// Requests that were answered with another error.
    pub errors: u64,
    /// The first of these answers.
    pub refusal: Option<String>,
    /// Requests that were sent and not answered until some time after the end.
    pub unanswered: u64,
    /// Requests that were due and could not be sent: every connection had as many under way as it may.
    pub unsent: u64,
    /// Connections that the server closed.
    pub closed: u64,
    /// How long it lasted, in seconds.
    pub seconds: f64,
    /// Latencies of requests that were done, in nanoseconds, from when each was due.
    pub latency: Histogram,
    /// The longest latency of the requests that were due in each [`SLOT`], in nanoseconds.
    pub worst_ns: Vec<u64>,
}

impl Outcome {
    /// Requests done in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// A quantile of the latencies, in microseconds.
    #[must_use]
    pub fn latency_us(&self, share: f64) -> f64 {
        self.latency.quantile(share) as f64 / 1e3
    }

    /// The longest latency of the requests that were due from a moment on, in microseconds.
    #[must_use]
    pub fn worst_us_from(&self, moment: Duration) -> f64 {
        let first = usize::try_from(moment.as_nanos() / SLOT.as_nanos()).unwrap_or(usize::MAX);
        self.worst_ns.iter().skip(first).copied().max().unwrap_or(0) as f64 / 1e3
    }

    /// What did not go as a load without trouble should; `None` when all did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let Self { busy, errors, unanswered, closed, .. } = self;
        let is_clean = busy + errors + unanswered + closed == 0 && self.done > 0;
        (!is_clean).then(|| {
            let refusal = self.refusal.as_deref().unwrap_or_default();
            format!(
                "{} done, {busy} busy, {errors} errors, {unanswered} unanswered, {closed} closed {refusal}",
                self.done
            )
        })
    }

    pub(crate) fn note_latency(&mut self, due_ns: u64, latency_ns: u64) {
        self.latency.record(latency_ns);
        let slot = usize::try_from(u128::from(due_ns) / SLOT.as_nanos()).expect("a run is short");
        if self.worst_ns.len() <= slot {
            self.worst_ns.resize(slot + 1, 0);
        }
        self.worst_ns[slot] = self.worst_ns[slot].max(latency_ns);
    }
}
