//! The server's configuration file in a ConfigMap. The list of peers will never stand in it: it would roll every pod
//! when a member is added.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::pod_template::CONFIG_FILE;
use super::service_account::metadata;
use crate::names;
use crate::validate::ValidStore;

pub(super) fn build(store: &ValidStore, config: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(store, names::config_map(&store.name)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config.to_owned())])),
        binary_data: None,
        immutable: None,
    }
}
