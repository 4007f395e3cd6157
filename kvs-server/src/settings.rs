//! `Settings`: what a server runs with, after flags, variables and file are put together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kvs_engine::{Observer, Options, SyncPolicy};
use kvs_protocol::config::{CLIENT_PORT, LimitsConfig, LogConfig, ServerConfig, TlsConfig};
use kvs_protocol::limits::{DEFAULT_MAX_VALUE_BYTES, HIGHEST_MAX_VALUE_BYTES};
use kvs_protocol::names::{ClientCertificates, EngineName, PoolStrategy, SyncMode};

use crate::error::ServerError;
use crate::limits::Limits;
use crate::pool::MAX_THREADS;

/// With `sync: interval`, the longest time between a write and its sync unless configured otherwise, in milliseconds.
pub(crate) const DEFAULT_SYNC_INTERVAL_MS: u64 = 1000;
/// The longest that can be configured: who accepts a longer loss wants `sync: os`.
pub(crate) const MAX_SYNC_INTERVAL_MS: u64 = 60_000;
/// The least memory for sled's pages, in bytes: less than a few of them is of no use.
const LEAST_SLED_CACHE_BYTES: u64 = 1 << 20;
/// The most, in bytes: beyond any machine.
const HIGHEST_SLED_CACHE_BYTES: u64 = 1 << 40;
/// What is logged unless configured otherwise.
pub(crate) const DEFAULT_LOG_LEVEL: &str = "info";
/// The most connections that can be configured: Linux gives a process no more descriptors than this by default.
const HIGHEST_CONNECTIONS: usize = 1 << 20;
/// The most bytes in flight that can be configured: beyond, a number was mistyped.
const HIGHEST_IN_FLIGHT_BYTES: usize = 1 << 40;
/// The least that queues of one connection can be configured to, in bytes: one small read.
const LEAST_BYTES: usize = 4096;
/// The shortest deadline that can be configured, in milliseconds: shorter ones hit honest clients on a busy machine.
const LEAST_DEADLINE_MS: u64 = 100;
/// The longest deadline that can be configured, but for idle clients.
const HOUR: Duration = Duration::from_secs(3600);

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
    /// Memory in which sled keeps pages, in bytes; `None` is the engine's default.
    pub sled_cache_bytes: Option<u64>,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// `namespace/name` of the store that this server belongs to.
    pub store: Option<String>,
    /// Where the cause of the end is written.
    pub termination_log: Option<PathBuf>,
    /// Whether an address that others reach may be served without authentication.
    pub allow_unauthenticated: bool,
    /// The file of tokens, if clients authenticate by them.
    pub auth_tokens: Option<PathBuf>,
    /// TLS for clients, if there is.
    pub tls: Option<TlsSettings>,
    /// What clients may use.
    pub limits: Limits,
    /// How the server logs.
    pub log: LogConfig,
}

/// TLS for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of client certificates, and whether clients must show one.
    pub clients: Option<(PathBuf, ClientCertificates)>,
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
            sled_cache_bytes,
            max_value_bytes,
            store,
            termination_log,
            allow_unauthenticated,
            auth_tokens,
            tls,
            limits,
            log,
        } = config;
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let max_value_bytes = max_value_bytes.unwrap_or(DEFAULT_MAX_VALUE_BYTES as u64);
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
            sled_cache_bytes,
            max_value_bytes: within("max-value-bytes", max_value_bytes, 1_usize, HIGHEST_MAX_VALUE_BYTES)?,
            // A member listens on an address that others reach, and its operator decides who they are. The operator writes
            // no word of it: a store that stays on an older server could not read its configuration any more.
            allow_unauthenticated: allow_unauthenticated.unwrap_or(store.is_some()),
            store,
            termination_log,
            auth_tokens,
            tls: tls_settings(tls.unwrap_or_default())?,
            limits: limit_settings(limits.unwrap_or_default(), max_value_bytes)?,
            log: log.unwrap_or_default(),
        };
        let _: u32 = within("threads", settings.threads.into(), 1_u32, MAX_THREADS)?;
        let _: u64 = within("sync-interval-ms", settings.sync_interval_ms, 1_u64, MAX_SYNC_INTERVAL_MS)?;
        if let Some(bytes) = settings.sled_cache_bytes {
            let _: u64 = within("sled-cache-bytes", bytes, LEAST_SLED_CACHE_BYTES, HIGHEST_SLED_CACHE_BYTES)?;
        }
        if let Some(store) = &settings.store
            && !is_store_name(store)
        {
            return Err(ServerError::Configuration(format!("store '{store}' is not of the form NAMESPACE/NAME")));
        }
        settings.check_who_reaches_it()?;
        Ok(settings)
    }

    /// Whether clients must prove who they are.
    #[must_use]
    pub fn needs_authentication(&self) -> bool {
        let by_certificate =
            matches!(&self.tls, Some(TlsSettings { clients: Some((_, ClientCertificates::Required)), .. }));
        self.auth_tokens.is_some() || by_certificate
    }

    /// Nobody is to find out by an accident that everybody who reaches the machine can read and write the store.
    fn check_who_reaches_it(&self) -> Result<(), ServerError> {
        if self.addr.ip().is_loopback() || self.needs_authentication() || self.allow_unauthenticated {
            return Ok(());
        }
        Err(ServerError::Configuration(format!(
            "addr {} can be reached from elsewhere, and clients need not authenticate; give --auth-tokens FILE, listen \
             on 127.0.0.1, or say --allow-unauthenticated if whoever reaches it may read and write",
            self.addr
        )))
    }

    /// The configuration that says all of this, defaults included.
    #[must_use]
    pub fn to_config(&self) -> ServerConfig {
        let Limits {
            connections,
            frame_bytes: _,
            pipeline_requests,
            pipeline_bytes,
            output_bytes,
            in_flight_bytes,
            queue_jobs,
            frame_deadline,
            write_deadline,
            idle_deadline,
            auth_deadline,
            handshake_deadline,
            drain_deadline,
            slow_request,
        } = self.limits;
        let count = |count: usize| Some(count as u64);
        let time_ms = |time: Duration| Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        ServerConfig {
            addr: Some(self.addr),
            admin_addr: self.admin_addr,
            engine: self.engine,
            data_dir: self.data_dir.clone(),
            pool: Some(self.pool),
            threads: Some(self.threads),
            sync: Some(self.sync),
            sync_interval_ms: Some(self.sync_interval_ms),
            compaction_threshold_bytes: Some(
                self.compaction_threshold_bytes.unwrap_or(Options::default().compaction_threshold_bytes),
            ),
            sled_cache_bytes: Some(self.sled_cache_bytes.unwrap_or(Options::default().sled_cache_bytes)),
            max_value_bytes: count(self.max_value_bytes),
            store: self.store.clone(),
            termination_log: self.termination_log.clone(),
            allow_unauthenticated: Some(self.allow_unauthenticated),
            auth_tokens: self.auth_tokens.clone(),
            tls: self.tls.as_ref().map(|TlsSettings { cert, key, clients }| TlsConfig {
                cert: Some(cert.clone()),
                key: Some(key.clone()),
                client_ca: clients.as_ref().map(|(authorities, _)| authorities.clone()),
                client_certificates: clients.as_ref().map(|(_, mode)| *mode),
            }),
            limits: Some(LimitsConfig {
                connections: count(connections),
                pipeline_requests: count(pipeline_requests),
                pipeline_bytes: count(pipeline_bytes),
                output_bytes: count(output_bytes),
                in_flight_bytes: count(in_flight_bytes),
                queue_jobs: count(queue_jobs),
                frame_deadline_ms: time_ms(frame_deadline),
                write_deadline_ms: time_ms(write_deadline),
                idle_deadline_ms: time_ms(idle_deadline),
                auth_deadline_ms: time_ms(auth_deadline),
                handshake_deadline_ms: time_ms(handshake_deadline),
                drain_deadline_ms: time_ms(drain_deadline),
                slow_request_ms: time_ms(slow_request),
            }),
            log: Some(LogConfig {
                level: Some(self.log.level.clone().unwrap_or_else(|| DEFAULT_LOG_LEVEL.to_owned())),
                format: Some(self.log.format.unwrap_or_default()),
            }),
        }
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
        if let Some(bytes) = self.sled_cache_bytes {
            options.sled_cache_bytes = bytes;
        }
        options
    }
}

/// What is said about TLS, put together.
fn tls_settings(config: TlsConfig) -> Result<Option<TlsSettings>, ServerError> {
    let TlsConfig { cert, key, client_ca, client_certificates } = config;
    let wrong = |text: &str| Err(ServerError::Configuration(text.to_owned()));
    let clients = match (client_ca, client_certificates) {
        (Some(authorities), mode) => Some((authorities, mode.unwrap_or_default())),
        (None, None) => None,
        (None, Some(_)) => return wrong("tls-client-certificates needs tls-client-ca: the authorities that sign them"),
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsSettings { cert, key, clients })),
        (None, None) if clients.is_none() => Ok(None),
        (None, None) => wrong("tls-client-ca needs tls-cert and tls-key: clients show certificates only inside TLS"),
        _ => wrong("tls-cert and tls-key belong together: give both or neither"),
    }
}

/// The limits that are configured, within their bounds.
fn limit_settings(config: LimitsConfig, max_value_bytes: u64) -> Result<Limits, ServerError> {
    let LimitsConfig {
        connections,
        pipeline_requests,
        pipeline_bytes,
        output_bytes,
        in_flight_bytes,
        queue_jobs,
        frame_deadline_ms,
        write_deadline_ms,
        idle_deadline_ms,
        auth_deadline_ms,
        handshake_deadline_ms,
        drain_deadline_ms,
        slow_request_ms,
    } = config;
    let usual = Limits::for_values(usize::try_from(max_value_bytes).unwrap_or(usize::MAX).min(HIGHEST_MAX_VALUE_BYTES));
    let count = |name, given: Option<u64>, usual: usize, least: usize, most: usize| {
        given.map_or(Ok(usual), |given| within(name, given, least, most))
    };
    let deadline = |name, given: Option<u64>, usual, most: Duration| {
        let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let Some(given) = given else { return Ok::<_, ServerError>(usual) };
        within(name, given, LEAST_DEADLINE_MS, most_ms).map(Duration::from_millis)
    };
    Ok(Limits {
        connections: count("limits-connections", connections, usual.connections, 1, HIGHEST_CONNECTIONS)?,
        frame_bytes: usual.frame_bytes,
        pipeline_requests: count("limits-pipeline-requests", pipeline_requests, usual.pipeline_requests, 1, 1 << 20)?,
        pipeline_bytes: count("limits-pipeline-bytes", pipeline_bytes, usual.pipeline_bytes, LEAST_BYTES, 1 << 30)?,
        output_bytes: count("limits-output-bytes", output_bytes, usual.output_bytes, LEAST_BYTES, 1 << 30)?,
        in_flight_bytes: count(
            "limits-in-flight-bytes",
            in_flight_bytes,
            usual.in_flight_bytes,
            usual.frame_bytes,
            HIGHEST_IN_FLIGHT_BYTES,
        )?,
        queue_jobs: count("limits-queue-jobs", queue_jobs, usual.queue_jobs, 1, 1 << 20)?,
        frame_deadline: deadline("limits-frame-deadline-ms", frame_deadline_ms, usual.frame_deadline, HOUR)?,
        write_deadline: deadline("limits-write-deadline-ms", write_deadline_ms, usual.write_deadline, HOUR)?,
        idle_deadline: deadline("limits-idle-deadline-ms", idle_deadline_ms, usual.idle_deadline, HOUR * 24 * 7)?,
        auth_deadline: deadline("limits-auth-deadline-ms", auth_deadline_ms, usual.auth_deadline, HOUR)?,
        handshake_deadline: deadline(
            "limits-handshake-deadline-ms",
            handshake_deadline_ms,
            usual.handshake_deadline,
            HOUR,
        )?,
        drain_deadline: deadline("limits-drain-deadline-ms", drain_deadline_ms, usual.drain_deadline, HOUR)?,
        slow_request: match slow_request_ms {
            None => usual.slow_request,
            Some(given) => within("limits-slow-request-ms", given, 1_u64, 3_600_000_u64).map(Duration::from_millis)?,
        },
    })
}

/// The number as whoever needs it has it, if it is within its bounds.
fn within<N: TryFrom<u64>>(
    name: &str,
    given: u64,
    least: impl TryInto<u64>,
    most: impl TryInto<u64>,
) -> Result<N, ServerError> {
    let (least, most) = (least.try_into().unwrap_or(0), most.try_into().unwrap_or(u64::MAX));
    if let (true, Ok(number)) = ((least..=most).contains(&given), given.try_into()) {
        return Ok(number);
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
    fn what_is_said_of_sleds_cache_reaches_the_engine() {
        let options = |sled_cache_bytes| {
            let config = ServerConfig { sled_cache_bytes, ..ServerConfig::default() };
            Settings::from_config(config).unwrap().engine_options(Options::default().observer).sled_cache_bytes
        };
        assert_eq!((options(None), options(Some(8 << 20))), (64 << 20, 8 << 20));
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
                ServerConfig { sled_cache_bytes: Some(1), ..Default::default() },
                "sled-cache-bytes must be 1048576 to 1099511627776, not 1",
            ),
            (
                ServerConfig { max_value_bytes: Some(1 << 40), ..Default::default() },
                "max-value-bytes must be 1 to 67108864, not 1099511627776",
            ),
            (
                ServerConfig { store: Some("quickstart".into()), ..Default::default() },
                "store 'quickstart' is not of the form NAMESPACE/NAME",
            ),
            (
                ServerConfig {
                    limits: Some(LimitsConfig { connections: Some(0), ..Default::default() }),
                    ..Default::default()
                },
                "limits-connections must be 1 to 1048576, not 0",
            ),
            (
                ServerConfig {
                    tls: Some(TlsConfig { cert: Some("a".into()), ..Default::default() }),
                    ..Default::default()
                },
                "tls-cert and tls-key belong together: give both or neither",
            ),
        ] {
            assert_eq!(Settings::from_config(config).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn without_authentication_only_loopback_is_served_unless_told_otherwise() {
        let at = |addr: &str| ServerConfig { addr: Some(addr.parse().unwrap()), ..Default::default() };
        for addr in ["127.0.0.1:4000", "127.8.0.1:1", "[::1]:4000"] {
            Settings::from_config(at(addr)).unwrap();
        }
        for addr in ["0.0.0.0:4000", "[::]:4000", "192.168.0.1:4000"] {
            let error = Settings::from_config(at(addr)).unwrap_err().to_string();
            assert!(error.contains(addr) && error.contains("--allow-unauthenticated"), "{error}");
            Settings::from_config(ServerConfig { allow_unauthenticated: Some(true), ..at(addr) }).unwrap();
            Settings::from_config(ServerConfig { auth_tokens: Some("tokens".into()), ..at(addr) }).unwrap();
            let member = ServerConfig { store: Some("shop/orders".into()), ..at(addr) };
            Settings::from_config(member.clone()).unwrap();
            Settings::from_config(ServerConfig { allow_unauthenticated: Some(false), ..member }).unwrap_err();
            let tls = |mode| TlsConfig {
                cert: Some("cert".into()),
                key: Some("key".into()),
                client_ca: Some("ca".into()),
                client_certificates: mode,
            };
            Settings::from_config(ServerConfig { tls: Some(tls(None)), ..at(addr) }).unwrap();
            let optional = Some(tls(Some(ClientCertificates::Optional)));
            Settings::from_config(ServerConfig { tls: optional, ..at(addr) }).unwrap_err();
        }
    }

    #[test]
    fn what_is_printed_means_the_same_when_it_is_read() {
        let settings = Settings::from_config(ServerConfig::default()).unwrap();
        let again = Settings::from_config(settings.to_config()).unwrap();
        assert_eq!(again.to_config(), settings.to_config());
        assert_eq!(again.limits, settings.limits);
    }
}
