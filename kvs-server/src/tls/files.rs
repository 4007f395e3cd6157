//! `TlsFiles`: certificate, key and authorities on disk, and how they become what rustls needs.
//!
//! What must hold: an error names the file and what is wrong with it, and never a byte of a key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvs_protocol::certificate::validity;
use kvs_protocol::names::ClientCertificates;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::ServerError;
use crate::files::read_bounded;
use crate::settings::TlsSettings;

/// Where the files are.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    settings: TlsSettings,
}

/// What the files said.
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    /// When the server's certificate ends, in seconds since 1970, if that can be read.
    pub(crate) expires_s: Option<i64>,
}

impl TlsFiles {
    pub(crate) fn of(settings: &TlsSettings) -> Self {
        Self { settings: settings.clone() }
    }

    /// Every file, to watch them.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let TlsSettings { cert, key, clients } = &self.settings;
        let authorities = clients.as_ref().map(|(authorities, _)| authorities.clone());
        [cert.clone(), key.clone()].into_iter().chain(authorities).collect()
    }

    /// Reads the files and sees whether they fit together.
    ///
    /// # Errors
    /// [`ServerError::Configuration`].
    pub(crate) fn load(&self) -> Result<Loaded, ServerError> {
        let TlsSettings { cert, key, clients } = &self.settings;
        let chain = certificates("tls-cert", cert)?;
        let private = PrivateKeyDer::from_pem_slice(&read("tls-key", key)?)
            .map_err(|_| wrong("tls-key", key, "holds no private key as PEM"))?;
        let expires_s =
            chain.first().and_then(|certificate| validity(certificate)).map(|validity| validity.not_after_s);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has suites for both versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some((path, mode)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates("tls-client-ca", path)? {
                    roots.add(authority).map_err(|error| wrong("tls-client-ca", path, &error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match mode {
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                    ClientCertificates::Required => verifier,
                };
                let verifier = verifier.build().map_err(|error| wrong("tls-client-ca", path, &error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, private).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong("tls-key", key, &format!("does not belong to the certificate in {}", cert.display()))
            }
            other => wrong("tls-cert", cert, &other.to_string()),
        })?;
        Ok(Loaded { config: Arc::new(config), expires_s })
    }
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let text = read(flag, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong(flag, path, "holds no certificate as PEM")),
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, ServerError> {
    read_bounded(path).map_err(|error| wrong(flag, path, &error.to_string()))
}

fn wrong(flag: &str, path: &Path, cause: &str) -> ServerError {
    ServerError::Configuration(format!("{flag} {}: {cause}", path.display()))
}
