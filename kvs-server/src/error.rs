//! The one error of the server: why it could not start or go on, and who must act.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kvs_protocol::names::EngineName;
use kvs_protocol::termination::{TerminationCause, TerminationMessage};

use crate::pool::PoolError;

/// The exit code for wrong arguments or configuration,
pub const EXIT_USAGE: u8 = 2;
/// for damaged data,
pub const EXIT_DAMAGED: u8 = 65;
/// for a disk that can't be read or written,
const EXIT_IO: u8 = 74;
/// and for everything else.
const EXIT_FAILURE: u8 = 1;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A flag, variable or line of the file is wrong. Whoever wrote it must correct it.
    #[error("{0}")]
    Configuration(String),

    /// An address can't be listened on. Somebody must free it or choose another.
    #[error("cannot listen on {addr}: {source}; stop what listens there or choose another {flag}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The flag that names it.
        flag: &'static str,
        /// What the operating system said.
        source: io::Error,
    },

    /// The data folder was written by another engine. Whoever starts the server must name that engine or another folder.
    #[error("{} holds data of the {found} engine, not of {wanted}; start with --engine {found}, or choose another --data-dir", folder.display())]
    WrongEngine {
        /// The folder.
        folder: PathBuf,
        /// The engine that wrote it.
        found: EngineName,
        /// The engine that was asked for.
        wanted: EngineName,
    },

    /// The data folder belongs to another store. Whoever runs the stores must give each a volume of its own.
    #[error("{} belongs to the store {found}, not to {wanted}; give this store a volume of its own, or start with --store {found}", folder.display())]
    ForeignVolume {
        /// The folder.
        folder: PathBuf,
        /// The store that it belongs to.
        found: String,
        /// The store that this server is of.
        wanted: String,
    },

    /// A backup is not what it was when it was made. Whoever keeps backups must name another one.
    #[error("{}: {reason}; nothing was restored: name another backup, and look after the disk of this one", file.display())]
    DamagedBackup {
        /// The file that differs.
        file: PathBuf,
        /// How it differs.
        reason: String,
    },

    /// Something is where a backup was to be restored. Whoever restores must name another folder.
    #[error("{} is not empty ({found} is there); nothing was restored: name an empty folder, or one that is missing", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// One of the things in it.
        found: String,
    },

    /// The engine can't open, go on or close; its error says who must act.
    #[error(transparent)]
    Engine(#[from] kvs_engine::Error),

    /// The pool can't be made.
    #[error(transparent)]
    Pool(#[from] PoolError),

    /// Something else failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ServerError {
    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }

    /// The word that the operator decides by.
    #[must_use]
    pub fn cause(&self) -> TerminationCause {
        match self {
            Self::Configuration(_) => TerminationCause::Configuration,
            Self::WrongEngine { .. } => TerminationCause::WrongEngine,
            Self::ForeignVolume { .. } => TerminationCause::ForeignVolume,
            Self::Engine(kvs_engine::Error::Corruption { .. }) => TerminationCause::Corruption,
            Self::DamagedBackup { .. } => TerminationCause::BackupDamaged,
            Self::Engine(kvs_engine::Error::Poisoned { .. }) => TerminationCause::Poisoned,
            Self::Engine(kvs_engine::Error::WrongFolder { .. }) => TerminationCause::WrongEngine,
            Self::NotEmpty { .. } | Self::Listen { .. } | Self::Engine(_) | Self::Pool(_) | Self::Io { .. } => {
                TerminationCause::Failure
            }
        }
    }

    /// The exit code of the program, by the convention of BSD's sysexits where one of them fits.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => EXIT_USAGE,
            Self::Engine(kvs_engine::Error::Corruption { .. }) | Self::DamagedBackup { .. } => EXIT_DAMAGED,
            // The file that says whose folder this is has no checksum; what is wrong with it is seen when it is read.
            Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData => EXIT_DAMAGED,
            Self::Engine(kvs_engine::Error::Io { .. }) | Self::Io { .. } => EXIT_IO,
            _ => EXIT_FAILURE,
        }
    }

    /// Whether whoever reads the output has gone: `kvs-server dump | head` wants no more, which is no failure.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        let kind = match self {
            Self::Engine(kvs_engine::Error::Io { source, .. }) => source.kind(),
            Self::Io { source, .. } => source.kind(),
            _ => return false,
        };
        kind == io::ErrorKind::BrokenPipe
    }

    /// Writes the cause where Kubernetes keeps it. Best effort: there is nobody left to tell of a failure.
    pub fn write_termination_log(&self, path: &Path) {
        let message = TerminationMessage { cause: self.cause(), text: self.to_string() };
        if let Err(error) = std::fs::write(path, format!("{message}\n")) {
            tracing::warn!(%error, path = %path.display(), "cannot write the termination log");
        }
    }
}
