//! `FailedRequests`: what the server could not do, in its own log: which request, by the numbers of its connection and its own
//! and by what its client calls it, so that a line can be found that a client logged.
//!
//! What must hold: no key and no value stands in a line; of each code one line in ten seconds, whatever happens.

use kvs_engine::Repeated;
use kvs_protocol::{ErrorCode, RequestId, WireError};

use crate::metrics::is_failure;
use crate::operation::OperationName;

/// Which request of which connection.
#[derive(Debug, Clone)]
pub(crate) struct RequestName {
    /// Counts the connections since the start.
    pub(crate) connection: u64,
    /// Counts the requests of the connection, from 1.
    pub(crate) request: u64,
    /// What the client calls it.
    pub(crate) id: Option<RequestId>,
}

/// What was logged of each code.
#[derive(Debug)]
pub(crate) struct FailedRequests(Vec<(ErrorCode, Repeated)>);

impl Default for FailedRequests {
    fn default() -> Self {
        Self(ErrorCode::ALL.iter().map(|code| (*code, Repeated::default())).collect())
    }
}

impl FailedRequests {
    /// Logs now and then that requests failed, if it is the server's fault and not its end.
    pub(crate) fn note(&self, operation: OperationName, error: &WireError, name: impl FnOnce() -> RequestName) {
        if !is_failure(error.code) || error.code == ErrorCode::ShuttingDown {
            return;
        }
        let repeated = self.0.iter().find(|(code, _)| *code == error.code);
        let Some(failed) = repeated.and_then(|(_, repeated)| repeated.count()) else { return };
        let RequestName { connection, request, id } = name();
        let (op, code, id) = (operation.as_str(), error.code.as_str(), id.as_ref().map(tracing::field::display));
        // It passes when there is less to do, or more space.
        let is_for_a_while = matches!(error.code, ErrorCode::Busy | ErrorCode::NoSpace);
        let error = error.message.as_str();
        if is_for_a_while {
            tracing::warn!(
                failed,
                op,
                code,
                connection,
                request,
                id,
                error,
                "requests could not be done; the last is told"
            );
        } else {
            tracing::error!(failed, op, code, connection, request, id, error, "requests failed; the last is told");
        }
    }
}
