//! `KubectlError`: why a command about a store's objects failed. Each variant says what to do next.

use std::time::Duration;

use super::cluster::Right;
use crate::store::with_sources;

/// Why a command about a store's objects failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum KubectlError {
    /// A right is missing. The cluster's administrator must give it, or the user do without.
    #[error("not allowed: it takes {right} {place}; ask the cluster's administrator for it ({message})")]
    NoRight { right: Right, place: String, message: String },

    /// The object is not there. The name is wrong, or it is gone.
    #[error(
        "there is no {what} in namespace {namespace}; `kubectl --namespace {namespace} get {plural}` lists those that are"
    )]
    NotFound { what: String, namespace: String, plural: &'static str },

    /// The resource is unknown to the cluster.
    #[error("this cluster does not know {plural}; install the chart kvs-operator first, or name another --context")]
    NotInstalled { plural: &'static str },

    /// The API server refused what was to be written.
    #[error("the API server refused to {right}: {message}")]
    Refused { right: Right, message: String },

    /// The API server can't be reached, or failed.
    #[error("cannot {right}: {cause}; check the cluster with `kubectl get nodes`")]
    Api { right: Right, cause: String },

    /// The API server does not answer.
    #[error("cannot {right}: no answer from the API server within {} s; check the cluster with `kubectl get nodes`, or raise --timeout", limit.as_secs())]
    Silent { right: Right, limit: Duration },

    /// What was asked for is on its way and not done yet.
    #[error("not within {} s: {awaited}; {seen}; it goes on, and `{next}` shows how far it is", limit.as_secs())]
    NotYet { awaited: String, seen: String, limit: Duration, next: String },

    /// The store is not in a state for this. The message says what to do first.
    #[error("{0}")]
    WrongState(String),
}

impl KubectlError {
    /// The exit code when something is wrong with a store and has been said.
    pub(super) const FOUND: u8 = 8;

    /// What the API server, or the way to it, said.
    pub(super) fn from_api(right: Right, namespace: &str, error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Api { right, cause: with_sources(&error) };
        };
        match status.code {
            401 | 403 => Self::NoRight { right, place: right.place(namespace), message: status.message.clone() },
            // The API server's own words have a reason; for an unknown resource it has none.
            404 if status.reason == "NotFound" => {
                let name = status.details.as_ref().map(|details| details.name.as_str()).unwrap_or_default();
                let what = format!("{} {name}", right.kind());
                Self::NotFound { what, namespace: namespace.to_owned(), plural: right.resource }
            }
            404 => Self::NotInstalled { plural: right.resource },
            400 | 409 | 422 => Self::Refused { right, message: status.message.clone() },
            code => Self::Api { right, cause: format!("{} (HTTP {code})", status.message) },
        }
    }

    /// The exit code, of those that `--help` lists.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotYet { .. } | Self::Silent { .. } => 5,
            _ => 8,
        }
    }

    /// Why something could not be looked at, where the rest can do without.
    pub(super) fn short(&self) -> String {
        match self {
            Self::NoRight { right, place, .. } => format!("it takes {right} {place}"),
            error => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use serde_json::json;

    fn api(code: u16, reason: &str) -> KubectlError {
        let status: Status = serde_json::from_value(json!({
            "status": "Failure", "code": code, "reason": reason, "message": "words", "details": {"name": "orders"},
        }))
        .unwrap();
        KubectlError::from_api(Right::GET_STORE, "shop", kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_the_api_server_says_becomes_what_to_do() {
        let words = api(403, "Forbidden").to_string();
        assert!(words.contains("`get` on kvsstores.kvs.aryavarth.io in namespace shop"), "{words}");
        let words = api(404, "NotFound").to_string();
        assert!(words.contains("no KvsStore orders in namespace shop"), "{words}");
        assert!(matches!(api(404, "Failed to parse error data"), KubectlError::NotInstalled { .. }));
        assert!(matches!(api(422, "Invalid"), KubectlError::Refused { .. }));
        assert!(matches!(api(503, "ServiceUnavailable"), KubectlError::Api { .. }));
        assert_eq!(api(403, "Forbidden").exit_code(), 8);
    }
}
