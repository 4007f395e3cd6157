//! Requests by operation and outcome, and how long they took.
//!
//! What must hold: nothing is looked up by a label's text on the way of a request that is done; every series is there from
//! the first scrape on, so that a rate sees the first of each.

use std::time::Duration;

use kvs_protocol::{Answer, ErrorCode, WireError};
use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::catalogue;
use super::registry::Builder;
use crate::operation::OperationName;
use crate::protocol_choice::Protocol;

/// What is counted for every request.
pub(crate) struct RequestMetrics {
    /// In the order of [`OperationName::ALL`].
    operations: Vec<OperationMetrics>,
    errors: IntCounterVec,
    hits: IntCounter,
    misses: IntCounter,
    slow: IntCounter,
    json_frames: IntCounter,
    resp_frames: IntCounter,
}

struct OperationMetrics {
    /// In the order of [`Outcome`].
    outcomes: [IntCounter; 3],
    duration: Histogram,
}

/// What became of a request, as the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// The client must act: it asked for what is not there, is not allowed or makes no sense.
    Refused,
    /// The server could not do what it is there for.
    Failed,
}

/// Whether a code says that the server could not do what it is there for.
pub(crate) const fn is_failure(code: ErrorCode) -> bool {
    matches!(Outcome::of(Some(code)), Outcome::Failed)
}

impl Outcome {
    const LABELS: [&'static str; 3] = ["ok", "refused", "failed"];

    const fn of(code: Option<ErrorCode>) -> Self {
        match code {
            None => Self::Ok,
            Some(
                ErrorCode::Busy
                | ErrorCode::NoSpace
                | ErrorCode::ShuttingDown
                | ErrorCode::Poisoned
                | ErrorCode::Corruption
                | ErrorCode::Internal
                | ErrorCode::Other,
            ) => Self::Failed,
            Some(
                ErrorCode::KeyNotFound
                | ErrorCode::InvalidRequest
                | ErrorCode::UnknownVerb
                | ErrorCode::Unauthenticated
                | ErrorCode::Forbidden
                | ErrorCode::NotSupported
                | ErrorCode::TooLarge
                | ErrorCode::Malformed
                | ErrorCode::WrongProtocol
                | ErrorCode::Timeout,
            ) => Self::Refused,
        }
    }
}

impl RequestMetrics {
    pub(super) fn new(builder: &Builder) -> Self {
        let requests = builder.counters(&catalogue::REQUESTS);
        let durations = builder.histograms(&catalogue::REQUEST_DURATION);
        let errors = builder.counters(&catalogue::REQUEST_ERRORS);
        ErrorCode::ALL.iter().for_each(|code| drop(errors.with_label_values(&[code.as_str()])));
        let operations = OperationName::ALL
            .iter()
            .map(|name| OperationMetrics {
                outcomes: Outcome::LABELS.map(|outcome| requests.with_label_values(&[name.as_str(), outcome])),
                duration: durations.with_label_values(&[name.duration_label()]),
            })
            .collect();
        let reads = builder.counters(&catalogue::READS);
        let frames = builder.counters(&catalogue::FRAMES);
        Self {
            operations,
            errors,
            hits: reads.with_label_values(&["hit"]),
            misses: reads.with_label_values(&["miss"]),
            slow: builder.counter(&catalogue::SLOW_REQUESTS),
            json_frames: frames.with_label_values(&["json"]),
            resp_frames: frames.with_label_values(&["resp"]),
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, operation: OperationName, body: &Result<Answer, WireError>, took: Duration) {
        match (operation, body) {
            (OperationName::Get, Ok(Answer::Null)) => self.misses.inc(),
            (OperationName::Get, Ok(_)) => self.hits.inc(),
            _ => {}
        }
        self.ended(operation, body.as_ref().err().map(|error| error.code), took);
    }

    /// A request ended, with an error of this code or without one.
    pub(crate) fn ended(&self, operation: OperationName, error: Option<ErrorCode>, took: Duration) {
        let metrics = &self.operations[operation as usize];
        metrics.duration.observe(took.as_secs_f64());
        metrics.outcomes[Outcome::of(error) as usize].inc();
        if let Some(code) = error {
            // Errors are few, so that a look-up by text is cheap enough.
            self.errors.with_label_values(&[code.as_str()]).inc();
        }
    }

    /// Requests by outcome: ok, refused, failed.
    pub(super) fn totals(&self) -> [u64; 3] {
        [0, 1, 2].map(|outcome| self.operations.iter().map(|operation| operation.outcomes[outcome].get()).sum())
    }

    /// The durations of operations that have a histogram of their own.
    pub(super) fn durations(&self) -> impl Iterator<Item = &Histogram> {
        let of_keys = |(name, _): &(&OperationName, _)| name.duration_label() == name.as_str();
        OperationName::ALL.iter().zip(&self.operations).filter(of_keys).map(|(_, operation)| &operation.duration)
    }

    /// A request took longer than the slow log's limit.
    pub(crate) fn was_slow(&self) {
        self.slow.inc();
    }

    /// So many whole requests were read.
    pub(crate) fn received(&self, protocol: Protocol, count: u64) {
        match protocol {
            Protocol::Resp => self.resp_frames.inc_by(count),
            _ => self.json_frames.inc_by(count),
        }
    }
}
