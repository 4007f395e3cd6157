//! The server's configuration file: YAML, written by people and by the operator, read by the server.
//!
//! What must hold: the words are those of the flags and of the resource; an unknown field is refused; a field that is
//! absent means "the server's default", so that a file from an older operator stays valid.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::names::{ClientCertificates, EngineName, LogFormat, PoolStrategy, SyncMode};

/// The port that clients use.
pub const CLIENT_PORT: u16 = 4000;
/// The port reserved for traffic between members of one store, which the replication phase will use.
pub const PEER_PORT: u16 = 4001;
/// The port of health checks and metrics in a pod.
pub const ADMIN_PORT: u16 = 9090;

/// What a configuration file can say. Flags and `KVS_*` variables win over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerConfig {
    /// Where clients connect; default 127.0.0.1:4000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<SocketAddr>,
    /// Where health checks and metrics are served; absent means not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_addr: Option<SocketAddr>,
    /// The engine; absent means `kvs`, or the engine whose data the folder already holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineName>,
    /// The folder of the data; default `./kvs` or `./sled` after the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// The thread-pool strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolStrategy>,
    /// Worker threads of the pool, 1 to 1,024; absent means the number of cores. `inline` and `naive` ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// When acknowledged writes are on stable storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncMode>,
    /// With `sync: interval`, the longest time in milliseconds between a write and its sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_interval_ms: Option<u64>,
    /// Dead bytes in the log that start a compaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compaction_threshold_bytes: Option<u64>,
    /// Memory in which the engine sled keeps pages, in bytes; other engines have no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sled_cache_bytes: Option<u64>,
    /// The longest value that is accepted, in bytes, at most 64 MiB; absent means 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value_bytes: Option<u64>,
    /// `namespace/name` of the store that this server belongs to; the data folder remembers it, and a server that
    /// finds the folder of another store refuses to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// A file that receives one line with the cause when the server can't go on, such as `/dev/termination-log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_log: Option<PathBuf>,
    /// Whether a server without authentication may listen on an address that others reach; absent means that it
    /// may only as a member of a [`store`](Self::store).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_unauthenticated: Option<bool>,
    /// A file with tokens and what each permits. Where it is named, clients must authenticate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_tokens: Option<PathBuf>,
    /// TLS for clients; absent means plain TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Bounds on what clients may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsConfig>,
    /// How the server writes its own log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogConfig>,
}

/// TLS for clients. The files are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate and those between it and its authority, as PEM; goes with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authorities whose client certificates are accepted, as PEM; absent means that none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// With `clientCa`, whether clients must show a certificate; default `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificates>,
}

/// Bounds on what clients may use. Past a bound a client gets a typed error or is disconnected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsConfig {
    /// Open client connections; further ones wait in the system's backlog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Requests of one connection that are read and not yet answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_requests: Option<u64>,
    /// Bytes of keys and values of one connection that are read and not yet answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_bytes: Option<u64>,
    /// Bytes of answers of one connection that wait to be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Bytes that all connections together may use beyond their small allowances; the room for the largest frame follows
    /// from `maxValueBytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_bytes: Option<u64>,
    /// Jobs that wait for a worker of the pool; more are answered `busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_jobs: Option<u64>,
    /// Milliseconds in which a request that was begun must have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_deadline_ms: Option<u64>,
    /// Milliseconds in which answers must be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_deadline_ms: Option<u64>,
    /// Milliseconds after which a client that asks nothing is disconnected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_deadline_ms: Option<u64>,
    /// Milliseconds in which a client must have authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_deadline_ms: Option<u64>,
    /// Milliseconds in which a TLS handshake must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_deadline_ms: Option<u64>,
    /// Milliseconds for which an ending server waits for requests in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_deadline_ms: Option<u64>,
    /// Milliseconds after which a request is slow, and remembered in the slow log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_request_ms: Option<u64>,
}

/// How the server writes its own log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter by module such as `kvs_engine=debug,info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Text or JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

impl ServerConfig {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// The place (line and column) and cause of the first mistake, an unknown field included.
    pub fn from_yaml(text: &str) -> Result<Self, serde_yaml::Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text)
    }

    /// The text of the file, fields in the order of this struct, absent ones left out.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("a struct of strings and numbers always has a YAML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let config = ServerConfig {
            addr: Some(([0, 0, 0, 0], CLIENT_PORT).into()),
            engine: Some(EngineName::Kvs),
            pool: Some(PoolStrategy::SharedQueue),
            threads: Some(4),
            log: Some(LogConfig { level: Some("info".into()), format: Some(LogFormat::Json) }),
            ..ServerConfig::default()
        };
        let text = config.to_yaml();
        assert!(text.contains("pool: sharedQueue"), "{text}");
        assert_eq!(ServerConfig::from_yaml(&text).unwrap(), config);
    }

    #[test]
    fn an_empty_file_means_all_defaults() {
        assert_eq!(ServerConfig::from_yaml("\n").unwrap(), ServerConfig::default());
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place() {
        let error = ServerConfig::from_yaml("engine: kvs\npoool: rayon\n").unwrap_err().to_string();
        assert!(error.contains("poool") && error.contains("line 2"), "{error}");
    }
}
