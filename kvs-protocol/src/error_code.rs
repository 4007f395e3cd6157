//! The closed set of error codes that a response can carry.
//!
//! What must hold: programs decide by code, never by message; a code once published keeps its meaning; a client that
//! meets a code of a newer server reads it as [`ErrorCode::Other`] and still has the message.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the codes with one spelling for serde, `Display` and the list of all.
macro_rules! codes {
    ($($(#[$meta:meta])* $variant:ident => $word:literal),+ $(,)?) => {
        /// Why a request was not done. PROTOCOL.md has one example of each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$meta])* #[serde(rename = $word)] $variant,)+
            /// A code that this version does not know, from a newer server.
            #[serde(other, rename = "other")]
            Other,
        }

        impl ErrorCode {
            /// Every code that this version can send, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The one spelling of this code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ Self::Other => "other" }
            }
        }
    };
}

codes! {
    /// The key to remove is not there.
    KeyNotFound => "key_not_found",
    /// The line is JSON but not a request: a field is missing, unknown, given twice or of the wrong type.
    InvalidRequest => "invalid_request",
    /// The verb is none that this server has.
    UnknownVerb => "unknown_verb",
    /// Who asks has not said who it is, or is nobody that the server knows. Authenticate, then ask again.
    Unauthenticated => "unauthenticated",
    /// Who asks is known and may not do this.
    Forbidden => "forbidden",
    /// The engine of this server can't do it; the message names another way.
    NotSupported => "not_supported",
    /// A frame, key, value or batch is over a limit, which the message names.
    TooLarge => "too_large",
    /// The server has too much to do, or too many bytes in flight; the same request can succeed later.
    Busy => "busy",
    /// No space to write; reads and removals go on, and writing resumes when space returns.
    NoSpace => "no_space",
    /// The server is ending; connect again later.
    ShuttingDown => "shutting_down",
    /// The store can't acknowledge writes any more; the server ends.
    Poisoned => "poisoned",
    /// The data of this key is damaged on disk.
    Corruption => "corruption",
    /// A fault of the server, whose log says more.
    Internal => "internal",
    /// The line is no JSON object; the server closes the connection.
    Malformed => "malformed",
    /// The first byte belongs to another protocol; the server closes the connection.
    WrongProtocol => "wrong_protocol",
    /// A line was begun and not ended in time; the server closes the connection.
    Timeout => "timeout",
}

impl ErrorCode {
    /// Whether the same request can succeed later without a change of its own.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::NoSpace | Self::ShuttingDown)
    }

    /// Whether the server closes the connection after it has sent this code as the answer to a line it could not read.
    #[must_use]
    pub const fn closes_connection(self) -> bool {
        matches!(self, Self::Malformed | Self::WrongProtocol | Self::Timeout)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_spelled_the_same_way_everywhere() {
        for code in ErrorCode::ALL {
            let word = serde_json::to_string(code).unwrap();
            assert_eq!(word, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&word).unwrap(), *code);
        }
    }

    #[test]
    fn a_code_of_a_newer_server_is_read_as_other() {
        assert_eq!(serde_json::from_str::<ErrorCode>("\"not_leader\"").unwrap(), ErrorCode::Other);
    }
}
