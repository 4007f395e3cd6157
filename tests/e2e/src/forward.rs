//! Ways into a pod: a stream through the Kubernetes API, and `kubectl port-forward` as a person would start it.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::namespace::Namespace;
use crate::process::Background;

/// The longest wait for a stream into a pod.
const OPEN_LIMIT: Duration = Duration::from_secs(20);

/// What reads and writes.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

/// A stream into a pod.
pub type Stream = Box<dyn Duplex>;
/// The protocol over such a stream.
pub type KvsClient = kvs_protocol::Client<Stream>;

/// Opens a stream to a port of a pod.
///
/// # Errors
/// When the API server refuses or does not answer in time. A pod that has just died is noticed later, by a stream that
/// ends or is silent, so who reads from it must set a time limit.
pub async fn open(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Stream, Failure> {
    let doing = || format!("forwarding port {port} of pod {pod}");
    let Ok(forwarder) = timeout(OPEN_LIMIT, pods.portforward(pod, &[port])).await else {
        return Err(Failure::Unexpected(format!("{}: no answer within {} s", doing(), OPEN_LIMIT.as_secs())));
    };
    let mut forwarder = forwarder.map_err(Failure::kubernetes(doing()))?;
    let stream = forwarder.take_stream(port);
    let stream = stream.ok_or_else(|| Failure::Unexpected(format!("{}: it has no stream", doing())))?;
    Ok(Box::new(stream))
}

/// A running `kubectl port-forward`. It ends when this is dropped.
pub struct PortForward {
    /// Where it listens on this machine.
    pub address: SocketAddr,
    /// Held for its end.
    _kubectl: Background,
}

impl PortForward {
    /// Forwards a free local port to a port of a Service or pod, such as `service/orders`.
    ///
    /// # Errors
    /// When kubectl does not come up.
    pub async fn start(namespace: &Namespace, target: &str, port: u16) -> Result<Self, Failure> {
        let ports = format!(":{port}");
        let kubectl = namespace.kubectl(["port-forward", "--address", "127.0.0.1", target, &ports]);
        let mut kubectl = kubectl.limit(OPEN_LIMIT).start()?;
        let line = kubectl.next_line().await?;
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let address =
            address.ok_or_else(|| Failure::Unexpected(format!("kubectl port-forward named no address: {line}")))?;
        Ok(Self { address, _kubectl: kubectl })
    }
}
