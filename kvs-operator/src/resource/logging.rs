//! `spec.logging`: what the server writes to its log.

use kvs_protocol::names::LogFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the server writes to its log.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// The least important lines that are written.
    #[serde(default)]
    pub level: LogLevel,

    /// `json` for machines, `text` for people, `auto` for JSON off a terminal.
    #[serde(default)]
    pub format: LogFormat,
}

/// How important a line must be to be written.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// What a person must act on.
    Error,
    /// What may become an error.
    Warn,
    /// What the server does, in a few lines.
    #[default]
    Info,
    /// What each part does.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word that the server's configuration uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
