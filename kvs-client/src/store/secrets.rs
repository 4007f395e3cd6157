//! What a KvsStore says of TLS and tokens, and the Secrets that it names.
//!
//! What must hold: a Secret is read by its name, in the store's own namespace, and only if no flag says the same; a store
//! that says nothing is reached in plain TCP, without a token.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::StoreName;
use super::error::StoreError;
use crate::security::{Secrets, Security, TlsSecret, token_of_secret};

/// The Secrets that are needed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    /// The Secret of the certificate, and whether the client must show one too.
    tls: Option<(String, bool)>,
    /// The Secret of the token, and its key.
    token: Option<(String, String)>,
}

/// What the store names and no flag says. Pure.
pub(super) fn needed(store: &DynamicObject, flags: &Security) -> Needed {
    let text = |path: &str| store.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let is_mutual = text("/spec/tls/mode") == "Mutual" || text("/spec/auth/mode") == "ClientCertificate";
    let tls = match (text("/spec/tls/mode"), text("/spec/tls/secretName"), text("/spec/tls/issuerRef/name")) {
        ("" | "Disabled", _, _) | (_, "", "") => None,
        // cert-manager keeps it in a Secret that the operator named.
        (_, "", _) => Some((format!("{}-tls", store.name_any()), is_mutual)),
        (_, secret, _) => Some((secret.to_owned(), is_mutual)),
    };
    let token = match (text("/spec/auth/tokenSecretRef/name"), text("/spec/auth/tokenSecretRef/key")) {
        ("", _) | (_, "") => None,
        (secret, key) => Some((secret.to_owned(), key.to_owned())),
    };
    Needed {
        tls: tls.filter(|(_, is_mutual)| !flags.has_authorities() || (*is_mutual && !flags.has_identity())),
        token: token.filter(|_| text("/spec/auth/mode") == "Token" && !flags.has_token()),
    }
}

/// Reads them.
pub(super) async fn read(client: &Client, store: &StoreName, needed: Needed) -> Result<Secrets, StoreError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &store.namespace);
    let mut secrets = Secrets::default();
    if let Some((name, is_mutual)) = needed.tls {
        let secret = get(&api, store, &name).await?;
        let authorities = field(store, &name, &secret, "ca.crt")?;
        let identity = if is_mutual {
            Some((field(store, &name, &secret, "tls.crt")?, field(store, &name, &secret, "tls.key")?))
        } else {
            None
        };
        secrets.tls = Some(TlsSecret { authorities, identity });
    }
    if let Some((name, key)) = needed.token {
        let secret = get(&api, store, &name).await?;
        let token = field(store, &name, &secret, &key)?;
        let wrong = |cause| StoreError::Secret {
            store: store.clone(),
            secret: name.clone(),
            cause: format!("`{key}` {cause}"),
        };
        secrets.token = Some(token_of_secret(&token).map_err(wrong)?);
    }
    Ok(secrets)
}

async fn get(api: &Api<Secret>, store: &StoreName, name: &str) -> Result<Secret, StoreError> {
    match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => {
            Err(StoreError::Secret { store: store.clone(), secret: name.to_owned(), cause: "does not exist".into() })
        }
        Err(error) => Err(StoreError::from_api(store, "read its Secrets", error)),
    }
}

fn field(store: &StoreName, name: &str, secret: &Secret, field: &str) -> Result<Vec<u8>, StoreError> {
    let found = secret.data.as_ref().and_then(|data| data.get(field)).map(|bytes| bytes.0.clone());
    found.ok_or_else(|| StoreError::Secret {
        store: store.clone(),
        secret: name.to_owned(),
        cause: format!("has no `{field}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn store(spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsStore",
            "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_store_that_says_nothing_needs_no_secret() {
        let flags = Security::default();
        for spec in [
            json!({}),
            json!({"tls": {"mode": "Disabled", "secretName": "x"}}),
            json!({"auth": {"mode": "None", "tokenSecretRef": {"name": "a", "key": "b"}}}),
        ] {
            assert_eq!(needed(&store(&spec), &flags), Needed::default(), "{spec}");
        }
    }

    #[test]
    fn the_secrets_are_those_that_the_store_names() {
        let flags = Security::default();
        let spec = json!({
            "tls": {"mode": "Server", "secretName": "cert"},
            "auth": {"mode": "Token", "tokenSecretRef": {"name": "auth", "key": "token"}},
        });
        let expected = Needed { tls: Some(("cert".into(), false)), token: Some(("auth".into(), "token".into())) };
        assert_eq!(needed(&store(&spec), &flags), expected);
        let spec = json!({"tls": {"mode": "Mutual", "secretName": "cert"}});
        assert_eq!(needed(&store(&spec), &flags).tls, Some(("cert".into(), true)));
        let spec = json!({"tls": {"mode": "Server", "issuerRef": {"name": "authority"}}});
        assert_eq!(needed(&store(&spec), &flags).tls, Some(("orders-tls".into(), false)));
    }
}
