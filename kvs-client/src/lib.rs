//! The command line of Aryavarth KVS.
//!
//! The way of a command: `arguments` (what was asked, of whom) -> `command` (what to say) -> `session` (one
//! connection at a time, retries) -> `connection` (requests and responses) over TCP, or over a port of a pod that
//! `store` finds and forwards through the Kubernetes API. Answers leave through `output`.
//!
//! What must hold: data goes to standard output, everything else to standard error, and an error is one line that says
//! what happened, where, and what to do next, and that no server can put a control character into. Nothing of Kubernetes
//! is touched unless a store is named.

#![forbid(unsafe_code)]

mod address;
mod arguments;
mod backup;
mod bench;
mod command;
mod connection;
mod error;
mod escape;
mod export;
mod import;
mod interrupt;
mod kubectl;
mod manual;
mod output;
mod progress;
mod prompt;
mod resume;
mod retry;
mod scan;
mod security;
mod session;
mod status;
mod store;
mod value;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use error::Error;
use interrupt::interruptible;
use output::{Format, Output};
use session::Session;

/// Runs one command and gives its exit code, which is one of those that `--help` lists.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::parse(or_prompt(arguments.into_iter().collect())) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return report(&error, Format::Text),
    };
    let format = arguments.output;
    match run_command(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error, format),
    }
}

/// Somebody at a terminal who names no command wants a prompt; a script that names none has a mistake.
fn or_prompt(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.len() == 1 && io::stdin().is_terminal() && io::stdout().is_terminal() {
        arguments.push("repl".into());
    }
    arguments
}

fn run_command(arguments: Arguments) -> Result<(), Error> {
    let Arguments { connection, output, command } = arguments;
    let variable = |name: &str| std::env::var(name).ok();
    let output = Output { format: output };
    // One thread is enough for one connection, and starts faster than a pool.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    if let Command::Kubectl { command } = command {
        let access = connection.cluster(variable)?;
        let result = runtime.block_on(interruptible(kubectl::run(command, &access, connection.timeout(), output)));
        runtime.shutdown_background();
        return result;
    }
    let session = Session::new(connection.target(variable)?, connection.timeout());
    // At the prompt, an interruption ends a line and not the program.
    let result = match command {
        Command::Repl { history } => {
            let history = history_file(history, |name| std::env::var_os(name));
            runtime.block_on(prompt::run(session, history, output))
        }
        command => runtime.block_on(interruptible(command::run(command, session, output))),
    };
    // Not waiting for a name that is still being looked up, or for a standard input that has no end.
    runtime.shutdown_background();
    result
}

/// Where the prompt keeps its lines: as the flag says, else where programs keep such things.
fn history_file(flag: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(file) = flag {
        return Some(file).filter(|file| !file.as_os_str().is_empty());
    }
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("kvs-client/history"))
}

/// Says what went wrong, if somebody is left to hear it.
fn report(error: &Error, format: Format) -> ExitCode {
    match error {
        Error::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        error => output::complain(error, format),
    }
    ExitCode::from(error.exit_code())
}
