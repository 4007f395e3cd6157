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
    /// Redis' protocol, which later versions will speak.
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

    /// The one line that a sender of another protocol gets.
    pub(crate) fn refusal(self) -> Vec<u8> {
        let cause = match self {
            Self::JsonLines => "JSON lines are spoken here",
            Self::Resp => return b"-ERR this port speaks JSON lines; this version has no RESP2 yet\r\n".to_vec(),
            Self::Tls => "this port speaks JSON lines without TLS",
            Self::Text => "this port speaks JSON lines, not HTTP; health and metrics are on the admin port",
            Self::Unknown => "this port speaks JSON lines; a line begins with `{`",
        };
        let mut line = Vec::new();
        let message = format!("{cause}; the connection is closed");
        Response::from(WireError::new(ErrorCode::WrongProtocol, message)).encode(&mut line);
        line
    }
}
