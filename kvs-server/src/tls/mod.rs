//! `Tls`: what clients are answered with when they begin a handshake, and the handshake itself.
//!
//! What must hold: TLS 1.3 and 1.2, nothing older, with ring alone; a pair of files that does not fit never replaces one
//! that does; a client that speaks no TLS is disconnected without an answer; a handshake ends in time.

mod files;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::ServerError;
use crate::limits::TLS_BUFFER_BYTES;
use crate::metrics::TlsMetrics;
use crate::settings::TlsSettings;
use kvs_engine::Repeated;

pub(crate) use files::TlsFiles;

/// The first byte of a TLS handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

/// TLS for clients.
pub(crate) struct Tls {
    files: TlsFiles,
    /// Replaced whole when the files change. Held for a look or a swap.
    config: RwLock<Arc<ServerConfig>>,
    metrics: TlsMetrics,
    /// A port scanner is no reason to fill a disk with lines.
    failed: Repeated,
}

/// A client with which TLS is spoken.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream<TcpStream>,
    /// The names in the client's certificate, if it showed one.
    pub(crate) certificate_names: Option<Vec<String>>,
}

impl Tls {
    /// TLS with these files.
    ///
    /// # Errors
    /// [`ServerError::Configuration`] names the file and what is wrong with it.
    pub(crate) fn load(settings: &TlsSettings, metrics: TlsMetrics) -> Result<Arc<Self>, ServerError> {
        let files = TlsFiles::of(settings);
        let loaded = files.load()?;
        metrics.expires(loaded.expires_s);
        Ok(Arc::new(Self { files, config: RwLock::new(loaded.config), metrics, failed: Repeated::default() }))
    }

    /// Reads the files again. New connections are answered with them; those that are open go on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then everything stays as it is.
    pub(crate) fn reload(&self) -> Result<(), ServerError> {
        let loaded = self.files.load()?;
        self.metrics.expires(loaded.expires_s);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = loaded.config;
        Ok(())
    }

    /// Shakes hands with a client; `None` when it can't or will not in time, which is counted and logged here.
    pub(crate) async fn handshake(&self, stream: TcpStream, deadline: Duration) -> Option<Secured> {
        match tokio::time::timeout(deadline, self.shake(stream)).await {
            Ok(Ok(secured)) => {
                self.metrics.succeeded.inc();
                Some(secured)
            }
            Ok(Err(cause)) => self.has_failed(&cause),
            Err(_) => self.has_failed(&io::Error::other("it did not finish the handshake in time")),
        }
    }

    async fn shake(&self, stream: TcpStream) -> io::Result<Secured> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != HANDSHAKE_RECORD {
            return Err(io::Error::other("it speaks no TLS; give the client --tls-ca"));
        }
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let limited = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let stream = TlsAcceptor::from(config).accept_with(stream, limited).await?;
        let certificate_names = match stream.get_ref().1.peer_certificates() {
            Some([certificate, ..]) => Some(names_of(certificate)),
            Some([]) | None => None,
        };
        Ok(Secured { stream, certificate_names })
    }

    fn has_failed(&self, error: &io::Error) -> Option<Secured> {
        self.metrics.failed.inc();
        if let Some(failed) = self.failed.count() {
            tracing::warn!(%error, failed, "a client was disconnected on the TLS port: {error}");
        }
        None
    }
}

/// The DNS names and URIs of a certificate. Its common name is none of them: nobody checks what stands there.
fn names_of(certificate: &rustls::pki_types::CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().chain(certificate.valid_uri_names()).map(str::to_owned).collect()
}
