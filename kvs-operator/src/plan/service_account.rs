//! The account that the server runs under. It has no rights, and no token is given to the pod.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ObjectMeta;

use crate::names;
use crate::validate::ValidStore;

pub(super) fn build(store: &ValidStore) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(store, names::service_account(&store.name)),
        automount_service_account_token: Some(false),
        image_pull_secrets: None,
        secrets: None,
    }
}

/// What the metadata of every child says: its name, its store, and who made it.
pub(super) fn metadata(store: &ValidStore, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(store.namespace.clone()),
        labels: Some(names::labels(&store.name)),
        owner_references: Some(vec![store.owner.clone()]),
        ..ObjectMeta::default()
    }
}
