//! Kinds of other projects that stores can have children of: cert-manager's Certificate, and the Prometheus operator's
//! PodMonitor.
//!
//! What must hold: they are discovered, never assumed, because a cluster may have neither; what is installed later is
//! found without a restart of the operator, at the latest after 15 s.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;
use kube::api::ApiResource;
use tokio::sync::Mutex;

use crate::error::{Error, in_time};

/// How long an answer is trusted. Two small reads in so long, however many stores there are.
const TRUSTED: Duration = Duration::from_secs(15);

/// Which of the kinds the cluster knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownKinds {
    /// cert-manager's Certificate.
    pub certificates: bool,
    /// The Prometheus operator's PodMonitor.
    pub pod_monitors: bool,
}

impl KnownKinds {
    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, kind: &ApiResource) -> bool {
        match kind.kind.as_str() {
            "Certificate" => self.certificates,
            "PodMonitor" => self.pod_monitors,
            _ => false,
        }
    }
}

/// Asks the API server which of the kinds it knows.
pub struct Kinds {
    client: Client,
    /// The last answer. Held while the API server is asked, so that many reconciles ask once.
    last: Mutex<Option<(Instant, KnownKinds)>>,
}

impl Kinds {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, last: Mutex::default() }
    }

    /// The kinds that the cluster knew at most 15 s ago.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn known(&self) -> Result<KnownKinds, Error> {
        let mut last = self.last.lock().await;
        if let Some((_, known)) = last.filter(|(asked, _)| asked.elapsed() < TRUSTED) {
            return Ok(known);
        }
        let known = KnownKinds {
            certificates: self.serves(&certificate()).await?,
            pod_monitors: self.serves(&pod_monitor()).await?,
        };
        *last = Some((Instant::now(), known));
        Ok(known)
    }

    async fn serves(&self, kind: &ApiResource) -> Result<bool, Error> {
        let action = format!("asking which kinds {} has", kind.api_version);
        match in_time(action, self.client.list_api_group_resources(&kind.api_version)).await {
            Ok(APIResourceList { resources, .. }) => Ok(resources.iter().any(|resource| resource.name == kind.plural)),
            Err(error) if error.reason() == "notFound" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// cert-manager's order for a certificate.
#[must_use]
pub fn certificate() -> ApiResource {
    kind("cert-manager.io", "Certificate", "certificates")
}

/// What tells a Prometheus which pods to ask.
#[must_use]
pub fn pod_monitor() -> ApiResource {
    kind("monitoring.coreos.com", "PodMonitor", "podmonitors")
}

fn kind(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{group}/v1"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn a_group_without_the_kind_is_no_kind_and_one_answer_serves_many() {
        let (service, mut server) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let asked = tokio::spawn(async move {
            let mut asked = Vec::new();
            while let Some((request, reply)) = server.next_request().await {
                let path = request.uri().path().to_owned();
                let (status, body) = if path.contains("cert-manager") {
                    (StatusCode::NOT_FOUND, "404 page not found".to_owned())
                } else {
                    let kinds = r#"[{"name":"servicemonitors","singularName":"","namespaced":true,"kind":"ServiceMonitor","verbs":[]}]"#;
                    let list = format!(r#"{{"groupVersion":"monitoring.coreos.com/v1","resources":{kinds}}}"#);
                    (StatusCode::OK, list)
                };
                reply.send_response(Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap());
                asked.push(path);
            }
            asked
        });
        let kinds = Kinds::new(Client::new(service, "default"));
        for _ in 0..3 {
            assert_eq!(kinds.known().await.unwrap(), KnownKinds::default());
        }
        drop(kinds);
        assert_eq!(asked.await.unwrap(), ["/apis/cert-manager.io/v1", "/apis/monitoring.coreos.com/v1"]);
    }
}
