//! `StoreError`: why there is no connection into a store's pod. Each variant says what to do next.

use kube::client::UpgradeConnectionError;

use super::StoreName;

/// Why the store could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    /// No kubeconfig, or one that can't be used. The user must name another.
    #[error(
        "no access to a cluster: {0}; name a kubeconfig with --kubeconfig FILE or KUBECONFIG, a context with --context NAME"
    )]
    Kubeconfig(String),

    /// The name is wrong, or the store is gone.
    #[error("there is no KvsStore {0}; `kubectl get kvsstores --all-namespaces` lists those that are")]
    NoSuchStore(StoreName),

    /// The resource is unknown to the cluster.
    #[error("this cluster does not know KvsStores; install the chart kvs-operator first, or name another --context")]
    NotInstalled,

    /// The API server did not let us. The cluster's administrator must.
    #[error(
        "no access to store {store}: may not {doing}: {message}; it takes `get` on kvsstores, `list` on pods, \
         `create` on pods/portforward in namespace {}, and `get` on the Secrets that the store names", store.namespace
    )]
    NoAccess { store: StoreName, doing: &'static str, message: String },

    /// A Secret of TLS or of the token is not what the store says. Its owner must mend it; flags can stand in.
    #[error("store {store}: Secret {secret} in namespace {} {cause}; --tls-ca and --token-file can stand in for it", store.namespace)]
    Secret { store: StoreName, secret: String, cause: String },

    /// The store has no pod that answers. Time heals it, or the store's owner.
    #[error("store {store} is not ready: {reason}; `kubectl --namespace {} describe kvsstore {}` says more",
        store.namespace, store.name)]
    NotReady { store: StoreName, reason: String },

    /// The pod could not be reached through the API server.
    #[error("store {store}: cannot forward a port of pod {pod}: {cause}; try again")]
    Forward { store: StoreName, pod: String, cause: String },

    /// The API server can't be reached, or failed.
    #[error("store {store}: cannot {doing}: {cause}; check the cluster with `kubectl get nodes`")]
    Api { store: StoreName, doing: &'static str, cause: String },
}

impl StoreError {
    /// An error of reading or using a kubeconfig.
    pub(super) fn kubeconfig(error: impl std::error::Error) -> Self {
        Self::Kubeconfig(with_sources(&error))
    }

    /// What the API server, or the way to it, said while doing something.
    pub(super) fn from_api(store: &StoreName, doing: &'static str, error: kube::Error) -> Self {
        let store = store.clone();
        let kube::Error::Api(status) = error else {
            return Self::Api { store, doing, cause: with_sources(&error) };
        };
        match status.code {
            404 if status.details.as_ref().is_some_and(|details| details.kind == "pods") => {
                Self::NotReady { store, reason: "its pod has just gone".into() }
            }
            // The API server's own words have a reason; for an unknown resource it has none.
            404 if status.reason == "NotFound" => Self::NoSuchStore(store),
            404 => Self::NotInstalled,
            401 | 403 => Self::NoAccess { store, doing, message: status.message.clone() },
            code => Self::Api { store, doing, cause: format!("{} (HTTP {code})", status.message) },
        }
    }

    /// Why a port of a pod was not forwarded.
    pub(super) fn from_forward(store: &StoreName, pod: &str, error: kube::Error) -> Self {
        const DOING: &str = "forward a port of its pod";
        match error {
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status))
                if matches!(status.as_u16(), 401 | 403) =>
            {
                Self::NoAccess { store: store.clone(), doing: DOING, message: format!("HTTP {status}") }
            }
            kube::Error::UpgradeConnection(cause) => {
                Self::Forward { store: store.clone(), pod: pod.to_owned(), cause: with_sources(&cause) }
            }
            error => Self::from_api(store, DOING, error),
        }
    }

    /// Whether a store that is well again soon looks like this.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self, Self::NotReady { .. } | Self::Forward { .. })
    }

    /// Whether this can pass by itself when everything was right before.
    pub(crate) fn can_pass(&self) -> bool {
        self.is_interruption() || matches!(self, Self::Api { .. })
    }
}

/// An error with what caused it, in one line. A cause that only repeats the error is left out.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn name() -> StoreName {
        "shop/orders".parse().unwrap()
    }

    fn api(code: u16, reason: &str, kind: &str) -> StoreError {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": code, "reason": reason, "message": "words", "details": {"kind": kind},
        }))
        .unwrap();
        StoreError::from_api(&name(), "read the KvsStore", kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_the_api_server_says_becomes_what_to_do() {
        assert!(matches!(api(404, "NotFound", "kvsstores"), StoreError::NoSuchStore(_)));
        assert!(matches!(api(404, "Failed to parse error data", ""), StoreError::NotInstalled));
        assert!(matches!(api(404, "NotFound", "pods"), StoreError::NotReady { .. }));
        assert!(matches!(api(403, "Forbidden", "kvsstores"), StoreError::NoAccess { .. }));
        assert!(matches!(api(401, "Unauthorized", ""), StoreError::NoAccess { .. }));
        assert!(matches!(api(503, "ServiceUnavailable", ""), StoreError::Api { .. }));
        for error in [api(404, "NotFound", "kvsstores"), api(403, "Forbidden", ""), api(500, "InternalError", "")] {
            assert!(!error.is_interruption() && !error.to_string().contains('\n'), "{error}");
        }
    }
}
