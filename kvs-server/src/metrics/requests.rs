//! Requests by operation and outcome, and how long they took.

use std::time::Duration;

use kvs_protocol::ErrorCode;
use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::catalogue;
use super::registry::Builder;
use crate::operation::OperationName;

/// What is counted for every request.
pub(crate) struct RequestMetrics {
    /// In the order of [`OperationName::ALL`].
    operations: Vec<OperationMetrics>,
    requests: IntCounterVec,
}

struct OperationMetrics {
    done: IntCounter,
    duration: Histogram,
}

impl RequestMetrics {
    pub(super) fn new(builder: &Builder) -> Self {
        let requests = builder.counters(&catalogue::REQUESTS);
        let durations = builder.histograms(&catalogue::REQUEST_DURATION);
        let operations = OperationName::ALL
            .iter()
            .map(|name| OperationMetrics {
                done: requests.with_label_values(&[name.as_str(), "ok"]),
                duration: durations.with_label_values(&[name.as_str()]),
            })
            .collect();
        Self { operations, requests }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, operation: OperationName, error: Option<ErrorCode>, took: Duration) {
        let metrics = &self.operations[operation as usize];
        metrics.duration.observe(took.as_secs_f64());
        match error {
            None => metrics.done.inc(),
            // Errors are few, so that a look-up by text is cheap enough.
            Some(code) => self.requests.with_label_values(&[operation.as_str(), code.as_str()]).inc(),
        }
    }
}
