//! Ctrl-C: a command that is interrupted ends at once, says so, and leaves with exit code 130.

use std::future::Future;

use crate::error::Error;

/// Does the work until it is done or somebody presses Ctrl-C. Work that is dropped has, like work that is killed, done
/// what it has done: every command can be repeated.
pub(crate) async fn interruptible<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        // The work first: most of it is over before a signal handler would be in place.
        biased;
        result = work => result,
        Ok(()) = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    }
}
