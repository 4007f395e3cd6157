//! bin `kvs-server`: arguments, logging, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use kvs_server::{Arguments, ServerError, Stop, one_line, raise_limit, run, start_logging};

/// The exit code for wrong arguments or configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            say(&one_line(&error));
            return ExitCode::from(EXIT_USAGE);
        }
        // Help and version go to standard output.
        Err(error) => error.exit(),
    };
    let mut termination_log = arguments.termination_log();
    let result = arguments.settings().and_then(|settings| {
        termination_log.clone_from(&settings.termination_log);
        start_logging(&settings.log)?;
        raise_limit();
        run(settings, &Stop::default())
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    say(&error.to_string());
    if let Some(path) = termination_log {
        error.write_termination_log(&path);
    }
    if matches!(error, ServerError::Configuration(_)) { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// The last word on standard error; if that is closed, the exit code says enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "kvs-server: {line}");
}
