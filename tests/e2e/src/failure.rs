//! `Failure`: why a story failed.

use std::io;
use std::time::Duration;

/// Why a story failed. A broken promise of the product is mostly a failed assertion in the story itself; these are the
/// ways in which a story could not even get that far.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something that the stories need is not there. Who started them must give it.
    #[error("{0}")]
    Setup(String),

    /// The API server refused or did not answer.
    #[error("{doing}: {source}")]
    Kubernetes {
        /// What was being done.
        doing: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },

    /// A program ended otherwise than it should have.
    #[error("`{line}` {ending}{output}")]
    Program {
        /// The command line.
        line: String,
        /// How it ended.
        ending: String,
        /// What it wrote, if anything.
        output: String,
    },

    /// A condition was not reached in time. What was last seen mostly says whose fault it is.
    #[error("not within {} s: {awaited}; last seen: {seen}", limit.as_secs())]
    Deadline {
        /// What was waited for.
        awaited: String,
        /// What was seen instead.
        seen: String,
        /// How long was waited.
        limit: Duration,
    },

    /// A file or a connection could not be read or written.
    #[error("{doing}: {source}")]
    InputOutput {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// An answer makes no sense.
    #[error("{0}")]
    Unexpected(String),
}

impl Failure {
    /// Says what was being done when the API server refused or did not answer.
    pub fn kubernetes(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kubernetes { doing: doing.into(), source: Box::new(source) }
    }

    /// Says what was being done when the operating system refused.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::InputOutput { doing: doing.into(), source }
    }
}
