//! `Store`: a KvsStore in a cluster, and connections into its pod.
//!
//! What must hold: nothing of the cluster is changed and no local port is opened; the pod's port is forwarded through
//! the Kubernetes API, straight into the protocol. Each connection looks for the store and its pod anew, so that the
//! death of a pod ends a connection and no more.

mod access;
mod error;
pub(crate) mod pods;
mod secrets;

use std::fmt;
use std::io::IsTerminal as _;
use std::str::FromStr;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use kvs_protocol::config::CLIENT_PORT;

use crate::connection::{Failure, Stream};
use crate::output::say;
use crate::security::{Secrets, Security};

pub(crate) use access::ClusterAccess;
pub(crate) use error::{StoreError, with_sources};

/// `NAMESPACE/NAME` of a KvsStore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The text names no store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("want NAMESPACE/NAME, such as default/quickstart")]
pub(crate) struct NotAStoreName;

impl FromStr for StoreName {
    type Err = NotAStoreName;

    fn from_str(text: &str) -> Result<Self, NotAStoreName> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part.len() <= MAX_NAME_BYTES
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NotAStoreName),
        }
    }
}

/// The longest name of a namespace, in bytes; a store's is shorter still.
const MAX_NAME_BYTES: usize = 63;

impl fmt::Display for StoreName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A store and the way to its cluster.
#[derive(Clone)]
pub(crate) struct Store {
    name: StoreName,
    access: ClusterAccess,
    security: Security,
    /// Made with the first connection.
    client: Option<Client>,
    /// What was last said about waiting, so that it is said once.
    said: Option<String>,
}

/// A forwarded port of a pod, on which nothing has been said.
pub(crate) struct Reached {
    pub(crate) stream: Box<dyn Stream>,
    /// The name that the server's certificate bears.
    pub(crate) host: String,
    /// The other end, as an error names it.
    pub(crate) place: String,
    pub(crate) failure: Failure,
    /// What the store's Secrets hold for it.
    pub(crate) secrets: Secrets,
}

impl Store {
    pub(crate) fn new(name: StoreName, access: ClusterAccess, security: Security) -> Self {
        Self { name, access, security, client: None, said: None }
    }

    /// What the command line says of TLS and the token.
    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    pub(crate) fn name(&self) -> &StoreName {
        &self.name
    }

    /// Finds the store's ready pod and forwards its port.
    pub(crate) async fn reach(&mut self) -> Result<Reached, StoreError> {
        let result = self.try_reach().await;
        if let Err(error) = &result
            && error.is_interruption()
        {
            self.say_waiting(error.to_string());
        }
        result
    }

    async fn try_reach(&mut self) -> Result<Reached, StoreError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => self.client.insert(self.access.client().await?).clone(),
        };
        let store = self.read_store(&client).await?;
        let secrets = secrets::read(&client, &self.name, secrets::needed(&store, &self.security)).await?;
        let pods: Api<Pod> = Api::namespaced(client, &self.name.namespace);
        let selector = pods::selector(&store, &self.name.name);
        let found = pods.list(&ListParams::default().labels(&selector)).await;
        let found = found.map_err(|error| StoreError::from_api(&self.name, "list its pods", error))?;
        let Some(pod) = pods::pick_ready(&found.items) else {
            let reason = pods::why_not_ready(&store, &found.items);
            return Err(StoreError::NotReady { store: self.name.clone(), reason });
        };
        self.forward(&pods, pod, secrets).await
    }

    async fn read_store(&self, client: &Client) -> Result<DynamicObject, StoreError> {
        let stores: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.name.namespace, &kvs_stores());
        stores.get(&self.name.name).await.map_err(|error| StoreError::from_api(&self.name, "read the KvsStore", error))
    }

    /// Forwards the port of a pod. The API server may accept this for a pod that has just died: then the stream or its
    /// error channel says so later.
    async fn forward(&self, pods: &Api<Pod>, pod: &str, secrets: Secrets) -> Result<Reached, StoreError> {
        let forwarded = pods.portforward(pod, &[CLIENT_PORT]).await;
        let mut forwarded = forwarded.map_err(|error| StoreError::from_forward(&self.name, pod, error))?;
        let stream = forwarded.take_stream(CLIENT_PORT).expect("the stream of the one port, taken once");
        let failure = forwarded.take_error(CLIENT_PORT).expect("the errors of the one port, taken once");
        let failure = failure.then(|cause| async move {
            match cause {
                Some(cause) => cause.trim().to_owned(),
                // No error any more, but the stream may still hold answers: it ends by itself.
                None => std::future::pending().await,
            }
        });
        let place = format!("store {} (pod {pod})", self.name);
        // What the Service of the store is called; the certificate bears it, whichever pod answers.
        let host = format!("{}.{}.svc", self.name.name, self.name.namespace);
        Ok(Reached { stream: Box::new(stream), host, place, failure: failure.boxed(), secrets })
    }

    /// Tells a person why nothing happens. A script hears of it when the time is over.
    fn say_waiting(&mut self, why: String) {
        if std::io::stderr().is_terminal() && self.said.as_ref() != Some(&why) {
            say(&format!("waiting: {why}"));
            self.said = Some(why);
        }
    }
}

/// The resource, without its Rust type: the client depends on the fields that it reads, not on the operator.
pub(crate) fn kvs_stores() -> ApiResource {
    ApiResource {
        group: "kvs.aryavarth.io".into(),
        version: "v1alpha1".into(),
        api_version: "kvs.aryavarth.io/v1alpha1".into(),
        kind: "KvsStore".into(),
        plural: "kvsstores".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_name_has_two_parts() {
        assert_eq!("shop/orders-2".parse::<StoreName>().map(|name| name.to_string()).as_deref(), Ok("shop/orders-2"));
        for wrong in ["", "orders", "/orders", "shop/", "a/b/c", "Shop/orders", "shop /orders", "a/b?x=y", "../pods"] {
            assert_eq!(wrong.parse::<StoreName>(), Err(NotAStoreName), "{wrong:?}");
        }
    }
}
