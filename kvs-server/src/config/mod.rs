//! `ConfigFile`: the YAML file, read and judged; and `kvs-server config`, which checks one and prints what holds.
//!
//! What must hold: an error says the file, the cause, and line and column where there are some; what is printed can be
//! read again as a file; no secret is ever printed, because the configuration has none: it names files.

mod fields;
mod mistake;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, Subcommand};
use kvs_protocol::config::ServerConfig;

use crate::access::Grants;
use crate::arguments::{Arguments, CommandLine};
use crate::error::ServerError;
use crate::files::read_bounded;
use crate::logging;
use crate::settings::Settings;
use crate::tls::TlsFiles;
use crate::verbs::{Verdict, printing};

pub(crate) use fields::flat;
pub use fields::{FIELDS, Field};

/// A configuration file that was read.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    text: String,
    pub(crate) config: ServerConfig,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ServerError::Configuration`] names the file, what is wrong and where.
    pub(crate) fn read(path: &Path) -> Result<Self, ServerError> {
        let wrong = |cause: String| ServerError::Configuration(format!("{}: {cause}", path.display()));
        let bytes = read_bounded(path).map_err(|error| wrong(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8; write it again as text".to_owned()))?;
        let config = ServerConfig::from_yaml(&text).map_err(|error| wrong(mistake::of_form(&error)))?;
        Ok(Self { path: path.to_owned(), text, config })
    }

    /// The termination log that a file names, whatever else is wrong with it: who can't read it as a whole has to say so
    /// there. Its own line is looked for, as the operator writes it.
    pub(crate) fn termination_log(path: &Path) -> Option<PathBuf> {
        let text = String::from_utf8(read_bounded(path).ok()?).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix("terminationLog:"))?;
        serde_yaml::from_str::<String>(value).ok().filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// Says that it is this file where the mistake stands, if the file alone has it.
    pub(crate) fn blame(&self, error: ServerError) -> ServerError {
        let ServerError::Configuration(cause) = error else { return error };
        let alone = Settings::from_config(self.config.clone()).and_then(|settings| logging::check(&settings.log));
        if !matches!(alone, Err(ServerError::Configuration(found)) if found == cause)
            || self.path.as_os_str().is_empty()
        {
            return ServerError::Configuration(cause);
        }
        let place = mistake::place_of_value(&self.text, &cause)
            .map(|(line, column)| format!(", at line {line} column {column}"))
            .unwrap_or_default();
        ServerError::Configuration(format!("{}: {cause}{place}", self.path.display()))
    }
}

/// `kvs-server config`.
#[derive(Debug, Args)]
pub struct ConfigVerb {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Reads a configuration file and the files that it names, as the server would; changes nothing
    ///
    /// Exit code 0: the server would take it, 2: it would not.
    Check {
        /// The file
        file: PathBuf,
    },
    /// Prints what the server would run with, and where each value comes from
    Print {
        /// What the server would be started with.
        #[command(flatten)]
        arguments: Box<Arguments>,
    },
}

impl ConfigVerb {
    /// Does it; the result goes to `out`.
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        match self.what {
            What::Check { file } => {
                check(&file)?;
                writeln!(out, "{}: the server would take this", file.display()).map_err(printing)?;
            }
            What::Print { arguments } => {
                // Read once more, because only clap's own form of the command line says where a value comes from.
                let matches = CommandLine::command().get_matches();
                let place = |matches: &ArgMatches| Some(matches.subcommand_matches("config")?.subcommand()?.1.clone());
                let matches = place(&matches).unwrap_or(matches);
                let source = |field: &Field| match matches.value_source(&field.argument()) {
                    Some(ValueSource::CommandLine) => Some(format!("flag {}", field.flag())),
                    Some(ValueSource::EnvVariable) => Some(format!("variable {}", field.variable())),
                    _ => None,
                };
                print(&arguments, source, out)?;
            }
        }
        Ok(Verdict::Sound)
    }
}

/// Whether the server would take this file, with the files that it names.
fn check(path: &Path) -> Result<(), ServerError> {
    let file = ConfigFile::read(path)?;
    let judged = Settings::from_config(file.config.clone()).and_then(|settings| {
        logging::check(&settings.log)?;
        Ok(settings)
    });
    let settings = judged.map_err(|error| file.blame(error))?;
    if let Some(tls) = &settings.tls {
        TlsFiles::of(tls).load()?;
    }
    if let Some(tokens) = &settings.auth_tokens {
        Grants::read(tokens)?;
    }
    Ok(())
}

/// Prints what holds as a file of its own, with a remark behind each value.
fn print(
    arguments: &Arguments,
    source: impl Fn(&Field) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), ServerError> {
    let holds = flat(&arguments.settings()?.to_config());
    let in_file = match arguments.file() {
        Some(path) => flat(&ConfigFile::read(path)?.config),
        None => Default::default(),
    };
    let mut group = "";
    for field in FIELDS {
        let (its_group, word) = field.path.split_once('.').unwrap_or(("", field.path));
        let indent = if its_group.is_empty() { "" } else { "  " };
        let is_new_group = std::mem::replace(&mut group, its_group) != its_group && !its_group.is_empty();
        if is_new_group {
            writeln!(out, "{its_group}:").map_err(printing)?;
        }
        let from_file =
            || in_file.contains_key(field.path).then(|| arguments.file().map(|path| path.display().to_string()));
        let source = source(field).or_else(|| Some(format!("file {}", from_file()??)));
        let line = match holds.get(field.path) {
            Some(value) => format!("{indent}{word}: {value}  # {}", source.as_deref().unwrap_or("default")),
            None => format!("{indent}# {word}: {}", field.usual),
        };
        writeln!(out, "{line}").map_err(printing)?;
    }
    Ok(())
}
