//! `Settings`: what a server runs with, after flags, variables and file are put together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvs_engine::{Observer, Options, SyncPolicy};
use kvs_protocol::config::{CLIENT_PORT, LogConfig, ServerConfig};
use kvs_protocol::limits::{DEFAULT_MAX_VALUE_BYTES, HIGHEST_MAX_VALUE_BYTES};
use kvs_protocol::names::{EngineName, PoolStrategy, SyncMode};

use crate::error::ServerError;
use crate::pool::MAX_THREADS;

/// With `sync: interval`, the longest time between a write and its sync unless configured otherwise, in milliseconds.
pub(crate) const DEFAULT_SYNC_INTERVAL_MS: u64 = 1000;
/// The longest that can be configured: who accepts a longer loss wants `sync: os`.
pub(crate) const MAX_SYNC_INTERVAL_MS: u64 = 60_000;

/// What a server runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Where health and metrics are served, if at all.
    pub admin_addr: Option<SocketAddr>,
    /// The engine that was asked for; `None` takes the one whose data the folder holds, or `kvs`.
    pub engine: Option<EngineName>,
    /// The folder that was asked for; `None` is `./kvs` or `./sled`.
    pub data_dir: Option<PathBuf>,
    /// How jobs run.
    pub pool: PoolStrategy,
    /// Worker threads of the pool, 1 to 1,024.
    pub threads: u32,
    /// When acknowledged writes are durable.
    pub sync: SyncMode,
    /// With [`SyncMode::Interval`], the longest time between a write and its sync, in milliseconds.
    pub sync_interval_ms: u64,
    /// Dead bytes in the log that start a compaction; `None` is the engine's default.
    pub compaction_threshold_bytes: Option<u64>,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// `namespace/name` of the store that this server belongs to.
    pub store: Option<String>,
    /// Where the cause of the end is written.
    pub termination_log: Option<PathBuf>,
    /// How the server logs.
    pub log: LogConfig,
}

impl Settings {
    /// Puts defaults where a configuration says nothing, and checks what it says.
    ///
    /// # Errors
    /// [`ServerError::Configuration`] names the field, its bounds and what was given.
    pub fn from_config(config: ServerConfig) -> Result<Self, ServerError> {
        // Taken apart whole, so that a new field asks for its place.
        let ServerConfig {
            addr,
            admin_addr,
            engine,
            data_dir,
            pool,
            threads,
            sync,
            sync_interval_ms,
            compaction_threshold_bytes,
            max_value_bytes,
            store,
            termination_log,
            log,
        } = config;
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let settings = Self {
            addr: addr.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, CLIENT_PORT).into()),
            admin_addr,
            engine,
            data_dir,
            pool: pool.unwrap_or_default(),
            threads: threads.unwrap_or(cores.min(MAX_THREADS)),
            sync: sync.unwrap_or_default(),
            sync_interval_ms: sync_interval_ms.unwrap_or(DEFAULT_SYNC_INTERVAL_MS),
            compaction_threshold_bytes,
            max_value_bytes: max_value_bytes
                .map_or(DEFAULT_MAX_VALUE_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            store,
            termination_log,
            log: log.unwrap_or_default(),
        };
        within("threads", settings.threads.into(), 1, MAX_THREADS.into())?;
        within("sync-interval-ms", settings.sync_interval_ms, 1, MAX_SYNC_INTERVAL_MS)?;
        within("max-value-bytes", settings.max_value_bytes as u64, 1, HIGHEST_MAX_VALUE_BYTES as u64)?;
        if let Some(store) = &settings.store
            && !is_store_name(store)
        {
            return Err(ServerError::Configuration(format!("store '{store}' is not of the form NAMESPACE/NAME")));
        }
        Ok(settings)
    }

    /// What the engine is opened with.
    #[must_use]
    pub fn engine_options(&self, observer: Arc<dyn Observer>) -> Options {
        let mut options = Options { observer, ..Options::default() };
        options.limits.value_bytes = self.max_value_bytes;
        options.sync = match self.sync {
            SyncMode::Always => SyncPolicy::Always,
            SyncMode::Interval => SyncPolicy::Interval(Duration::from_millis(self.sync_interval_ms)),
            SyncMode::Os => SyncPolicy::Os,
        };
        if let Some(bytes) = self.compaction_threshold_bytes {
            options.compaction_threshold_bytes = bytes;
        }
        options
    }
}

fn within(name: &str, given: u64, least: u64, most: u64) -> Result<(), ServerError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(ServerError::Configuration(format!("{name} must be {least} to {most}, not {given}")))
}

fn is_store_name(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
    text.split_once('/').is_some_and(|(namespace, name)| is_word(namespace) && is_word(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_is_a_complete_one() {
        let settings = Settings::from_config(ServerConfig::default()).unwrap();
        assert_eq!(settings.addr.to_string(), "127.0.0.1:4000");
        assert_eq!((settings.pool, settings.sync), (PoolStrategy::default(), SyncMode::Always));
        assert_eq!(settings.max_value_bytes, 1024 * 1024);
        assert!(settings.threads >= 1 && settings.admin_addr.is_none());
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_bounds() {
        for (config, expected) in [
            (ServerConfig { threads: Some(0), ..Default::default() }, "threads must be 1 to 1024, not 0"),
            (ServerConfig { threads: Some(2000), ..Default::default() }, "threads must be 1 to 1024, not 2000"),
            (
                ServerConfig { sync_interval_ms: Some(0), ..Default::default() },
                "sync-interval-ms must be 1 to 60000, not 0",
            ),
            (
                ServerConfig { max_value_bytes: Some(1 << 40), ..Default::default() },
                "max-value-bytes must be 1 to 67108864, not 1099511627776",
            ),
            (
                ServerConfig { store: Some("quickstart".into()), ..Default::default() },
                "store 'quickstart' is not of the form NAMESPACE/NAME",
            ),
        ] {
            assert_eq!(Settings::from_config(config).unwrap_err().to_string(), expected);
        }
    }
}
