//! The contract between server, client and operator, and nothing else: it knows no engine and no Kubernetes.
//!
//! * [`names`]: the words that flags, YAML files, the custom resource and log lines share.
//! * [`config`]: the server's configuration file, which the operator writes and the server reads.
//! * [`Request`] and [`Response`]: one line each, in JSON; [`ErrorCode`] is what programs decide by.
//! * [`termination`]: the one line that a server leaves behind when it can't go on.
//! * [`limits`] and [`FrameBuffer`]: lines of a bounded length.
//! * [`Client`]: the contract, spoken over any stream.
//!
//! PROTOCOL.md at the top of the repository has an example of everything, each of them tested against the server.

#![forbid(unsafe_code)]

mod client;
pub mod config;
mod error_code;
mod frame;
pub mod limits;
pub mod names;
mod request;
mod response;
pub mod termination;
mod text;

pub use client::{Client, ClientError, RequestSender, ResponseReceiver};
pub use error_code::ErrorCode;
pub use frame::{FrameBuffer, FrameTooLarge, INITIAL_BUFFER_BYTES};
pub use request::{Change, Request, RequestId, Verb};
pub use response::{Answer, Response, WireError};
