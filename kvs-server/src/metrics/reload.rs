//! How the last reload of the configuration went.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::IntGauge;

use super::registry::Builder;
use super::{catalogue, int};

/// What is kept of the last reload.
#[derive(Clone)]
pub(crate) struct ReloadMetrics {
    successful: IntGauge,
    succeeded_at: IntGauge,
}

impl ReloadMetrics {
    /// The start counts as the first one.
    pub(super) fn new(builder: &Builder) -> Self {
        let metrics = Self {
            successful: builder.gauge(&catalogue::CONFIG_RELOAD_SUCCESSFUL),
            succeeded_at: builder.gauge(&catalogue::CONFIG_RELOAD_SUCCESS_TIME),
        };
        metrics.ended(true);
        metrics
    }

    /// A reload ended.
    pub(crate) fn ended(&self, well: bool) {
        self.successful.set(i64::from(well));
        if well {
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.succeeded_at.set(int(since_1970.as_secs()));
        }
    }
}
