//! The limit of open files, raised to what the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::MAX_CONNECTIONS;

/// Descriptors that the server needs beside its clients': the log's files, the admin port, the runtime.
const OTHER_DESCRIPTORS: u64 = 1024;

/// Raises the limit. Where the system does not allow enough, accepting backs off when descriptors run out.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let needed = MAX_CONNECTIONS as u64 + OTHER_DESCRIPTORS;
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed) {
        tracing::warn!(allowed, needed, "few open files are allowed; some clients may have to wait");
    }
}
