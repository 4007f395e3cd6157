//! bin `kvs-server`: arguments, logging, run, exit code.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use kvs_server::{
    Arguments, CommandLine, EXIT_DAMAGED, EXIT_USAGE, ServerError, Source, Stop, Verb, Verdict, one_line, raise_limit,
    run, start_logging, verb_logging,
};

fn main() -> ExitCode {
    match CommandLine::try_parse() {
        Ok(CommandLine { verb: Some(verb), .. }) => look_after(verb),
        Ok(CommandLine { verb: None, arguments }) => serve(arguments),
        Err(error) if error.use_stderr() => {
            say(&one_line(&error, std::env::args_os()));
            ExitCode::from(EXIT_USAGE)
        }
        // Help and version go to standard output.
        Err(error) => error.exit(),
    }
}

fn serve(arguments: Arguments) -> ExitCode {
    let mut termination_log = arguments.termination_log();
    let result = arguments.settings().and_then(|settings| {
        termination_log.clone_from(&settings.termination_log);
        start_logging(&settings.log)?;
        raise_limit();
        let source = arguments.clone();
        let file = source.file().map(Path::to_path_buf);
        run(settings, Source { read: Box::new(move || source.settings()), file }, &Stop::default())
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    say(&error.to_string());
    if let Some(path) = termination_log {
        error.write_termination_log(&path);
    }
    if matches!(error, ServerError::Configuration(_)) { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

fn look_after(verb: Verb) -> ExitCode {
    raise_limit();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = start_logging(&verb_logging()).and_then(|()| verb.run(&mut out));
    let printed = out.flush();
    match (result, printed) {
        (Ok(Verdict::Sound), Ok(())) => ExitCode::SUCCESS,
        (Ok(Verdict::Damaged), Ok(())) => ExitCode::from(EXIT_DAMAGED),
        (Err(error), _) if error.is_broken_pipe() => ExitCode::SUCCESS,
        (Err(error), _) => {
            say(&error.to_string());
            ExitCode::from(error.exit_code())
        }
        (Ok(_), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        (Ok(_), Err(error)) => {
            say(&format!("cannot print the result: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The last word on standard error; if that is closed, the exit code says enough.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "kvs-server: {line}");
}
