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

mod admin;
mod arguments;
mod budget;
mod connection;
mod data_folder;
mod descriptors;
mod error;
mod handler;
mod health;
mod identity;
mod job;
pub mod limits;
mod listener;
mod logging;
mod metrics;
mod operation;
pub mod pool;
mod protocol_choice;
mod responses;
mod server;
mod settings;
mod shared;
mod stop;
mod store;
mod verbs;

pub use arguments::{Arguments, CommandLine, one_line};
pub use data_folder::DataFolder;
pub use descriptors::raise_limit;
pub use error::{EXIT_DAMAGED, EXIT_USAGE, ServerError};
pub use identity::{IDENTITY_NAME, Identity};
pub use logging::{of_verbs as verb_logging, start as start_logging};
pub use metrics::catalogue;
pub use server::{Server, run};
pub use settings::Settings;
pub use stop::Stop;
pub use verbs::{Verb, Verdict};
