//! How the server writes its own log: to standard error, as text for people or as JSON for machines.

use std::io::IsTerminal as _;

use kvs_protocol::config::LogConfig;
use kvs_protocol::names::LogFormat;
use tracing_subscriber::EnvFilter;

use crate::error::ServerError;

/// Begins logging. Panics of jobs go to the log too.
///
/// # Errors
/// [`ServerError::Configuration`]: the level is no filter.
pub fn start(config: &LogConfig) -> Result<(), ServerError> {
    let level = config.level.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level)
        .map_err(|error| ServerError::Configuration(format!("log level '{level}' is no filter: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format.unwrap_or_default() {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // The convention of no-color.org: any text in the variable turns colours off.
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second call, in a test, changes nothing.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    std::panic::set_hook(Box::new(|panic| tracing::error!("a fault of the server: {panic}")));
    Ok(())
}
