//! `spec.tls`: whether clients speak TLS, and where the certificate comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether clients speak TLS.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'Disabled' || has(self.secretName) != has(self.issuerRef)").message(
    "tls needs exactly one of secretName (a Secret with tls.crt and tls.key) and issuerRef (of cert-manager) while tls.mode is not Disabled"
))]
pub struct Tls {
    /// Disabled: plain TCP. Server: the port speaks nothing but TLS. Mutual: clients must show a certificate, too.
    pub mode: TlsMode,

    /// A Secret of this namespace with tls.crt, tls.key and, for Mutual and for kvs-client --store, ca.crt. A new
    /// content is taken over without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,

    /// The issuer of cert-manager that makes and renews the certificate, in the Secret NAME-tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
}

/// What the client port speaks.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain TCP.
    #[default]
    Disabled,
    /// TLS.
    Server,
    /// TLS, in which clients show a certificate of the authorities in ca.crt.
    Mutual,
}

/// An issuer of cert-manager.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Issuer of this namespace, or ClusterIssuer.
    #[serde(default)]
    pub kind: IssuerKind,

    /// Its API group.
    #[serde(default = "cert_manager")]
    #[schemars(length(min = 1, max = 253))]
    pub group: String,
}

/// Where an issuer lives.
#[derive(JsonSchema, Deserialize, Serialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IssuerKind {
    /// In the store's namespace.
    #[default]
    Issuer,
    /// In no namespace.
    ClusterIssuer,
}

impl IssuerKind {
    /// The word that cert-manager uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "Issuer",
            Self::ClusterIssuer => "ClusterIssuer",
        }
    }
}

/// The default of `group`.
fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}
