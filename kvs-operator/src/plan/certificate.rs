//! The Certificate: an order to cert-manager, which makes the Secret of the store's certificate and renews it.
//!
//! What must hold: it bears every name by which a member or the store is reached inside the cluster, so that a
//! certificate need not change when members are added.

use kube::api::DynamicObject;
use serde_json::json;

use super::service_account::metadata;
use crate::kinds::{self, KnownKinds};
use crate::names;
use crate::validate::{ServerTls, ValidStore};

/// The order, where the store names an issuer and the cluster knows the kind.
pub(super) fn build(store: &ValidStore, kinds: KnownKinds) -> Option<DynamicObject> {
    let Some(ServerTls { secret, is_mutual, issuer: Some(issuer) }) = store.tls.as_ref().filter(|_| kinds.certificates)
    else {
        return None;
    };
    let (name, namespace, peers) = (&store.name, &store.namespace, names::peers_service(&store.name));
    let mut usages = vec!["digital signature", "key encipherment", "server auth"];
    // With Mutual, kvs-client --store shows this certificate too.
    usages.extend(is_mutual.then_some("client auth"));
    let spec = json!({
        "secretName": secret,
        "dnsNames": [
            store.host(),
            format!("{name}.{namespace}"),
            name,
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("*.{peers}.{namespace}.svc"),
            format!("*.{peers}.{namespace}.svc.cluster.local"),
        ],
        "usages": usages,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": {"name": issuer.name, "kind": issuer.kind.as_str(), "group": issuer.group},
    });
    let mut object = DynamicObject::new(name, &kinds::certificate()).data(json!({"spec": spec}));
    object.metadata = metadata(store, name.clone());
    Some(object)
}
