//! `ConnectOptions`: how a client reaches a server: in plain TCP or inside TLS, and who it says it is.
//!
//! What must hold: a server is believed only if its certificate is of an authority that the caller named and bears the
//! name that was asked for; a token is never sent before that is known, and never printed.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, ClientError};
use crate::request::Token;

/// How a server is reached. The default is plain TCP and no authentication.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// TLS, or plain TCP.
    pub tls: Option<ClientTls>,
    /// The token that the server is given before anything else.
    pub token: Option<Token>,
}

/// Which servers a client believes, and the certificate that it shows them.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The name that the server's certificate must bear, if it is not that of the host.
    server_name: Option<ServerName<'static>>,
}

/// What is wrong with the files that a client was given for TLS. Never says a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no certificate of an authority, no certificate, or no key as PEM.
    #[error("{what}: holds none as PEM")]
    NoPem {
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key don't fit together, or are of a kind that TLS does not have.
    #[error("certificate and key can't be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A name that no certificate can bear.
    #[error("'{0}' is no name of a server; give a DNS name or an IP address")]
    Name(String),
}

impl ClientTls {
    /// TLS with what stands in files: authorities, and the client's own certificate and key where it has one.
    ///
    /// # Errors
    /// Every [`TlsError`].
    pub fn from_files(authorities: &Path, identity: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source });
        let authorities = read(authorities)?;
        match identity {
            None => Self::from_pem(&authorities, None),
            Some((certificate, key)) => Self::from_pem(&authorities, Some((&read(certificate)?, &read(key)?))),
        }
    }

    /// As [`from_files`](Self::from_files), with the files' text.
    ///
    /// # Errors
    /// Every [`TlsError`] but `File`.
    pub fn from_pem(authorities: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("the authority's certificate", authorities)? {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| TlsError::NoPem { what: "the client's private key" })?;
                builder.with_client_auth_cert(certificates("the client's certificate", certificate)?, key)?
            }
        };
        Ok(Self { config: Arc::new(config), server_name: None })
    }

    /// Expects this name in the server's certificate instead of that of the host: for a forwarded port, for example.
    ///
    /// # Errors
    /// [`TlsError::Name`].
    pub fn with_server_name(self, name: &str) -> Result<Self, TlsError> {
        Ok(Self { server_name: Some(server_name(name)?), ..self })
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::NoPem { what })
}

fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

impl ConnectOptions {
    /// Connects by TCP, secures the connection and authenticates, as far as the options say so. Sets no time limit.
    ///
    /// # Errors
    /// Every [`ClientError`]; a refused token is `Refused`.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Client<Stream<TcpStream>>, ClientError> {
        let stream = TcpStream::connect((host, port)).await?;
        // Requests are small and waited for. A socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        self.over(stream, host).await
    }

    /// As [`connect`](Self::connect), over a stream that leads to this host already.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn over<S>(&self, stream: S, host: &str) -> Result<Client<Stream<S>>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut client = Client::new(self.secure(stream, host).await?);
        if let Some(token) = &self.token {
            client.authenticate(token.clone()).await?;
        }
        Ok(client)
    }

    /// Only secures the connection, for callers that speak for themselves.
    ///
    /// # Errors
    /// What the connection said: the handshake's failure among it, as [`io::ErrorKind::InvalidData`].
    pub async fn secure<S>(&self, stream: S, host: &str) -> io::Result<Stream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        let stream = TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// A connection, secured or not.
#[derive(Debug)]
pub enum Stream<S> {
    /// As it came.
    Plain(S),
    /// Inside TLS.
    Tls(Box<TlsStream<S>>),
}

/// Calls the same method on whichever stream there is.
macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, space))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed_and_what_is_wrong_is_named() {
        let options = ConnectOptions { tls: None, token: Some(Token::new("canary")) };
        assert!(!format!("{options:?}").contains("canary"));
        let error = ClientTls::from_pem(b"no certificate", None).err().unwrap().to_string();
        assert!(error.contains("the authority's certificate"), "{error}");
        let error = ClientTls::from_files(Path::new("/missing/ca.pem"), None).err().unwrap().to_string();
        assert!(error.contains("/missing/ca.pem"), "{error}");
    }
}
