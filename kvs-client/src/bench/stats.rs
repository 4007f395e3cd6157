//! `Stats`: what a benchmark counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kvs_protocol::ErrorCode;

/// The longest latency that is told apart, in nanoseconds: an hour. Longer ones count as that.
const HIGHEST_NANOSECONDS: u64 = 3_600_000_000_000;
/// Decimal digits that are kept of a latency: half a percent of error is less than runs differ by.
const DIGITS: u8 = 2;

/// One request with its answer.
pub(super) struct Sample {
    /// When it was due; in a closed loop, when it was sent.
    pub(super) due: Instant,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) reads: bool,
    pub(super) error: Option<ErrorCode>,
}

/// Counts and latencies.
pub(super) struct Stats {
    /// What was due before is warming up.
    begin: Instant,
    end: Option<Instant>,
    /// From due to answered, in nanoseconds.
    pub(super) reads: Histogram<u64>,
    /// From due to answered, in nanoseconds.
    pub(super) sets: Histogram<u64>,
    /// From sent to answered, in nanoseconds.
    pub(super) service: Histogram<u64>,
    /// From due to answered since the last live line, in nanoseconds.
    interval: Histogram<u64>,
    interval_begin: Instant,
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// Requests that were due and not sent until the end.
    pub(super) unsent: u64,
}

impl Stats {
    /// Counts what is due from this moment on.
    pub(super) fn new(begin: Instant) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, HIGHEST_NANOSECONDS, DIGITS).expect("the bounds are in order, the digits few")
        };
        Self {
            begin,
            end: None,
            reads: histogram(),
            sets: histogram(),
            service: histogram(),
            interval: histogram(),
            interval_begin: Instant::now(),
            errors: BTreeMap::new(),
            unsent: 0,
        }
    }

    /// Takes note of an answer.
    pub(super) fn record(&mut self, sample: &Sample) {
        let Sample { due, sent, answered, reads, error } = *sample;
        let latency = nanoseconds(answered - due);
        self.interval.saturating_record(latency);
        if due < self.begin || self.end.is_some_and(|end| due >= end) {
            return;
        }
        if let Some(code) = error {
            *self.errors.entry(code.as_str()).or_default() += 1;
            return;
        }
        if reads { &mut self.reads } else { &mut self.sets }.saturating_record(latency);
        self.service.saturating_record(nanoseconds(answered - sent));
    }

    /// The measurement ends now; so many requests were due and not sent.
    pub(super) fn end(&mut self, unsent: u64) {
        self.end = Some(Instant::now());
        self.unsent = unsent;
    }

    /// How long was measured.
    pub(super) fn elapsed(&self) -> Duration {
        self.end.unwrap_or_else(Instant::now).saturating_duration_since(self.begin)
    }

    /// Errors of all kinds.
    pub(super) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The last second in one line, and a new second.
    pub(super) fn live_line(&mut self) -> String {
        let now = Instant::now();
        let seconds = (now - self.interval_begin).as_secs_f64().max(0.001);
        let rate = self.interval.len() as f64 / seconds;
        let at = |quantile| self.interval.value_at_quantile(quantile) as f64 / 1e6;
        let phase = if now < self.begin { "warming up" } else { "measuring" };
        let line = format!(
            "{phase}: {rate:.0}/s, p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms, {} errors",
            at(0.5),
            at(0.99),
            at(1.0),
            self.error_count(),
        );
        self.interval.reset();
        self.interval_begin = now;
        line
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_before_sending_is_part_of_the_latency() {
        let begin = Instant::now();
        let mut stats = Stats::new(begin);
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        for number in 0..100 {
            // A stall of 100 ms: all requests that were due meanwhile are sent and answered at its end.
            let sample = Sample { due: at(number), sent: at(100), answered: at(101), reads: true, error: None };
            stats.record(&sample);
        }
        let (p50, service) = (stats.reads.value_at_quantile(0.5), stats.service.value_at_quantile(1.0));
        assert!((45_000_000..=55_000_000).contains(&p50), "{p50}");
        assert!(service < 1_100_000, "{service}");
    }

    #[test]
    fn what_was_due_before_or_after_is_not_counted() {
        let begin = Instant::now() + Duration::from_secs(10);
        let mut stats = Stats::new(begin);
        let early = Instant::now();
        stats.record(&Sample { due: early, sent: early, answered: begin, reads: false, error: None });
        let error = Some(ErrorCode::Busy);
        stats.record(&Sample { due: begin, sent: begin, answered: begin, reads: false, error });
        assert_eq!((stats.sets.len(), stats.errors.get("busy"), stats.error_count()), (0, Some(&1), 1));
    }
}
