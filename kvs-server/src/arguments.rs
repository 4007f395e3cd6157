//! `Arguments`: flags and `KVS_*` variables, laid over the file that `--config` names.
//!
//! What must hold: a flag wins over its variable, a variable over the file; the words are those of the file and the
//! resource; whatever is wrong is said in one line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser};
use kvs_protocol::config::{LimitsConfig, LogConfig, ServerConfig, TlsConfig};
use kvs_protocol::names::{ClientCertificates, EngineName, LogFormat, PoolStrategy, SyncMode};

use crate::config::ConfigFile;
use crate::error::ServerError;
use crate::logging;
use crate::settings::Settings;
use crate::verbs::Verb;

/// A persistent key-value store: JSON lines over TCP, every write durable before it is acknowledged.
///
/// Without a command it serves. The commands look after the data of a store that no server has open. SIGHUP reads the
/// configuration again, SIGTERM ends the server in good order.
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
#[derive(Debug, Clone, Args)]
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

    /// Memory in which the engine sled keeps pages, 1048576 to 1099511627776 bytes [default: 67108864]
    #[arg(long, value_name = "BYTES", env = "KVS_SLED_CACHE_BYTES", hide_env_values = true)]
    sled_cache_bytes: Option<u64>,

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

    /// Serves an address that others reach although clients need not authenticate [default: true with --store, else false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "KVS_ALLOW_UNAUTHENTICATED",
        hide_env_values = true,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    allow_unauthenticated: Option<bool>,

    /// A file of tokens and what each permits; with it, clients must authenticate (docs/configuration.md)
    #[arg(long, value_name = "FILE", env = "KVS_AUTH_TOKENS", hide_env_values = true)]
    auth_tokens: Option<PathBuf>,

    /// TLS for clients: the server's certificate chain, as PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "KVS_TLS_CERT", hide_env_values = true)]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", env = "KVS_TLS_KEY", hide_env_values = true)]
    tls_key: Option<PathBuf>,

    /// The authorities of client certificates, as PEM
    #[arg(long, value_name = "FILE", env = "KVS_TLS_CLIENT_CA", hide_env_values = true)]
    tls_client_ca: Option<PathBuf>,

    /// With --tls-client-ca, whether clients must show a certificate: optional or required [default: required]
    #[arg(long, value_name = "MODE", env = "KVS_TLS_CLIENT_CERTIFICATES", hide_env_values = true)]
    tls_client_certificates: Option<ClientCertificates>,

    /// error, warn, info, debug, trace, or a filter such as kvs_engine=debug,info [default: info]
    #[arg(long, value_name = "FILTER", env = "KVS_LOG_LEVEL", hide_env_values = true)]
    log_level: Option<String>,

    /// text, json, or auto: text on a terminal, JSON elsewhere [default: auto]
    #[arg(long, value_name = "FORMAT", env = "KVS_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<LogFormat>,

    /// A YAML file with the same words in camelCase; flags and variables win over it
    #[arg(long, value_name = "FILE", env = "KVS_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,

    /// Bounds on what clients may use.
    #[command(flatten)]
    limits: LimitArguments,
}

/// Bounds on what clients may use.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Open client connections; further ones wait in the system's backlog [default: 10000]
    #[arg(long, value_name = "N", env = "KVS_LIMITS_CONNECTIONS", hide_env_values = true)]
    limits_connections: Option<u64>,

    /// Requests of one connection that are read and not yet answered [default: 1024]
    #[arg(long, value_name = "N", env = "KVS_LIMITS_PIPELINE_REQUESTS", hide_env_values = true)]
    limits_pipeline_requests: Option<u64>,

    /// Bytes of keys and values of one connection, read and not yet answered [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "KVS_LIMITS_PIPELINE_BYTES", hide_env_values = true)]
    limits_pipeline_bytes: Option<u64>,

    /// Bytes of answers of one connection that wait to be taken [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "KVS_LIMITS_OUTPUT_BYTES", hide_env_values = true)]
    limits_output_bytes: Option<u64>,

    /// Bytes that all connections together may use for large requests and answers [default: 67108864]
    #[arg(long, value_name = "BYTES", env = "KVS_LIMITS_IN_FLIGHT_BYTES", hide_env_values = true)]
    limits_in_flight_bytes: Option<u64>,

    /// Jobs that wait for a worker of the pool; more are answered busy [default: 4096]
    #[arg(long, value_name = "N", env = "KVS_LIMITS_QUEUE_JOBS", hide_env_values = true)]
    limits_queue_jobs: Option<u64>,

    /// Milliseconds in which a request that was begun must have arrived [default: 10000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_FRAME_DEADLINE_MS", hide_env_values = true)]
    limits_frame_deadline_ms: Option<u64>,

    /// Milliseconds in which answers must be taken [default: 10000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_WRITE_DEADLINE_MS", hide_env_values = true)]
    limits_write_deadline_ms: Option<u64>,

    /// Milliseconds after which a client that asks nothing is disconnected [default: 300000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_IDLE_DEADLINE_MS", hide_env_values = true)]
    limits_idle_deadline_ms: Option<u64>,

    /// Milliseconds in which a client must have authenticated [default: 10000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_AUTH_DEADLINE_MS", hide_env_values = true)]
    limits_auth_deadline_ms: Option<u64>,

    /// Milliseconds in which a TLS handshake must be done [default: 10000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_HANDSHAKE_DEADLINE_MS", hide_env_values = true)]
    limits_handshake_deadline_ms: Option<u64>,

    /// Milliseconds for which an ending server waits for requests in flight [default: 15000]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_DRAIN_DEADLINE_MS", hide_env_values = true)]
    limits_drain_deadline_ms: Option<u64>,

    /// Milliseconds after which a request is slow, and remembered in the slow log [default: 50]
    #[arg(long, value_name = "MS", env = "KVS_LIMITS_SLOW_REQUEST_MS", hide_env_values = true)]
    limits_slow_request_ms: Option<u64>,
}

impl Arguments {
    /// Where the cause of a failure goes, as far as it is known before the settings are: a file that is refused still says
    /// where its refusal goes.
    #[must_use]
    pub fn termination_log(&self) -> Option<PathBuf> {
        self.termination_log.clone().or_else(|| ConfigFile::termination_log(self.config.as_deref()?))
    }

    /// The file that these arguments name.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// What the server runs with. Reads the file that is named, each time.
    ///
    /// # Errors
    /// [`ServerError::Configuration`]: the file can't be read, or something in it, or a value, is wrong.
    pub fn settings(&self) -> Result<Settings, ServerError> {
        let file = match &self.config {
            None => ConfigFile::default(),
            Some(path) => ConfigFile::read(path)?,
        };
        let settings = Settings::from_config(self.over(file.config.clone())).and_then(|settings| {
            logging::check(&settings.log)?;
            Ok(settings)
        });
        settings.map_err(|error| file.blame(error))
    }

    /// What these arguments say, and the file where they say nothing.
    fn over(&self, file: ServerConfig) -> ServerConfig {
        let limits = &self.limits;
        let (file_log, file_tls) = (file.log.unwrap_or_default(), file.tls.unwrap_or_default());
        let file_limits = file.limits.unwrap_or_default();
        ServerConfig {
            addr: self.addr.or(file.addr),
            admin_addr: self.admin_addr.or(file.admin_addr),
            engine: self.engine.or(file.engine),
            data_dir: self.data_dir.clone().or(file.data_dir),
            pool: self.pool.or(file.pool),
            threads: self.threads.or(file.threads),
            sync: self.sync.or(file.sync),
            sync_interval_ms: self.sync_interval_ms.or(file.sync_interval_ms),
            compaction_threshold_bytes: self.compaction_threshold_bytes.or(file.compaction_threshold_bytes),
            sled_cache_bytes: self.sled_cache_bytes.or(file.sled_cache_bytes),
            max_value_bytes: self.max_value_bytes.or(file.max_value_bytes),
            store: self.store.clone().or(file.store),
            termination_log: self.termination_log.clone().or(file.termination_log),
            allow_unauthenticated: self.allow_unauthenticated.or(file.allow_unauthenticated),
            auth_tokens: self.auth_tokens.clone().or(file.auth_tokens),
            tls: Some(TlsConfig {
                cert: self.tls_cert.clone().or(file_tls.cert),
                key: self.tls_key.clone().or(file_tls.key),
                client_ca: self.tls_client_ca.clone().or(file_tls.client_ca),
                client_certificates: self.tls_client_certificates.or(file_tls.client_certificates),
            }),
            limits: Some(LimitsConfig {
                connections: limits.limits_connections.or(file_limits.connections),
                pipeline_requests: limits.limits_pipeline_requests.or(file_limits.pipeline_requests),
                pipeline_bytes: limits.limits_pipeline_bytes.or(file_limits.pipeline_bytes),
                output_bytes: limits.limits_output_bytes.or(file_limits.output_bytes),
                in_flight_bytes: limits.limits_in_flight_bytes.or(file_limits.in_flight_bytes),
                queue_jobs: limits.limits_queue_jobs.or(file_limits.queue_jobs),
                frame_deadline_ms: limits.limits_frame_deadline_ms.or(file_limits.frame_deadline_ms),
                write_deadline_ms: limits.limits_write_deadline_ms.or(file_limits.write_deadline_ms),
                idle_deadline_ms: limits.limits_idle_deadline_ms.or(file_limits.idle_deadline_ms),
                auth_deadline_ms: limits.limits_auth_deadline_ms.or(file_limits.auth_deadline_ms),
                handshake_deadline_ms: limits.limits_handshake_deadline_ms.or(file_limits.handshake_deadline_ms),
                drain_deadline_ms: limits.limits_drain_deadline_ms.or(file_limits.drain_deadline_ms),
                slow_request_ms: limits.limits_slow_request_ms.or(file_limits.slow_request_ms),
            }),
            log: Some(LogConfig {
                level: self.log_level.clone().or(file_log.level),
                format: self.log_format.or(file_log.format),
            }),
        }
    }
}

/// One line out of clap's several: the cause, what was perhaps meant, and where to read on. Of a wrong value, clap names
/// the flag; where these words have none, it stands in the flag's variable.
#[must_use]
pub fn one_line(error: &clap::Error, words: impl IntoIterator<Item = OsString>) -> String {
    let text = error.to_string();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let said = paragraphs.enumerate().filter(|(place, paragraph)| *place == 0 || paragraph.starts_with("tip:"));
    let said = said.map(|(_, paragraph)| paragraph).collect::<Vec<_>>().join("; ");
    let mut said = said.strip_prefix("error: ").unwrap_or(&said).to_owned();
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(flag) = argument.split(' ').next().and_then(|flag| flag.strip_prefix("--"))
    {
        let is_flag = |word: &str| word.strip_prefix("--").and_then(|word| word.split('=').next()) == Some(flag);
        if !words.into_iter().any(|word| word.to_str().is_some_and(is_flag)) {
            let variable = format!(" in KVS_{}", flag.replace('-', "_").to_uppercase());
            said = said.replace(&format!(" for '{argument}'"), &variable);
        }
    }
    format!("{said}; see kvs-server --help")
}
