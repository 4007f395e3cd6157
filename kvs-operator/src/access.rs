//! What the Secrets that a store names are good for: its token, and its certificate with the key.
//!
//! What must hold: it is pure; no byte of a Secret's value is kept or repeated, only what is known about it; a message
//! names the Secret, what is wrong with it, and what to do.
//!
//! A server takes new contents over by itself, so a Secret that becomes unusable stops no server that runs. It would
//! stop one that starts: while [`Access::stops_servers`] says so, no pod is made or replaced.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kvs_protocol::certificate::validity;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::resource::SecretKeyRef;
use crate::validate::{ServerTls, ValidStore};

/// The key of a TLS Secret that holds the server's certificate and those between it and its authority.
pub const CERTIFICATE_KEY: &str = "tls.crt";
/// The key of a TLS Secret that holds the certificate's private key.
pub const PRIVATE_KEY_KEY: &str = "tls.key";
/// The key of a TLS Secret that holds the authorities: of clients' certificates, and for clients the server's own.
pub const AUTHORITIES_KEY: &str = "ca.crt";

/// The reason of a Secret that cert-manager is about to make.
pub const PENDING: &str = "CertificatePending";

/// So long before its end a certificate should have been renewed: two weeks, in seconds.
const RENEWAL_MARGIN_S: i64 = 14 * 24 * 3600;

/// What is known of a store's Secrets. What the store does not ask for is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: Option<Result<(), AccessProblem>>,
    /// The certificate.
    pub certificate: Option<Result<CertificateFacts, AccessProblem>>,
}

/// What is known of a certificate that fits its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its first moment.
    pub not_before: Timestamp,
    /// Its last moment.
    pub not_after: Timestamp,
    /// Whether it bears the name by which kvs-client and pods of other namespaces reach the store.
    pub names_service: bool,
    /// Whether its Secret has the authorities by which kvs-client --store checks it.
    pub has_authorities: bool,
}

/// Why a Secret is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessProblem {
    /// One word, which programs may decide by.
    pub reason: &'static str,
    /// Which Secret, what is wrong, and what to do.
    pub message: String,
    /// Whether a server could not start with it.
    pub stops_servers: bool,
}

/// How a certificate stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateAge {
    /// It begins later.
    NotYetValid,
    /// It is valid.
    Valid,
    /// It is valid, and ends within two weeks.
    EndsSoon,
    /// It has ended.
    Expired,
}

impl CertificateFacts {
    /// How the certificate stands.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> CertificateAge {
        if now < self.not_before {
            CertificateAge::NotYetValid
        } else if now > self.not_after {
            CertificateAge::Expired
        } else if self.not_after.as_second() - now.as_second() < RENEWAL_MARGIN_S {
            CertificateAge::EndsSoon
        } else {
            CertificateAge::Valid
        }
    }
}

impl Access {
    /// Whether a server that starts now could not serve.
    #[must_use]
    pub fn stops_servers(&self) -> bool {
        let token = self.token.as_ref().and_then(|token| token.as_ref().err());
        let certificate = self.certificate.as_ref().and_then(|certificate| certificate.as_ref().err());
        token.into_iter().chain(certificate).any(|problem| problem.stops_servers)
    }
}

impl AccessProblem {
    /// The operator's account may not read the Secret. Servers read it by themselves, so nothing stops.
    #[must_use]
    pub fn unreadable(secret: &str, cause: &str) -> Self {
        let message = format!(
            "Secret {secret} can't be looked at: {cause}; give the operator's account `get` on Secrets of this namespace"
        );
        Self { reason: "SecretForbidden", message, stops_servers: false }
    }

    fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, stops_servers: true }
    }

    fn no_secret(secret: &str, namespace: &str, content: &str) -> Self {
        let message = format!("Secret {secret} does not exist; create it in namespace {namespace} with {content}");
        Self::new("SecretMissing", message)
    }
}

/// Looks at the Secret of the token.
///
/// # Errors
/// What keeps a server from starting with it.
pub fn judge_token(store: &ValidStore, wanted: &SecretKeyRef, secret: Option<&Secret>) -> Result<(), AccessProblem> {
    let SecretKeyRef { name, key } = wanted;
    let content = format!("the token under the key {key}");
    let secret = secret.ok_or_else(|| AccessProblem::no_secret(name, &store.namespace, &content))?;
    let bytes = value(secret, key).ok_or_else(|| no_key(name, key, "put the token there"))?;
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.trim().is_empty() => Ok(()),
        _ => {
            let message =
                format!("key {key} of Secret {name} holds no text; put one token there, or the list of tokens");
            Err(AccessProblem::new("TokenUnusable", message))
        }
    }
}

/// Looks at the Secret of the certificate.
///
/// # Errors
/// What keeps a server from starting with it.
pub fn judge_certificate(
    store: &ValidStore,
    tls: &ServerTls,
    secret: Option<&Secret>,
    knows_cert_manager: bool,
) -> Result<CertificateFacts, AccessProblem> {
    let ServerTls { secret: name, is_mutual, issuer } = tls;
    let secret = match (secret, issuer) {
        (Some(secret), _) => secret,
        (None, None) => {
            let content = "tls.crt and tls.key (and ca.crt), as `kubectl create secret tls` makes it";
            return Err(AccessProblem::no_secret(name, &store.namespace, content));
        }
        (None, Some(_)) if !knows_cert_manager => {
            let message = "spec.tls.issuerRef needs cert-manager, whose Certificate this cluster does not know; \
                install cert-manager, or make the Secret yourself and name it in spec.tls.secretName";
            return Err(AccessProblem::new("CertManagerMissing", message.to_owned()));
        }
        (None, Some(_)) => {
            let message = format!(
                "cert-manager has not made Secret {name} yet; if this lasts, see kubectl --namespace {} describe certificate {}",
                store.namespace, store.name
            );
            return Err(AccessProblem::new(PENDING, message));
        }
    };
    let part = |key: &str| value(secret, key).ok_or_else(|| no_key(name, key, "put it there as PEM"));
    let unusable = |key: &str, cause: &str| {
        let message = format!("{key} of Secret {name} {cause}; put the right PEM there");
        AccessProblem::new("CertificateUnusable", message)
    };
    let chain =
        certificates(part(CERTIFICATE_KEY)?).ok_or_else(|| unusable(CERTIFICATE_KEY, "holds no certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(part(PRIVATE_KEY_KEY)?)
        .map_err(|_| unusable(PRIVATE_KEY_KEY, "holds no private key"))?;
    let authorities = value(secret, AUTHORITIES_KEY);
    if *is_mutual {
        let authorities = certificates(part(AUTHORITIES_KEY)?);
        let authorities = authorities.ok_or_else(|| unusable(AUTHORITIES_KEY, "holds no certificate"))?;
        if !can_judge_clients(authorities) {
            return Err(unusable(AUTHORITIES_KEY, "holds no authority's certificate"));
        }
    }
    let leaf = chain.first().cloned().ok_or_else(|| unusable(CERTIFICATE_KEY, "holds no certificate"))?;
    fits(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let message =
                format!("tls.key of Secret {name} does not belong to its tls.crt; put the two of one pair there");
            AccessProblem::new("CertificateMismatch", message)
        }
        other => unusable(CERTIFICATE_KEY, &format!("can't be served: {other}")),
    })?;
    let bounds = validity(&leaf).and_then(|validity| {
        Timestamp::from_second(validity.not_before_s).ok().zip(Timestamp::from_second(validity.not_after_s).ok())
    });
    let (not_before, not_after) =
        bounds.ok_or_else(|| unusable(CERTIFICATE_KEY, "holds a certificate whose validity can't be read"))?;
    Ok(CertificateFacts {
        not_before,
        not_after,
        names_service: bears(&leaf, &store.host()),
        has_authorities: authorities.and_then(certificates).is_some(),
    })
}

fn no_key(secret: &str, key: &str, advice: &str) -> AccessProblem {
    AccessProblem::new("SecretKeyMissing", format!("Secret {secret} has no key {key}; {advice}"))
}

/// What a Secret holds under a key.
fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice())
}

/// The certificates of a PEM text, at least one.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty())
}

/// Whether a server can be made of the pair, exactly as kvs-server makes one.
fn fits(chain: Vec<CertificateDer<'static>>, private: PrivateKeyDer<'static>) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring has suites for both versions");
    builder.with_no_client_auth().with_single_cert(chain, private).map(drop)
}

/// Whether clients' certificates can be checked against these authorities.
fn can_judge_clients(authorities: Vec<CertificateDer<'static>>) -> bool {
    let mut roots = RootCertStore::empty();
    let all = authorities.into_iter().all(|authority| roots.add(authority).is_ok());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    all && WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().is_ok()
}

/// Whether a certificate bears a DNS name.
fn bears(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    ServerName::try_from(host).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
}
