//! How the server writes its own log: to standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use kvs_protocol::config::LogConfig;
use kvs_protocol::names::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::error::ServerError;
use crate::settings::DEFAULT_LOG_LEVEL;
use kvs_engine::Repeated;

/// Changes the filter of the log that was begun.
type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Set when logging begins; a process has one log.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// Whether a level is one.
///
/// # Errors
/// [`ServerError::Configuration`]: the level is no filter.
pub(crate) fn check(config: &LogConfig) -> Result<(), ServerError> {
    filter(config).map(drop)
}

/// Logs by the level of this configuration from now on.
///
/// # Errors
/// [`ServerError::Configuration`] when the level is none.
pub(crate) fn set_level(config: &LogConfig) -> Result<(), ServerError> {
    let filter = filter(config)?;
    if let Some(set) = SET_FILTER.get() {
        set(filter);
    }
    Ok(())
}

fn filter(config: &LogConfig) -> Result<EnvFilter, ServerError> {
    let level = config.level.as_deref().unwrap_or(DEFAULT_LOG_LEVEL);
    // Alone, a word that is no level would be taken for the name of a module, and silence all others.
    if level.bytes().all(|byte| byte.is_ascii_alphabetic()) && level.parse::<LevelFilter>().is_err() {
        let levels = "use one of: error, warn, info, debug, trace, or a filter such as kvs_engine=debug,info";
        return Err(ServerError::Configuration(format!("log level '{level}' is unknown; {levels}")));
    }
    EnvFilter::try_new(level)
        .map_err(|error| ServerError::Configuration(format!("log level '{level}' is no filter: {error}")))
}

/// Begins logging. Panics of jobs go to the log too.
///
/// # Errors
/// [`ServerError::Configuration`] when the level is none.
pub fn start(config: &LogConfig) -> Result<(), ServerError> {
    let filter = filter(config)?;
    let terminal = io::stderr().is_terminal();
    let json = match config.format.unwrap_or_default() {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // The convention of no-color.org: any text in the variable turns colours off.
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Unheard).with_ansi(colours);
    if json {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let handle = builder.reload_handle();
        begin(builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))));
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        begin(builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))));
    }
    // A fault that every request meets must not fill the disk with its lines.
    let faults = Repeated::default();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(failed) = faults.count() {
            tracing::error!(failed, "a fault of the server: {panic}");
        }
    }));
    Ok(())
}

/// Keeps how the filter is changed. A second log, in a test, changes nothing.
fn begin<E>(begun: Result<(), E>, set_filter: SetFilter) {
    if begun.is_ok() {
        let _ = SET_FILTER.set(set_filter);
    }
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
