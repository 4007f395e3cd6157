//! The limit of open files, raised to what the system allows, and how many of them clients may have.
//!
//! What must hold: clients never take the descriptors that the log needs, because a log that can't open its next file
//! ends the server.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::MAX_CONNECTIONS;

/// Descriptors that the server needs beside its clients': the log's files, the admin port, the runtime.
const OTHER_DESCRIPTORS: u64 = 1024;

/// Raises the limit.
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

/// How many of `wanted` connections there are descriptors for, beside what the server needs: at most half of a low limit.
pub(crate) fn connections_allowed(wanted: usize) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    connections_within(allowed, wanted)
}

fn connections_within(allowed: u64, wanted: usize) -> usize {
    let for_clients = allowed - OTHER_DESCRIPTORS.min(allowed / 2);
    wanted.min(usize::try_from(for_clients).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn the_log_keeps_its_share_of_the_descriptors() {
        assert_eq!(connections_within(u64::MAX, 10_000), 10_000);
        assert_eq!(connections_within(20_000, 10_000), 10_000);
        assert_eq!(connections_within(4_096, 10_000), 3_072);
        assert_eq!(connections_within(64, 10_000), 32);
        assert_eq!(connections_within(0, 10_000), 1);
    }
}
