//! `Address`: where a server listens, as IP:PORT or HOST:PORT.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpStream;

/// A host or IP address and a port. A host is looked up when connecting, anew each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Socket(SocketAddr),
    Host { name: String, port: u16 },
}

/// The text is no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("want IP:PORT or HOST:PORT, such as 127.0.0.1:4000, [::1]:4000 or store.example:4000")]
pub(crate) struct NotAnAddress;

impl Address {
    /// The host or the IP address, as a certificate names it.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Socket(socket) => socket.ip().to_string(),
            Self::Host { name, .. } => name.clone(),
        }
    }

    /// Connects, trying every address of a host.
    pub(crate) async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = match self {
            Self::Socket(socket) => TcpStream::connect(socket).await?,
            Self::Host { name, port } => TcpStream::connect((name.as_str(), *port)).await?,
        };
        // A request is one write: waiting for more to send with it only delays it.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return if socket.port() == 0 { Err(NotAnAddress) } else { Ok(Self::Socket(socket)) };
        }
        let (name, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(NotAnAddress)?;
        let is_host = !name.is_empty()
            && name.len() <= MAX_HOST_BYTES
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        // Four numbers that are no IP address are a mistake, not a host.
        let is_broken_ip = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_host || is_broken_ip || name.parse::<Ipv6Addr>().is_ok() {
            return Err(NotAnAddress);
        }
        Ok(Self::Host { name: name.to_owned(), port })
    }
}

/// The longest host name of the DNS, in bytes.
const MAX_HOST_BYTES: usize = 253;

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => write!(formatter, "{socket}"),
            Self::Host { name, port } => write!(formatter, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_hosts_are_read_back_as_written() {
        for text in ["127.0.0.1:4000", "[::1]:4000", "localhost:4000", "quickstart.default.svc.cluster.local:1"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let wrong = [
            "",
            ":",
            "4000",
            "localhost",
            ":4000",
            "localhost:",
            "localhost:port",
            "localhost:0",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "1.2.3:4000",
            "1.2.3.4.5:4000",
            "300.1.1.1:4000",
            "::1:4000",
            "http://localhost:4000",
            "local host:4000",
            "a/b:4000",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text:?}");
        }
    }
}
