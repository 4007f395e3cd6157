//! The command line of Aryavarth KVS.
//!
//! The way of a command: `arguments` (what was asked, of whom) -> `command` (what to say) -> `session` (one
//! connection at a time, retries) -> `connection` (requests and responses) over TCP, or over a port of a pod that
//! `store` finds and forwards through the Kubernetes API.
//!
//! What must hold: data goes to standard output, everything else to standard error, and an error is one line that says
//! what happened, where, and what to do next. Nothing of Kubernetes is touched unless a store is named.

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod command;
mod connection;
mod error;
mod import;
mod retry;
mod session;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Arguments;
use error::Error;
use session::Session;

/// Runs one command and gives its exit code, which is one of those that `--help` lists.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run_inner(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Output(cause)) if cause.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        // These three words are the contract of `rm`; every other error says whose it is.
        Err(Error::KeyNotFound) => {
            eprintln!("{}", Error::KeyNotFound);
            Error::KeyNotFound.exit_code()
        }
        Err(error) => {
            eprintln!("kvs-client: {error}");
            error.exit_code()
        }
    }
}

fn run_inner(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    let Some(arguments) = Arguments::parse(arguments)? else { return Ok(()) };
    let target = arguments.connection.target(|name| std::env::var(name).ok())?;
    let session = Session::new(target, arguments.connection.timeout());
    // One thread is enough for one connection, and starts faster than a pool.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let result = runtime.block_on(command::run(arguments.command, session));
    // Not waiting for a name that is still being looked up.
    runtime.shutdown_background();
    result
}
