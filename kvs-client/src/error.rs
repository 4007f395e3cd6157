//! The one error of the client. Each variant says what happened, where, and what to do next, and has an exit code.

use std::io;
use std::process::ExitCode;

use kvs_protocol::{ErrorCode, WireError};

use crate::store::StoreError;

/// The exit codes, as `--help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done (a get of a missing key too)
  1  rm: key not found
  2  wrong arguments
  3  cannot connect, or the connection broke
  5  no answer in time
  6  the server refused (busy, no space, closing)
  7  wrong data: bad input, over a limit, or damaged on the server's disk
  8  Kubernetes: no access, no such store, no ready pod";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line makes no sense; the user must change it.
    #[error("{0}")]
    Usage(String),

    /// `rm` of a missing key.
    #[error("Key not found")]
    KeyNotFound,

    /// Nobody answers at the address.
    #[error("cannot connect to {place}: {cause}; is kvs-server running there? (--addr names another address)")]
    Connect { place: String, cause: io::Error },

    /// The connection ended before the answer.
    #[error("the connection to {place} broke: {cause}; {advice}")]
    Broken { place: String, cause: String, advice: &'static str },

    /// What answers is not our server.
    #[error("{place} is no Aryavarth KVS server: {cause}; check the address")]
    NotAServer { place: String, cause: String },

    /// No answer within the limit that `--timeout` sets.
    #[error("no answer from {place} within {} s; {advice}", limit.as_secs())]
    Timeout { place: String, limit: std::time::Duration, advice: &'static str },

    /// The server understood and said no.
    #[error("{place} refused: {error} ({})", error.code)]
    Refused { place: String, error: WireError },

    /// Input or data that is wrong; the message names the place.
    #[error("{0}")]
    Data(String),

    /// The store could not be reached through the Kubernetes API.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The answer could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),

    /// The process could not set itself up.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// The exit code of this error, see [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::KeyNotFound => 1,
            Self::Usage(_) => 2,
            Self::Connect { .. } | Self::Broken { .. } | Self::NotAServer { .. } | Self::Runtime(_) => 3,
            Self::Timeout { .. } => 5,
            Self::Refused { error, .. } if is_about_data(error.code) => 7,
            Self::Refused { .. } => 6,
            Self::Data(_) | Self::Output(_) => 7,
            Self::Store(_) => 8,
        })
    }
}

/// Whether a refusal is the fault of the request's data, or of the data on disk.
pub(crate) fn is_about_data(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TooLarge | ErrorCode::InvalidRequest | ErrorCode::Malformed | ErrorCode::Corruption)
}
