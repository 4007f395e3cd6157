//! The command line: what was asked, and of whom.
//!
//! What must hold: a wrong command line is one line on standard error and exit code 2, before anything is connected.
//! A flag wins over a variable, and a variable over the default.

mod commands;
mod connection;
mod kubectl;

use std::ffi::{OsStr, OsString};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::{EXIT_CODES, Error};
use crate::output::Format;

pub(crate) use commands::{BackupFlags, BenchFlags, Command, DataCommand, ExportFlags, FileFormat, ImportFlags};
pub(crate) use connection::ConnectionFlags;
pub(crate) use kubectl::{
    BackupsFlags, ChangeFlags, KubectlCommand, LogsFlags, PlaceFlags, RepairFlags, ReportFlags, RestoreFlags,
};

/// Talks to an Aryavarth KVS server.
#[derive(Debug, Parser)]
#[command(name = "kvs-client", version, propagate_version = true, after_long_help = EXIT_CODES)]
#[command(about = "Talks to an Aryavarth KVS server, or to a KvsStore in Kubernetes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,
    /// How to print answers
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "text", env = "KVS_OUTPUT")]
    #[arg(help_heading = "Output")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A line at the prompt: a command without the program's name.
#[derive(Debug, Parser)]
#[command(multicall = true, disable_version_flag = true, about = "What the prompt takes; `quit` or Ctrl-D ends it")]
pub(crate) struct PromptLine {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

impl Arguments {
    /// Reads the command line. `None` when it asked for help or the version, which are printed by now.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        if is_plugin(arguments.first()) {
            return Ok(parse::<kubectl::PluginArguments>(arguments)?.map(Self::from));
        }
        parse::<Self>(arguments)
    }
}

/// Whether the program was called as kubectl calls its plugin `kvs`.
fn is_plugin(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| std::path::Path::new(program).file_stem());
    name.is_some_and(|name| name == "kubectl-kvs")
}

impl PromptLine {
    /// Reads the words of a line. `None` when it asked for help, which is printed by now.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, Error> {
        parse::<Self>(words)
    }
}

/// Reads a command line of ours.
pub(crate) fn parse<P: Parser>(words: impl IntoIterator<Item = OsString>) -> Result<Option<P>, Error> {
    let words: Vec<OsString> = words.into_iter().collect();
    match P::try_parse_from(&words) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.print().map_err(Error::Output)?;
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Error::Usage("name a command, such as set, get, rm, scan or import (--help says more)".into()))
        }
        Err(error) => {
            let line = one_line(&error.render().to_string());
            let is_set = |name: &OsStr| std::env::var_os(name).is_some();
            let mut command = P::command();
            // Only now its flags can be written as clap does.
            command.build();
            Err(Error::Usage(with_variable(line, &error, &command, &words, is_set)))
        }
    }
}

/// The line with the variable in place of its flag, if that is where a wrong value stands: clap names the flag for both.
fn with_variable(
    line: String,
    error: &clap::Error,
    command: &clap::Command,
    words: &[OsString],
    is_set: impl Fn(&OsStr) -> bool,
) -> String {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return line };
    let Some(argument) = argument_of(command, flag) else { return line };
    let (long, short) = (argument.get_long(), argument.get_short());
    let is_given = words.iter().filter_map(|word| word.to_str()).any(|word| match word.strip_prefix("--") {
        Some(word) => long == Some(word.split('=').next().unwrap_or(word)),
        None => word.starts_with('-') && short.is_some_and(|short| word.contains(short)),
    });
    match argument.get_env().filter(|name| !is_given && is_set(name)) {
        Some(name) => line.replace(&format!(" for '{flag}'"), &format!(" in {}", name.display())),
        None => line,
    }
}

/// The flag that clap writes so, of a command or of those below it.
fn argument_of<'a>(command: &'a clap::Command, flag: &str) -> Option<&'a clap::Arg> {
    let own = command.get_arguments().find(|argument| argument.to_string() == flag);
    own.or_else(|| command.get_subcommands().find_map(|command| argument_of(command, flag)))
}

/// clap's error in one line: its paragraphs joined, without the last one, which points to the help that we name shorter.
fn one_line(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let kept: Vec<String> = paragraphs
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("For more information"))
        .map(|paragraph| match paragraph.strip_prefix("Usage: ") {
            Some(usage) => format!("usage: {usage}"),
            None => paragraph,
        })
        .collect();
    format!("{} (--help says more)", kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Target;

    fn parse(line: &str) -> Result<Option<Arguments>, Error> {
        Arguments::parse(std::iter::once("kvs-client").chain(line.split_whitespace()).map(OsString::from))
    }

    fn target(line: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let arguments = parse(line).map_err(|error| error.to_string())?.expect("not a request for help");
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match arguments.connection.target(variable).map_err(|error| error.to_string())? {
            Target::Address { address, .. } => Ok(address.to_string()),
            Target::Store(store) => Ok(format!("store {}", store.name())),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_default() {
        let both = [("KVS_ADDR", "10.0.0.1:1"), ("KVS_STORE", "shop/orders")];
        assert_eq!(target("get k", &[]).unwrap(), "127.0.0.1:4000");
        assert_eq!(target("get k", &[("KVS_ADDR", "")]).unwrap(), "127.0.0.1:4000");
        assert_eq!(target("get k", &both[..1]).unwrap(), "10.0.0.1:1");
        assert_eq!(target("get k", &both[1..]).unwrap(), "store shop/orders");
        assert_eq!(target("get k --addr localhost:5", &both).unwrap(), "localhost:5");
        assert_eq!(target("--store a/b get k", &both).unwrap(), "store a/b");
        assert!(target("get k", &both).unwrap_err().contains("both set"));
    }

    #[test]
    fn flags_that_fight_are_refused() {
        for line in ["get k --addr localhost:5 --store a/b", "--addr localhost:5 get k --store a/b"] {
            assert!(target(line, &[]).unwrap_err().contains("two different servers"), "{line}");
        }
        assert!(target("get k --context c", &[]).unwrap_err().contains("go with --store"));
        assert!(target("get k", &[("KVS_ADDR", "nonsense")]).unwrap_err().contains("in KVS_ADDR: want IP:PORT"));
        assert!(
            target("get k", &[("KVS_STORE", "nonsense")]).unwrap_err().contains("in KVS_STORE: want NAMESPACE/NAME")
        );
    }

    #[test]
    fn a_wrong_value_is_looked_for_where_it_stands() {
        use clap::CommandFactory as _;
        let mut command = Arguments::command();
        command.build();
        for (line, set, expected) in [
            ("--timeout x get k", "", "'x' for '--timeout <SECONDS>': "),
            ("--timeout x get k", "KVS_TIMEOUT", "'x' for '--timeout <SECONDS>': "),
            ("get k --timeout=x", "KVS_TIMEOUT", "'x' for '--timeout <SECONDS>': "),
            ("get k -ox", "KVS_OUTPUT", "'x' for '--output <FORMAT>' "),
        ] {
            let words: Vec<OsString> =
                std::iter::once("kvs-client").chain(line.split_whitespace()).map(OsString::from).collect();
            let error = Arguments::try_parse_from(&words).unwrap_err();
            let said = |words: &[OsString]| {
                let line = one_line(&error.render().to_string());
                with_variable(line, &error, &command, words, |name| name == set)
            };
            assert!(said(&words).contains(expected), "{}", said(&words));
            // What clap says of a variable is the same; only the words lack the flag.
            let without = said(&words[..1]);
            assert_eq!(without.contains(&format!("'x' in {set}")), !set.is_empty(), "{without}");
        }
    }

    #[test]
    fn no_command_at_all_is_answered_shortly() {
        let error = parse("").expect_err("there is nothing to do").to_string();
        assert!(error.contains("name a command") && !error.contains("Usage"), "{error}");
    }

    #[test]
    fn every_mistake_is_one_line() {
        let mistakes = [
            "",
            "set",
            "set key",
            "set key value more",
            "get",
            "get a b",
            "rm",
            "nonsense",
            "get key --nonsense",
            "get key --addr nonsense",
            "get key --addr",
            "get key --timeout 0",
            "import",
            "get key --store nonsense",
        ];
        for line in mistakes {
            let error = parse(line).expect_err(line).to_string();
            assert!(!error.contains('\n') && !error.starts_with("error") && error.len() > 20, "{line}: {error}");
        }
        assert_eq!(
            parse("get").unwrap_err().to_string(),
            "the following required arguments were not provided: <KEY>; usage: kvs-client get <KEY> (--help says more)"
        );
    }

    #[test]
    fn numbers_below_zero_are_keys_and_values() {
        let Command::Data(DataCommand::Set { key, value, .. }) = parse("set -1 -2.5").unwrap().unwrap().command else {
            panic!("a set")
        };
        assert_eq!((key.to_str(), value.to_str()), (Some("-1"), Some("-2.5")));
    }

    /// Every flag of every command, with its variable as the help shows it.
    #[test]
    fn every_flag_has_a_variable() {
        use clap::CommandFactory as _;
        fn check(command: &clap::Command, seen: &mut usize) {
            for argument in command.get_arguments() {
                let Some(flag) = argument.get_long().filter(|flag| !matches!(*flag, "help" | "version")) else {
                    continue;
                };
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let name = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                let is_named = name.is_some_and(|name| name.starts_with("KVS_")) || help.contains("[env: KVS_");
                assert!(is_named, "--{flag} of {} has no variable", command.get_name());
                *seen += 1;
            }
            command.get_subcommands().for_each(|command| check(command, seen));
        }
        let mut seen = 0;
        check(&Arguments::command(), &mut seen);
        assert!(seen > 20, "{seen} flags");
    }
}
