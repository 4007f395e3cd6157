//! Who may use a store: tokens and certificates, on both sides and while they change.

use std::time::Duration;

use kube::ResourceExt as _;
use kvs_e2e::forward::PortForward;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};
use kvs_protocol::config::CLIENT_PORT;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

/// The longest wait for a server to take over what a Secret says: the node looks at each pod once a minute or so.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(180);
const SPEC: &str = "{auth: {mode: Token, tokenSecretRef: {name: orders-token, key: token}}, tls: {mode: Server, secretName: orders-tls}}";
const MUTUAL: &str = "{auth: {mode: Token, tokenSecretRef: {name: orders-token, key: token}}, tls: {mode: Mutual, secretName: orders-tls}}";

/// A store waits for its Secrets and says so; then kvs-client finds token and authority by itself; a new token and a new
/// certificate are taken over by the same pod; a pair that does not fit is told and stops nothing; with Mutual the client
/// shows a certificate.
pub(super) async fn token_and_tls(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply(SPEC).await?;
    says(&store, "Ready", "SecretMissing").await?;
    let sets = namespace.kubectl(["get", "statefulsets", "--output", "name"]).succeed().await?;
    assert_eq!(sets, "", "no pod is made that could not start");

    secret(&namespace, "orders-token", &[("token", "first-token-of-this-story")]).await?;
    certificate(&namespace, "orders").await?;
    let ready = store.ready().await?;
    let ends = ready.data["status"]["tls"]["notAfter"].clone();
    assert!(ends.as_str().is_some_and(|ends| ends.ends_with('Z')), "{ends}");
    assert_eq!(condition(&ready, "TLSReady")["reason"], "CertificateValid");
    store.set("order/1", "kept").await?;
    assert_eq!(store.get("order/1").await?, "kept");
    strangers_are_kept_out(&store).await?;

    let pod = store.pod().await?.uid().unwrap_or_default();
    secret(&namespace, "orders-token", &[("token", "second-token-of-this-story")]).await?;
    certificate(&namespace, "orders").await?;
    until("the server has taken the new Secrets over", TAKE_OVER_LIMIT, async || {
        // A change of the pod lets its node look at once; by itself it would within a minute or two.
        namespace
            .kubectl(["annotate", "pod", "orders-0", "--overwrite", &format!("look={}", nonce())])
            .succeed()
            .await?;
        let said = store.client(["--timeout", "3", "get", "order/1"]).run().await?;
        if said.stdout == "kept\n" { Ok(()) } else { Err(NotYet(said.stderr)) }
    })
    .await?;
    assert_eq!(store.pod().await?.uid().as_deref(), Some(pod.as_str()), "no pod was replaced");
    assert_eq!(store.server_status().await?["store"], store.full_name(), "the admin port needs no token");

    let (_, other_key) = pair("orders", &namespace.name)?;
    let patch = json!({"stringData": {"tls.key": other_key}}).to_string();
    namespace.kubectl(["patch", "secret", "orders-tls", "--patch", &patch]).succeed().await?;
    says(&store, "TLSReady", "CertificateMismatch").await?;
    assert_eq!(store.get("order/1").await?, "kept", "the server goes on with the pair that fits");

    certificate(&namespace, "orders").await?;
    store.apply(MUTUAL).await?;
    store.other_pod(&pod).await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept", "the client shows a certificate");
    Ok(())
}

/// In plain TCP, and with TLS but without a token, nothing is told.
async fn strangers_are_kept_out(store: &Store) -> Told {
    // kubectl ends a forward whose connection the server ended, so each attempt has one of its own.
    let refused = async |arguments: &[&str]| {
        let forward = PortForward::start(&store.namespace, &format!("service/{}", store.name), CLIENT_PORT).await?;
        let client = store.namespace.cluster.kvs_client();
        client.args(["--timeout", "5", "--addr", &forward.address.to_string()]).args(arguments).fail().await
    };
    refused(&["get", "order/1"]).await?;
    let authority = store.namespace.kubectl(["get", "secret", "orders-tls", "--output", "jsonpath={.data.ca\\.crt}"]);
    let file = tempfile::NamedTempFile::new().map_err(Failure::io("making a file"))?;
    std::fs::write(file.path(), decode(&authority.succeed().await?)?).map_err(Failure::io("writing the authority"))?;
    let path = file.path().display().to_string();
    let name = format!("orders.{}.svc", store.namespace.name);
    let refused = refused(&["--tls-ca", &path, "--tls-server-name", &name, "get", "order/1"]).await?;
    assert!(refused.stderr.contains("authenticate"), "{}", refused.stderr);
    Ok(())
}

/// Waits until a condition has a reason. Each look wakes the operator, which watches no Secret.
pub(super) async fn says(store: &Store, name: &str, reason: &str) -> Told {
    until(format!("{name} says {reason}"), READY_LIMIT, async || {
        let annotation = format!("look={}", nonce());
        store.namespace.kubectl(["annotate", "kvsstore", &store.name, "--overwrite", &annotation]).succeed().await?;
        let found = condition(&store.read().await?, name);
        if found["reason"] == reason { Ok(()) } else { Err(NotYet(found.to_string())) }
    })
    .await
}

/// A Secret with these texts, whatever it held before.
pub(super) async fn secret(namespace: &Namespace, name: &str, texts: &[(&str, &str)]) -> Told {
    let texts: serde_json::Map<_, _> = texts.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    let manifest = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts});
    namespace.apply(manifest.to_string()).await
}

/// A new authority, and a new certificate of it for the store, in the Secret `NAME-tls`.
pub(super) async fn certificate(namespace: &Namespace, store: &str) -> Told {
    let (authority, chain, key) = issue(store, &namespace.name)?;
    let texts = [("tls.crt", chain.as_str()), ("tls.key", key.as_str()), ("ca.crt", authority.as_str())];
    secret(namespace, &format!("{store}-tls"), &texts).await
}

fn pair(store: &str, namespace: &str) -> Result<(String, String), Failure> {
    issue(store, namespace).map(|(_, chain, key)| (chain, key))
}

/// Authority, certificate and key as PEM.
fn issue(store: &str, namespace: &str) -> Result<(String, String, String), Failure> {
    let failed = |error: rcgen::Error| Failure::Unexpected(format!("making a certificate: {error}"));
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let params = CertificateParams::new(vec![format!("{store}.{namespace}.svc")]).map_err(failed)?;
    let certificate = params.signed_by(&key, &authority).map_err(failed)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

/// Base64, as kubectl prints the data of a Secret.
fn decode(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = serde_json::from_value::<k8s_openapi::ByteString>(json!(text.trim()));
    bytes.map(|bytes| bytes.0).map_err(|error| Failure::Unexpected(format!("no base64: {error}")))
}

/// Something that it was not before.
pub(super) fn nonce() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos()
}
