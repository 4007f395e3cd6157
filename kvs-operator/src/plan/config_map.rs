//! The server's configuration file in a ConfigMap. The list of peers will never stand in it: it would roll every pod
//! when a member is added.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::child::Child;
use super::pod_template::CONFIG_FILE;
use super::service_account::metadata;
use crate::names;
use crate::validate::ValidStore;

/// The text of a live one that is as it was applied: the hash in its annotation says so.
pub(crate) fn intact_text<'a>(store: &ValidStore, live: &'a ConfigMap) -> Option<&'a str> {
    let text = live.data.as_ref()?.get(CONFIG_FILE)?;
    is_of(store, text, live).then_some(text.as_str())
}

/// Whether a live one was applied with this text, whatever it holds now.
pub(super) fn is_of(store: &ValidStore, text: &str, live: &ConfigMap) -> bool {
    live.annotations().get(names::APPLIED_HASH) == Some(&Child::config_map(build(store, text)).hash())
}

pub(super) fn build(store: &ValidStore, config: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(store, names::config_map(&store.name)),
        data: Some(BTreeMap::from([(CONFIG_FILE.to_owned(), config.to_owned())])),
        binary_data: None,
        immutable: None,
    }
}
