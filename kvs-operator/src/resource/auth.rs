//! `spec.auth`: who may use the store.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may use the store.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'Token' || has(self.tokenSecretRef)").message(
    "auth.tokenSecretRef is required when auth.mode is Token: name a Secret of this namespace and a key of it"
))]
pub struct Auth {
    /// None: whoever reaches the store may read and write. Token: clients send a token first.
    pub mode: AuthMode,

    /// Where the token stands: one word, or the server's list of tokens with their roles. A new content is taken over
    /// without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// How clients prove who they are.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Not at all, unless spec.tls asks for their certificates.
    #[default]
    None,
    /// By a token.
    Token,
}

/// One key of a Secret in the store's own namespace.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,

    /// The key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}
