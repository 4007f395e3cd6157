//! The one error of the client. Each variant says what happened, where, and what to do next, and has an exit code.

use std::io;

use kvs_protocol::{ErrorCode, WireError};
use serde_json::{Value, json};

use crate::kubectl::KubectlError;
use crate::store::StoreError;

/// The exit codes, as `--help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done (a get of a missing key too)
  1  rm and exists: key not found
  2  wrong arguments
  3  cannot connect, or the connection broke
  4  not allowed: token, role or certificate
  5  no answer in time
  6  the server refused (busy, no space, closing)
  7  wrong data: bad input, over a limit, or damaged on the server's disk
  8  Kubernetes: no access, no such store, no ready pod; doctor: something is wrong
  130  interrupted (Ctrl-C)";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense; the user must change it.
    #[error("{0}")]
    Usage(String),

    /// `rm` of a missing key.
    #[error("Key not found")]
    KeyNotFound,

    /// What there is to say has been said, on whichever output; this is the exit code.
    #[error("it has been said what went wrong")]
    Said(u8),

    /// Nobody answers at the address.
    #[error("cannot connect to {place}: {cause}; is kvs-server running there? (--addr names another address)")]
    Connect { place: String, cause: io::Error },

    /// The connection ended before the answer.
    #[error("the connection to {place} broke: {cause}; {advice}")]
    Broken { place: String, cause: String, advice: &'static str },

    /// No TLS or no token of ours: files that are of no use, a certificate that is not believed.
    #[error("{0}")]
    Security(String),

    /// What answers is not our server.
    #[error("{place} is no Aryavarth KVS server: {cause}; check the address")]
    NotAServer { place: String, cause: String },

    /// No answer within the limit that `--timeout` sets.
    #[error("no answer from {place} within {} s; {advice}", limit.as_secs())]
    Timeout { place: String, limit: std::time::Duration, advice: &'static str },

    /// The server understood and said no.
    #[error("{place} refused: {error} ({}){}", error.code, advice_of(error.code))]
    Refused { place: String, error: WireError },

    /// Input or data that is wrong; the message names the place.
    #[error("{0}")]
    Data(String),

    /// The store could not be reached through the Kubernetes API.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// A command about a store's objects failed.
    #[error(transparent)]
    Kubectl(#[from] KubectlError),

    /// The answer could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),

    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,

    /// The process could not set itself up.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// The exit code of this error, see [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::KeyNotFound => 1,
            Self::Said(code) => *code,
            Self::Usage(_) => 2,
            Self::Connect { .. } | Self::Broken { .. } | Self::NotAServer { .. } | Self::Runtime(_) => 3,
            Self::Security(_) => 4,
            Self::Refused { error, .. } if is_about_access(error.code) => 4,
            Self::Timeout { .. } => 5,
            Self::Refused { error, .. } if is_about_data(error.code) => 7,
            Self::Refused { .. } => 6,
            Self::Data(_) | Self::Output(_) => 7,
            Self::Store(_) => 8,
            Self::Kubectl(error) => error.exit_code(),
            Self::Interrupted => 130,
        }
    }

    /// The error as programs read it: the word to decide by, what people read, and the exit code.
    pub(crate) fn as_json(&self) -> Value {
        let code = match self {
            Self::KeyNotFound => ErrorCode::KeyNotFound.as_str(),
            Self::Said(_) => "said",
            Self::Refused { error, .. } => error.code.as_str(),
            Self::Usage(_) => "usage",
            Self::Connect { .. } => "connect",
            Self::Broken { .. } => "broken",
            Self::Security(_) => "security",
            Self::NotAServer { .. } => "not_a_server",
            Self::Timeout { .. } => "timeout",
            Self::Data(_) => "data",
            Self::Output(_) => "output",
            Self::Store(_) | Self::Kubectl(_) => "kubernetes",
            Self::Interrupted => "interrupted",
            Self::Runtime(_) => "start",
        };
        json!({"error": {"code": code, "message": self.to_string(), "exit": self.exit_code()}})
    }
}

/// Whether a refusal is the fault of the request's data, or of the data on disk.
pub(crate) fn is_about_data(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TooLarge | ErrorCode::InvalidRequest | ErrorCode::Malformed | ErrorCode::Corruption)
}

/// Whether the server does not know the client, or does not let it.
pub(crate) fn is_about_access(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unauthenticated | ErrorCode::Forbidden)
}

/// What to do about a refusal whose message can't know how the client was called.
fn advice_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthenticated => "; give the server's token with --token-file FILE",
        ErrorCode::Forbidden => "; it takes a token or a certificate whose role is higher",
        ErrorCode::TooLarge => "; the server's maxValueBytes says how long a value can be",
        _ => "",
    }
}
