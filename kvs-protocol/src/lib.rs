//! The contract between server, client and operator, and nothing else: it knows no engine and no Kubernetes.
//!
//! * [`names`]: the words that flags, YAML files, the custom resource and log lines share.
//! * [`config`]: the server's configuration file, which the operator writes and the server reads.
//! * [`Request`] and [`Response`]: one line each, in JSON; [`ErrorCode`] is what programs decide by.
//! * [`resp`]: the same requests and answers in the protocol of Redis.
//! * [`certificate`]: when a certificate is valid.
//! * [`metric`]: what an exported metric is; server and operator have a catalogue of them each.
//! * [`termination`]: the one line that a server leaves behind when it can't go on.
//! * [`backup_record`]: what a finished backup says of itself.
//! * [`limits`] and [`FrameBuffer`]: lines of a bounded length.
//! * [`Client`]: the contract, spoken over any stream. With the feature `tls`, `ConnectOptions` secures the stream and
//!   authenticates first.
//!
//! PROTOCOL.md at the top of the repository has an example of everything, each of them tested against the server.

#![forbid(unsafe_code)]

pub mod backup_record;
pub mod certificate;
mod client;
pub mod config;
#[cfg(feature = "tls")]
mod connect;
mod error_code;
mod frame;
pub mod limits;
pub mod metric;
pub mod names;
mod request;
pub mod resp;
mod response;
pub mod termination;
mod text;

pub use client::{Client, ClientError, RequestSender, ResponseReceiver};
#[cfg(feature = "tls")]
pub use connect::{ClientTls, ConnectOptions, Stream, TlsError};
pub use error_code::ErrorCode;
pub use frame::{FrameBuffer, FrameTooLarge, INITIAL_BUFFER_BYTES};
pub use request::{Change, Condition, Request, RequestId, Token, Verb, VerbName};
pub use response::{Answer, BackupEnd, BackupPart, Entry, Info, Page, Response, WireError};
pub use text::write_field as write_bytes_field;
