//! `Gate`: lets a process write to the API server only while it leads.
//!
//! What must hold: every write passes here, whoever makes it, so that a process which was stopped for a minute and goes
//! on in the middle of a reconcile writes nothing, although nobody told it yet that another one leads; a write that is under
//! way when the permit ends is given up, so that it is not sent late; reads pass always.

use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Until when this process may write.
#[derive(Debug, Default)]
pub struct Permit {
    /// Held to read or to set it, never across an await.
    until: RwLock<Option<Instant>>,
}

/// A write that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("not sent or given up: this process does not lead, or not any more")]
pub struct NotLeading;

impl Permit {
    /// Permits writes until that time, or none.
    pub fn set(&self, until: Option<Instant>) {
        // It is one value, so a panic elsewhere did not break it.
        *self.until.write().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether a write may be sent now.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> Option<Instant> {
        *self.until.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an answer as long as writes are permitted. Renewals that come meanwhile count.
    async fn while_valid<T>(&self, answer: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        let mut answer = pin!(answer);
        while let Some(until) = self.until().filter(|until| Instant::now() < *until) {
            if let Ok(answer) = tokio::time::timeout_at(until.into(), &mut answer).await {
                return answer;
            }
        }
        Err(Box::new(NotLeading))
    }
}

/// Puts a gate before a client.
#[derive(Debug, Clone)]
pub struct GateLayer(pub Arc<Permit>);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, permit: Arc::clone(&self.0) }
    }
}

/// A client's requests, of which writes need a permit.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    inner: S,
    permit: Arc<Permit>,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Box::pin(self.inner.call(request));
        }
        if !self.permit.is_valid() {
            return Box::pin(async { Err(Box::new(NotLeading).into()) });
        }
        let (answer, permit) = (self.inner.call(request), Arc::clone(&self.permit));
        Box::pin(async move { permit.while_valid(answer).await })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Patch, PatchParams};
    use kube::client::ClientBuilder;
    use kube::{Api, Client};

    use super::*;

    /// A client behind a gate, and how many requests came through it by the end.
    fn gated(permit: &Arc<Permit>) -> (Client, tokio::task::JoinHandle<usize>) {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, http::Response<Body>>();
        let requests = tokio::spawn(async move {
            let mut count = 0;
            while let Some((_, reply)) = server.next_request().await {
                count += 1;
                let body = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}"#;
                reply.send_response(http::Response::new(Body::from(body.as_bytes().to_vec())));
            }
            count
        });
        let client = ClientBuilder::new(service, "shop").with_layer(&GateLayer(Arc::clone(permit))).build();
        (client, requests)
    }

    #[tokio::test]
    async fn a_write_under_way_lives_as_long_as_the_permit_and_its_renewals() {
        let permit = Arc::new(Permit::default());
        let short = Duration::from_millis(50);
        permit.set(Some(Instant::now() + short));
        let silence = std::future::pending::<Result<(), BoxError>>();
        assert!(permit.while_valid(silence).await.is_err(), "nobody waits for ever");
        permit.set(Some(Instant::now() + short));
        let slow = async {
            permit.set(Some(Instant::now() + 20 * short));
            tokio::time::sleep(2 * short).await;
            Ok(7)
        };
        assert_eq!(permit.while_valid(slow).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn without_a_permit_only_reads_are_sent() {
        let permit = Arc::new(Permit::default());
        let (client, requests) = gated(&permit);
        let maps = Api::<ConfigMap>::namespaced(client, "shop");
        let patch = Patch::Merge(serde_json::json!({}));
        let write = async || maps.patch("a", &PatchParams::default(), &patch).await;

        maps.get("a").await.unwrap();
        let refused = write().await.unwrap_err().to_string();
        assert!(refused.contains("this process does not lead"), "{refused}");
        permit.set(Some(Instant::now() + Duration::from_secs(60)));
        write().await.unwrap();
        // As after a minute in which the process was stopped: nobody took the permit away, but its time is over.
        permit.set(Instant::now().checked_sub(Duration::from_millis(1)));
        assert!(write().await.is_err());
        maps.get("a").await.unwrap();
        drop(maps);
        assert_eq!(requests.await.unwrap(), 3, "two reads and the write that was permitted");
    }
}
