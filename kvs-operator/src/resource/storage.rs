//! `spec.storage`: the volume that keeps the data.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The volume of each member.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0"
).message("storage.size can only grow, because a volume can't shrink"))]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message("storage.storageClassName can be given only at creation, because a volume stays in its class"))]
pub struct Storage {
    /// Size of the volume, such as 1Gi. Growing it grows the volume where its class can.
    #[serde(default = "default_size")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message(
        "storage.size must be a positive quantity, such as 1Gi"
    ))]
    pub size: String,

    /// Class of the volume. Unset means the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of the volume claim.
    #[serde(default)]
    pub retention_policy: RetentionPolicy,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None, retention_policy: RetentionPolicy::default() }
    }
}

/// The default of `size`.
fn default_size() -> String {
    "1Gi".to_owned()
}

/// What becomes of the volume claim.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// When the store is deleted: Retain keeps the claim, and a store of the same name adopts it; Delete deletes the data.
    #[serde(default)]
    pub when_deleted: ClaimRetention,
}

/// Whether a claim outlives its store.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimRetention {
    /// The claim stays, and with it the data.
    #[default]
    Retain,
    /// The claim and the data are deleted.
    Delete,
}

impl ClaimRetention {
    /// The word that a StatefulSet uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}
