//! `spec.bootstrap`: what a new store begins with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a new store begins with.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The backup that it begins with, of this namespace. While it is not complete, or damaged, the store does not start.
    pub backup_ref: BackupRef,
}

/// A KvsBackup of the same namespace.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupRef {
    /// Its name.
    #[schemars(length(min = 1, max = 48))]
    pub name: String,
}
