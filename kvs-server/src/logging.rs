//! How the server writes its own log: to standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal as _, Write};

use kvs_protocol::config::LogConfig;
use kvs_protocol::names::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::error::ServerError;

/// Begins logging. Panics of jobs go to the log too.
///
/// # Errors
/// [`ServerError::Configuration`]: the level is no filter.
pub fn start(config: &LogConfig) -> Result<(), ServerError> {
    let level = config.level.as_deref().unwrap_or("info");
    // Alone, a word that is no level would be taken for the name of a module, and silence all others.
    if level.bytes().all(|byte| byte.is_ascii_alphabetic()) && level.parse::<LevelFilter>().is_err() {
        let levels = "use one of: error, warn, info, debug, trace, or a filter such as kvs_engine=debug,info";
        return Err(ServerError::Configuration(format!("log level '{level}' is unknown; {levels}")));
    }
    let filter = EnvFilter::try_new(level)
        .map_err(|error| ServerError::Configuration(format!("log level '{level}' is no filter: {error}")))?;
    let terminal = io::stderr().is_terminal();
    let json = match config.format.unwrap_or_default() {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // The convention of no-color.org: any text in the variable turns colours off.
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Unheard).with_ansi(colours);
    // A second call, in a test, changes nothing.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    std::panic::set_hook(Box::new(|panic| tracing::error!("a fault of the server: {panic}")));
    Ok(())
}

/// How a verb logs: for people, and only what they should know.
#[must_use]
pub fn of_verbs() -> LogConfig {
    LogConfig { level: Some("warn".into()), format: Some(LogFormat::Text) }
}

/// Standard error, which whoever started the server may have closed (`kvs-server 2>&1 | head -1`): then what is logged
/// is lost, and nothing else. A panic, which is what a failed write to it is by default, would end the server.
struct Unheard;

impl Write for Unheard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A part of a line is no line.
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
