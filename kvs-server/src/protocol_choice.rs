//! The first byte of a connection chooses its protocol.
//!
//! What must hold: what is not ours is answered with one line, in the form that its sender understands best, and then
//! closed. Nothing after a foreign first byte is ever read as a request.

use kvs_protocol::{ErrorCode, Response, WireError};

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// One JSON object a line.
    JsonLines,
    /// Redis' protocol.
    Resp,
    /// The beginning of a TLS handshake.
    Tls,
    /// An upper-case letter: HTTP, or a Redis inline command.
    Text,
    /// Anything else.
    Unknown,
}

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

impl Protocol {
    pub(crate) const fn of(first_byte: u8) -> Self {
        match first_byte {
            b'{' => Self::JsonLines,
            b'*' => Self::Resp,
            TLS_HANDSHAKE => Self::Tls,
            b'A'..=b'Z' => Self::Text,
            _ => Self::Unknown,
        }
    }

    /// Whether it is spoken here.
    pub(crate) const fn is_spoken(self) -> bool {
        matches!(self, Self::JsonLines | Self::Resp)
    }

    /// The one line that a sender of another protocol gets.
    pub(crate) fn refusal(self) -> Vec<u8> {
        let cause = match self {
            Self::JsonLines | Self::Resp => "this protocol is spoken here",
            Self::Tls => "this port speaks JSON lines and RESP2, without TLS",
            Self::Text => "this port speaks JSON lines and RESP2, not HTTP; health and metrics are on the admin port",
            Self::Unknown => {
                "this port speaks JSON lines, of which each begins with `{`, and RESP2, which begins with `*`"
            }
        };
        let mut line = Vec::new();
        let message = format!("{cause}; the connection is closed");
        Response::from(WireError::new(ErrorCode::WrongProtocol, message)).encode(&mut line);
        line
    }
}
