//! `SecretFacts`: what is known about a Secret that a store names.
//!
//! What must hold: no byte of a value is kept, but the end of a certificate, which every client sees.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kvs_protocol::certificate::validity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::super::KubectlError;
use super::super::cluster::{Cluster, Right};
use super::part;

/// What is known about a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SecretFacts {
    pub(crate) name: String,
    /// What the store wants it for.
    pub(crate) purpose: Purpose,
    /// Why it could not be looked at.
    pub(crate) unknown: Option<String>,
    pub(crate) exists: bool,
    /// Keys that the store needs and that are not there.
    pub(crate) missing_keys: Vec<String>,
    /// The last second of its certificate, since 1970.
    pub(crate) not_after_s: Option<i64>,
}

/// What a store wants a Secret for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The token, under this key.
    Token(String),
    /// The certificate and its private key.
    #[default]
    Certificate,
    /// The same, which cert-manager makes.
    IssuedCertificate,
}

impl Purpose {
    fn keys(&self) -> Vec<&str> {
        match self {
            Self::Token(key) => vec![key],
            Self::Certificate | Self::IssuedCertificate => vec!["tls.crt", "tls.key"],
        }
    }
}

/// The Secrets that a store names, by name. Pure.
pub(crate) fn named(store: &Value) -> Vec<(String, Purpose)> {
    let text = |path: &str| store.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let mut named = Vec::new();
    if text("/spec/auth/mode") == "Token" && !text("/spec/auth/tokenSecretRef/name").is_empty() {
        let key = text("/spec/auth/tokenSecretRef/key");
        named.push((text("/spec/auth/tokenSecretRef/name").to_owned(), Purpose::Token(key.to_owned())));
    }
    if !matches!(text("/spec/tls/mode"), "" | "Disabled") {
        match (text("/spec/tls/secretName"), text("/spec/tls/issuerRef/name")) {
            ("", "") => {}
            ("", _) => named.push((format!("{}-tls", text("/metadata/name")), Purpose::IssuedCertificate)),
            (secret, _) => named.push((secret.to_owned(), Purpose::Certificate)),
        }
    }
    named
}

/// Looks at each of them.
pub(super) async fn read(cluster: &Cluster, store: &Value) -> Vec<SecretFacts> {
    let api = Api::<Secret>::namespaced(cluster.client.clone(), &cluster.namespace);
    join_all(named(store).into_iter().map(|(name, purpose)| {
        let api = api.clone();
        async move {
            let right = Right::namespaced("get", "secrets", "");
            let found = part(async {
                match cluster.call(right, api.get(&name)).await {
                    Ok(secret) => Ok(Some(secret)),
                    Err(KubectlError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await;
            facts(name, purpose, found)
        }
    }))
    .await
}

fn facts(name: String, purpose: Purpose, found: Result<Option<Secret>, String>) -> SecretFacts {
    let facts = SecretFacts { name, purpose, ..SecretFacts::default() };
    let secret = match found {
        Err(why) => return SecretFacts { unknown: Some(why), ..facts },
        Ok(None) => return facts,
        Ok(Some(secret)) => secret,
    };
    let value = |key: &str| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice());
    let missing_keys = facts.purpose.keys().into_iter().filter(|key| value(key).is_none()).map(str::to_owned).collect();
    let not_after_s = match facts.purpose {
        Purpose::Token(_) => None,
        Purpose::Certificate | Purpose::IssuedCertificate => value("tls.crt").and_then(not_after),
    };
    SecretFacts { exists: true, missing_keys, not_after_s, ..facts }
}

/// The end of the first certificate of a PEM text.
fn not_after(pem: &[u8]) -> Option<i64> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    validity(&certificate).map(|validity| validity.not_after_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_secrets_are_those_that_the_store_names() {
        assert_eq!(named(&json!({"spec": {"tls": {"mode": "Disabled", "secretName": "x"}}})), []);
        let store = json!({"metadata": {"name": "orders"}, "spec": {
            "auth": {"mode": "Token", "tokenSecretRef": {"name": "auth", "key": "token"}},
            "tls": {"mode": "Server", "issuerRef": {"name": "authority"}},
        }});
        let expected =
            [("auth".into(), Purpose::Token("token".into())), ("orders-tls".into(), Purpose::IssuedCertificate)];
        assert_eq!(named(&store), expected);
    }

    #[test]
    fn the_end_of_a_certificate_is_read_and_nothing_else_kept() {
        let end = rcgen::date_time_ymd(2020, 2, 29);
        let mut parameters = rcgen::CertificateParams::new(vec!["orders".to_owned()]).unwrap();
        parameters.not_after = end;
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let secret: Secret = serde_json::from_value(json!({"data": {}})).unwrap();
        let mut data = std::collections::BTreeMap::new();
        data.insert("tls.crt".to_owned(), k8s_openapi::ByteString(certificate.into_bytes()));
        let found = facts("cert".into(), Purpose::Certificate, Ok(Some(Secret { data: Some(data), ..secret })));
        assert_eq!(found.not_after_s, Some(end.unix_timestamp()));
        assert_eq!((found.exists, found.missing_keys), (true, vec!["tls.key".to_owned()]));
        assert!(!facts("cert".into(), Purpose::Certificate, Ok(None)).exists);
    }
}
