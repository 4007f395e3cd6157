//! `ServerFacts`: what a running server says of itself at its admin port, through a forwarded port.

use std::future::Future;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kvs_protocol::config::ADMIN_PORT;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::KubectlError;
use super::super::cluster::{Cluster, Right};
use super::{Part, part};

/// The longest answer, in bytes: metrics of a server are a tenth of it.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// What it takes to reach a port of a pod.
const FORWARD: Right = Right::namespaced("create", "pods/portforward", "");

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServerFacts {
    pub(crate) pod: String,
    /// `/status`.
    pub(crate) status: Value,
    /// `/metrics`.
    pub(crate) metrics: String,
}

impl ServerFacts {
    /// The value of a metric without labels, or the first of those with some.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let mut lines = self.metrics.lines().filter_map(|line| line.strip_prefix(name));
        let rest = lines.find(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse().ok()
    }
}

/// Asks the server of a pod; `None` where none runs.
pub(crate) fn ask<'a>(cluster: &'a Cluster, pod: &Value) -> Option<impl Future<Output = Part<ServerFacts>> + use<'a>> {
    let statuses = pod.pointer("/status/containerStatuses")?.as_array()?;
    let runs = |status: &Value| status["name"] == "kvs-server" && !status["state"]["running"].is_null();
    statuses.iter().find(|status| runs(status))?;
    let pod = pod.pointer("/metadata/name")?.as_str()?.to_owned();
    Some(part(async move {
        let (status, metrics) = (get(cluster, &pod, "/status").await?, get(cluster, &pod, "/metrics").await?);
        let status = serde_json::from_str(&status).unwrap_or_default();
        Ok(ServerFacts { pod, status, metrics })
    }))
}

/// What the admin port answers to a path.
async fn get(cluster: &Cluster, pod: &str, path: &str) -> Result<String, KubectlError> {
    let failed = |cause: String| KubectlError::Api { right: FORWARD, cause: format!("pod {pod}: {cause}") };
    let api: Api<Pod> = cluster.pods();
    let mut forwarded = cluster.call(FORWARD, api.portforward(pod, &[ADMIN_PORT])).await?;
    let mut stream = forwarded.take_stream(ADMIN_PORT).expect("the stream of the one port, taken once");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {pod}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        (&mut stream).take(MOST_BYTES).read_to_end(&mut answer).await
    };
    talk.await.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&answer);
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        Some((head, _)) => Err(failed(format!("{path} answers {}", head.lines().next().unwrap_or_default()))),
        None => Err(failed(format!("{path} is not answered"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let metrics =
            "# HELP kvs_engine_disk_bytes x\nkvs_engine_disk_bytes_total 7\nkvs_engine_disk_bytes{engine=\"kvs\"} 12\n";
        let facts = ServerFacts { metrics: metrics.into(), ..ServerFacts::default() };
        assert_eq!(facts.metric("kvs_engine_disk_bytes"), Some(12.0));
        assert_eq!(facts.metric("kvs_engine_read_only"), None);
    }
}
