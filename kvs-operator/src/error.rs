//! The one error of the operator's talks with the API server. Each variant says who must act.

use std::future::Future;
use std::time::Duration;

/// The longest that one call may take. The API server itself gives up after 60 s; a reconcile that waits so long keeps
/// a place of the bounded concurrency, while a retry with back-off keeps none.
pub const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Why a reconcile could not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer. Nobody must act unless it lasts: the reconcile is tried again.
    #[error("{action}: no answer from the API server within {} s", CALL_LIMIT.as_secs())]
    TimedOut {
        /// What was being done.
        action: String,
    },

    /// The API server answered with an error, or could not be reached.
    #[error("{action}: {}", in_words(source))]
    Api {
        /// What was being done.
        action: String,
        /// What it answered.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Error {
    /// Whether the same call will be refused again until a person changes something: the store, a quota, a right.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        // Not found and conflict pass with the next observation, too many requests with time.
        self.status_code().is_some_and(|code| (400..500).contains(&code) && !matches!(code, 404 | 408 | 409 | 429))
    }

    /// Whether the API server finds the object itself wrong, so that the store must be changed.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.status_code() == Some(422)
    }

    /// Whether someone else changed the object in between, so that another look at it is all that is needed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status_code() == Some(409)
    }

    /// One word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.status_code() {
            None if matches!(self, Self::TimedOut { .. }) => "timeout",
            None => "unreachable",
            Some(401 | 403) => "forbidden",
            Some(404) => "notFound",
            Some(409) => "conflict",
            Some(400 | 422) => "invalid",
            Some(429) => "throttled",
            Some(500..) => "server",
            Some(_) => "other",
        }
    }

    /// The HTTP status of the API server's answer.
    fn status_code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }
}

/// What the API server says in words; kube's own form repeats it with every field of the answer.
fn in_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Makes one call to the API server, within [`CALL_LIMIT`].
///
/// # Errors
/// With what was being done, when there is no answer or it is an error.
pub async fn in_time<T>(action: String, call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Api { action, source: Box::new(source) }),
        Err(_elapsed) => Err(Error::TimedOut { action }),
    }
}
