//! The hash of the configuration that a pod reads at its start. It stands in the pods' template, so a change of it rolls
//! them.
//!
//! What must hold: what the server takes over while it runs rolls nothing. Of what a store can say that is the log's level:
//! a hash that tells of the same configuration at another level stays as it is. So the hash of a store whose level never
//! changed is what every version of the operator made of it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kvs_protocol::config::{LogConfig, ServerConfig};

use super::hash;
use crate::names;
use crate::resource::LogLevel;

/// The hash for a configuration, beside that which the members began with.
pub(super) fn of(config: &ServerConfig, running: Option<&str>) -> String {
    let others = LogLevel::ALL.into_iter().map(|level| {
        let log = LogConfig { level: Some(level.as_str().to_owned()), ..config.log.clone().unwrap_or_default() };
        hash::of_text(&ServerConfig { log: Some(log), ..config.clone() }.to_yaml())
    });
    others.into_iter().find(|other| Some(other.as_str()) == running).unwrap_or_else(|| hash::of_text(&config.to_yaml()))
}

/// The hash that stands in the members' template; in the pods themselves while the StatefulSet is made again.
pub(super) fn running<'a>(live: Option<&'a StatefulSet>, pods: &'a [Arc<Pod>]) -> Option<&'a str> {
    let template = live.and_then(|live| live.spec.as_ref()?.template.metadata.as_ref()?.annotations.as_ref());
    let annotations = template.or_else(|| pods.first().map(|pod| pod.annotations()));
    annotations?.get(names::CONFIG_HASH).map(String::as_str)
}
