//! The server of Aryavarth KVS.
//!
//! The way of a request: `listener` accepts (limits first), `connection` reads frames and gives the decoded batch to
//! the [`pool`], `handler` turns each request into an operation of the engine, `responses` puts the answers in order,
//! `connection` writes them.
//!
//! * [`run`] is a whole server; [`Server`] takes an engine that is open already.
//! * [`pool`]: thread-pool strategies, usable without the server.
//! * [`Arguments`] and [`Settings`]: flags, variables and file, put together.
//! * [`limits`]: every bound with its reason. [`catalogue`]: every metric.

#![forbid(unsafe_code)]

mod about;
mod access;
mod admin;
mod answered;
mod arguments;
mod backup_stream;
mod budget;
mod config;
mod connection;
mod cursors;
mod data_folder;
mod descriptors;
mod error;
mod failed_requests;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handler;
mod health;
mod identity;
mod job;
mod last_failure;
pub mod limits;
mod listener;
mod logging;
mod metrics;
mod operation;
pub mod pool;
mod protocol_choice;
mod reload;
mod replaced;
mod responses;
mod restored;
mod server;
mod settings;
mod shared;
mod slowlog;
mod stop;
mod store;
mod tls;
mod verbs;
mod wakes;

pub use arguments::{Arguments, CommandLine, one_line};
pub use config::{FIELDS, Field};
pub use data_folder::DataFolder;
pub use descriptors::raise_limit;
pub use error::{EXIT_DAMAGED, EXIT_USAGE, ServerError};
pub use identity::{IDENTITY_NAME, Identity};
pub use logging::{of_verbs as verb_logging, start as start_logging};
pub use metrics::{catalogue, registered_metrics};
pub use reload::Source;
pub use server::{Server, run};
pub use settings::{Settings, TlsSettings};
pub use stop::Stop;
pub use verbs::{Verb, Verdict};
