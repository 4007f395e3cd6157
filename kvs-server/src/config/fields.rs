//! `Field`: every word of the configuration, with its flag, its variable, and whether a reload takes it over.
//!
//! What must hold: a word is the same in the file, as a flag and as a variable (`limits.queueJobs`,
//! `--limits-queue-jobs`, `KVS_LIMITS_QUEUE_JOBS`); the list is complete. Tests hold it against the file's form, the
//! command line and docs/configuration.md, which is this list as a table.

use std::collections::BTreeMap;

use kvs_protocol::config::ServerConfig;
use serde_yaml::Value;

/// One word of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Where it stands in the file, such as `limits.queueJobs`.
    pub path: &'static str,
    /// What is there when nobody says anything.
    pub usual: &'static str,
    /// What it means, with its unit and bounds.
    pub meaning: &'static str,
    /// Whether SIGHUP takes a new value over; otherwise it takes a restart.
    pub reloads: bool,
}

const fn fixed(path: &'static str, usual: &'static str, meaning: &'static str) -> Field {
    Field { path, usual, meaning, reloads: false }
}

const fn reloads(path: &'static str, usual: &'static str, meaning: &'static str) -> Field {
    Field { path, usual, meaning, reloads: true }
}

/// Every word, in the order of the file.
pub const FIELDS: &[Field] = &[
    fixed("addr", "127.0.0.1:4000", "where clients connect; port 0 takes a free one"),
    fixed("adminAddr", "nowhere", "where health (/livez, /readyz, /status) and /metrics are served"),
    fixed("engine", "the engine whose data the folder holds, else kvs", "kvs or sled"),
    fixed("dataDir", "./kvs or ./sled, after the engine", "the folder of the data"),
    fixed("pool", "inline", "how requests run: naive, sharedQueue, rayon or inline"),
    fixed("threads", "one a core", "worker threads of the pool, 1 to 1024"),
    fixed("sync", "always", "when acknowledged writes are durable: always, interval or os"),
    fixed("syncIntervalMs", "1000", "with sync interval, milliseconds between a write and its sync, at most 60000"),
    fixed("compactionThresholdBytes", "1048576", "dead bytes in the log that start a compaction"),
    fixed("sledCacheBytes", "67108864", "memory in which the engine sled keeps pages, 1048576 to 1099511627776 bytes"),
    fixed("maxValueBytes", "1048576", "the longest value, at most 67108864 bytes"),
    fixed("store", "none", "NAMESPACE/NAME of the store that this server belongs to; the data folder remembers it"),
    fixed("terminationLog", "none", "a file that gets one line with the cause when the server can't go on"),
    fixed(
        "allowUnauthenticated",
        "false, but true with `store`",
        "whether an address that others reach may be served although clients need not authenticate",
    ),
    fixed(
        "authTokens",
        "none",
        "a file of tokens and what each permits; with it, clients must authenticate. Its content is read again when it \
         changes",
    ),
    fixed("tls.cert", "none", "the server's certificate chain, PEM; its content is read again when it changes"),
    fixed("tls.key", "none", "the private key of the certificate, PEM; its content is read again when it changes"),
    fixed(
        "tls.clientCa",
        "none",
        "the authorities of client certificates, PEM; its content is read again when it changes",
    ),
    fixed("tls.clientCertificates", "required", "with tls.clientCa: optional or required"),
    fixed("limits.connections", "10000", "open client connections; further ones wait in the system's backlog"),
    reloads("limits.pipelineRequests", "1024", "requests of one connection that are read and not yet answered"),
    reloads(
        "limits.pipelineBytes",
        "1048576",
        "bytes of keys and values of one connection that are read and not yet answered",
    ),
    reloads("limits.outputBytes", "1048576", "bytes of answers of one connection that wait to be taken"),
    reloads(
        "limits.inFlightBytes",
        "67108864, or two frames of the largest size",
        "bytes that all connections together may use beyond their allowances; more are answered busy",
    ),
    fixed("limits.queueJobs", "4096", "jobs that wait for a worker of the pool; more are answered busy"),
    reloads("limits.frameDeadlineMs", "10000", "milliseconds in which a request that was begun must have arrived"),
    reloads("limits.writeDeadlineMs", "10000", "milliseconds in which answers must be taken"),
    reloads("limits.idleDeadlineMs", "300000", "milliseconds after which a client that asks nothing is disconnected"),
    reloads("limits.authDeadlineMs", "10000", "milliseconds in which a client must have authenticated"),
    reloads("limits.handshakeDeadlineMs", "10000", "milliseconds in which a TLS handshake must be done"),
    reloads("limits.drainDeadlineMs", "15000", "milliseconds for which an ending server waits for requests in flight"),
    reloads(
        "limits.slowRequestMs",
        "50",
        "milliseconds after which a request is slow, and remembered in the slow log (info slowlog), 1 to 3,600,000",
    ),
    reloads("log.level", "info", "error, warn, info, debug, trace, or a filter such as kvs_engine=debug,info"),
    fixed("log.format", "auto", "text, json, or auto: text on a terminal, JSON elsewhere"),
];

impl Field {
    /// The name of its argument inside the program: `limits_queue_jobs`.
    #[must_use]
    pub fn argument(&self) -> String {
        let mut name = String::new();
        for character in self.path.chars() {
            match character {
                '.' => name.push('_'),
                upper if upper.is_ascii_uppercase() => name.extend(['_', upper.to_ascii_lowercase()]),
                other => name.push(other),
            }
        }
        name
    }

    /// Its flag: `--limits-queue-jobs`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.argument().replace('_', "-"))
    }

    /// Its variable: `KVS_LIMITS_QUEUE_JOBS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("KVS_{}", self.argument().to_ascii_uppercase())
    }
}

/// What a configuration says, by path: `limits.queueJobs` and its value as text.
pub(crate) fn flat(config: &ServerConfig) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: Value, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Mapping(entries) => {
                for (name, value) in entries {
                    let name = name.as_str().expect("the names of a struct are text");
                    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
                    walk(&path, value, found);
                }
            }
            scalar => {
                let text = serde_yaml::to_string(&scalar).expect("a scalar always has a YAML form");
                found.insert(prefix.to_owned(), text.trim_end().to_owned());
            }
        }
    }
    let mut found = BTreeMap::new();
    let value = serde_yaml::to_value(config).expect("a struct of strings and numbers always has a YAML form");
    walk("", value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;
    use kvs_protocol::config::{LimitsConfig, TlsConfig};

    use super::*;
    use crate::{CommandLine, Settings};

    #[test]
    fn the_list_has_every_word_of_the_file_and_the_command_line() {
        let full = ServerConfig {
            admin_addr: Some(([127, 0, 0, 1], 1).into()),
            engine: Some(Default::default()),
            data_dir: Some("d".into()),
            store: Some("a/b".into()),
            termination_log: Some("t".into()),
            auth_tokens: Some("a".into()),
            tls: Some(TlsConfig {
                cert: Some("c".into()),
                key: Some("k".into()),
                client_ca: Some("a".into()),
                client_certificates: Some(Default::default()),
            }),
            limits: Some(LimitsConfig::default()),
            ..ServerConfig::default()
        };
        let of_file: BTreeSet<String> = flat(&Settings::from_config(full).unwrap().to_config()).into_keys().collect();
        let listed: BTreeSet<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
        assert_eq!(of_file, listed);

        let command = CommandLine::command();
        for field in FIELDS {
            let argument = command.get_arguments().find(|argument| argument.get_id() == &field.argument());
            let argument = argument.unwrap_or_else(|| panic!("no {}", field.flag()));
            assert_eq!(argument.get_long(), Some(&field.flag()[2..]));
            assert_eq!(argument.get_env().unwrap(), &*field.variable());
        }
        // `config` itself, help and version.
        assert!(command.get_arguments().count() <= FIELDS.len() + 3);
    }

    #[test]
    fn the_usual_values_are_those_of_the_code() {
        let usual = flat(&Settings::from_config(ServerConfig::default()).unwrap().to_config());
        for field in FIELDS {
            if let Some(found) = usual.get(field.path)
                && field.path != "threads"
            {
                assert_eq!(field.usual.split(',').next().unwrap(), found, "{}", field.path);
            }
        }
    }
}
