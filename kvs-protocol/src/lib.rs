//! The contract between server, client and operator, and nothing else: it knows no engine and no Kubernetes.
//!
//! * [`names`]: the words that flags, YAML files, the custom resource and log lines share.
//! * [`config`]: the server's configuration file, which the operator writes and the server reads.

pub mod config;
pub mod names;
