//! `Talk`: a line client over plain TCP or TLS.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::PATIENCE;
use super::certificates::{Authority, Identity};

trait Both: Read + Write + Send {}
impl<S: Read + Write + Send> Both for S {}

/// A client that sends bytes and reads lines.
pub struct Talk {
    stream: BufReader<Box<dyn Both>>,
}

/// Which versions a client of a test speaks: all, unless it says otherwise.
pub fn client_config(authority: &Authority, identity: Option<&Identity>) -> Arc<ClientConfig> {
    config_of(authority, identity, rustls::ALL_VERSIONS)
}

pub fn config_of(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    // Each connection is to meet the certificate of its moment.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

impl Talk {
    pub fn plain(addr: SocketAddr) -> Self {
        Self::over(connected(addr))
    }

    /// Fails as the handshake does.
    pub fn secure(addr: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        Ok(Self::over(secured(addr, config)?))
    }

    fn over(stream: impl Both + 'static) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// `false` when the server has closed already.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref()).and_then(|()| stream.flush()).is_ok()
    }

    /// The next line, without its end; `None` when the server has closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8(line).unwrap().trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no line came"),
            Err(_) => None,
        }
    }

    /// Sends one line and gives its answer; `None` when the server has closed.
    pub fn ask(&mut self, line: &str) -> Option<String> {
        self.send(format!("{line}\n"));
        self.line()
    }
}

fn connected(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection whose handshake is done, as far as the client sees it.
pub fn secured(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = "localhost".try_into().unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut stream = connected(addr);
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}
