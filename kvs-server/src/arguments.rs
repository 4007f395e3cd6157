//! `Arguments`: flags and `KVS_*` variables, laid over the file that `--config` names.
//!
//! What must hold: a flag wins over its variable, a variable over the file; the words are those of the file and the
//! resource; whatever is wrong is said in one line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser};
use kvs_protocol::config::{LogConfig, ServerConfig};
use kvs_protocol::names::{EngineName, LogFormat, PoolStrategy, SyncMode};

use crate::error::ServerError;
use crate::settings::Settings;
use crate::verbs::Verb;

/// A persistent key-value store: JSON lines over TCP, every write durable before it is acknowledged.
///
/// Without a command it serves. The commands look after the data of a store that no server has open.
#[derive(Debug, Parser)]
#[command(name = "kvs-server", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub verb: Option<Verb>,

    /// How to serve.
    #[command(flatten)]
    pub arguments: Arguments,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where clients connect; port 0 takes a free one [default: 127.0.0.1:4000]
    #[arg(long, value_name = "IP:PORT", env = "KVS_ADDR", hide_env_values = true)]
    addr: Option<SocketAddr>,

    /// kvs or sled [default: the engine whose data the folder holds, else kvs]
    #[arg(long, value_name = "NAME", env = "KVS_ENGINE", hide_env_values = true)]
    engine: Option<EngineName>,

    /// How requests run: naive, sharedQueue, rayon or inline [default: inline]
    #[arg(long, value_name = "NAME", env = "KVS_POOL", hide_env_values = true)]
    pool: Option<PoolStrategy>,

    /// Worker threads of the pool, 1 to 1024 [default: one a core]
    #[arg(long, value_name = "N", env = "KVS_THREADS", hide_env_values = true)]
    threads: Option<u32>,

    /// The folder of the data [default: ./kvs or ./sled, after the engine]
    #[arg(long, value_name = "DIR", env = "KVS_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,

    /// When acknowledged writes are durable: always, interval or os [default: always]
    #[arg(long, value_name = "MODE", env = "KVS_SYNC", hide_env_values = true)]
    sync: Option<SyncMode>,

    /// With --sync interval, milliseconds between a write and its sync, at most 60000 [default: 1000]
    #[arg(long, value_name = "MS", env = "KVS_SYNC_INTERVAL_MS", hide_env_values = true)]
    sync_interval_ms: Option<u64>,

    /// Dead bytes in the log that start a compaction [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "KVS_COMPACTION_THRESHOLD_BYTES", hide_env_values = true)]
    compaction_threshold_bytes: Option<u64>,

    /// The longest value, at most 67108864 bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "KVS_MAX_VALUE_BYTES", hide_env_values = true)]
    max_value_bytes: Option<u64>,

    /// Where health (/livez, /readyz, /status) and /metrics are served [default: nowhere]
    #[arg(long, value_name = "IP:PORT", env = "KVS_ADMIN_ADDR", hide_env_values = true)]
    admin_addr: Option<SocketAddr>,

    /// The store that this server belongs to; the data folder remembers it
    #[arg(long, value_name = "NAMESPACE/NAME", env = "KVS_STORE", hide_env_values = true)]
    store: Option<String>,

    /// A file that gets one line with the cause when the server can't go on
    #[arg(long, value_name = "FILE", env = "KVS_TERMINATION_LOG", hide_env_values = true)]
    termination_log: Option<PathBuf>,

    /// error, warn, info, debug, trace, or a filter such as kvs_engine=debug,info [default: info]
    #[arg(long, value_name = "FILTER", env = "KVS_LOG_LEVEL", hide_env_values = true)]
    log_level: Option<String>,

    /// text, json, or auto: text on a terminal, JSON elsewhere [default: auto]
    #[arg(long, value_name = "FORMAT", env = "KVS_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<LogFormat>,

    /// A YAML file with the same words in camelCase; flags and variables win over it
    #[arg(long, value_name = "FILE", env = "KVS_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

impl Arguments {
    /// Where the cause of a failure goes, as far as flags and variables say it.
    #[must_use]
    pub fn termination_log(&self) -> Option<PathBuf> {
        self.termination_log.clone()
    }

    /// What the server runs with.
    ///
    /// # Errors
    /// [`ServerError::Configuration`]: the file can't be read, or something in it, or a value, is wrong.
    pub fn settings(self) -> Result<Settings, ServerError> {
        let file = match &self.config {
            None => ServerConfig::default(),
            Some(path) => {
                let wrong = |cause: &dyn std::fmt::Display| {
                    ServerError::Configuration(format!("{}: {cause}", path.display()).replace('\n', " "))
                };
                let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
                ServerConfig::from_yaml(&text).map_err(|error| wrong(&error))?
            }
        };
        let file_log = file.log.unwrap_or_default();
        Settings::from_config(ServerConfig {
            addr: self.addr.or(file.addr),
            admin_addr: self.admin_addr.or(file.admin_addr),
            engine: self.engine.or(file.engine),
            data_dir: self.data_dir.or(file.data_dir),
            pool: self.pool.or(file.pool),
            threads: self.threads.or(file.threads),
            sync: self.sync.or(file.sync),
            sync_interval_ms: self.sync_interval_ms.or(file.sync_interval_ms),
            compaction_threshold_bytes: self.compaction_threshold_bytes.or(file.compaction_threshold_bytes),
            max_value_bytes: self.max_value_bytes.or(file.max_value_bytes),
            store: self.store.or(file.store),
            termination_log: self.termination_log.or(file.termination_log),
            log: Some(LogConfig {
                level: self.log_level.or(file_log.level),
                format: self.log_format.or(file_log.format),
            }),
        })
    }
}

/// One line out of clap's several: the cause, and where to read on.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let cause = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<&str> = cause.split_whitespace().collect();
    let cause = words.join(" ");
    format!("{}; see kvs-server --help", cause.strip_prefix("error: ").unwrap_or(&cause))
}
