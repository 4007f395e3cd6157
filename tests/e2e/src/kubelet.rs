//! `Kubelet`: a stand-in for the nodes, for stories of more pods than a machine can run.
//!
//! What must hold: it speaks for pods that no node takes, and for no others, so that it never contradicts a real kubelet;
//! all that it says is that they run and answer; it ends with this value.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// The part of a store's spec that keeps its pods from every node.
pub const NO_NODE: &str = "scheduling: {nodeSelector: {example.com/no-such-node: 'true'}}";
/// Pods that are spoken for at a time.
const AT_A_TIME: usize = 8;

/// A stand-in for the nodes of a namespace's pods.
pub struct Kubelet {
    task: JoinHandle<()>,
}

impl Kubelet {
    /// Speaks for the pods of a namespace from now on.
    #[must_use]
    pub fn start(client: Client, namespace: &str) -> Self {
        let pods = Api::<Pod>::namespaced(client, namespace);
        let task = tokio::spawn(async move {
            let seen = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
            let silent = seen.filter_map(|pod| std::future::ready(pod.ok().filter(is_silent)));
            silent
                .for_each_concurrent(AT_A_TIME, |pod| {
                    let pods = pods.clone();
                    async move {
                        let patch = Patch::Merge(json!({"status": answers(&pod)}));
                        let patched = pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
                        // It may be gone by now.
                        if let Err(error) = patched.map_err(Failure::kubernetes("speaking for a pod")) {
                            eprintln!("    {error}");
                        }
                    }
                })
                .await;
        });
        Self { task }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether nobody speaks for a pod.
fn is_silent(pod: &Pod) -> bool {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let runs = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    !has_node && !runs && pod.metadata.deletion_timestamp.is_none()
}

/// The status of a pod whose containers run and answer.
fn answers(pod: &Pod) -> Value {
    let condition = |word: &str| json!({"type": word, "status": "True"});
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": true, "restartCount": 0,
            "started": true, "state": {"running": {}},
        })
    });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({"phase": "Running", "conditions": conditions, "containerStatuses": containers.collect::<Vec<_>>()})
}
