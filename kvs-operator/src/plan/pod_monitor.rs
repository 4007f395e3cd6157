//! The PodMonitor: tells a Prometheus of the Prometheus operator which pods to ask, where, and which labels they get.
//!
//! What must hold: every label that the alerts and dashboards of deploy/monitoring select or group by is there. `namespace`
//! and `pod` come from Prometheus Operator; `job` would be the monitor's own name, and `kvsstore` it does not know.

use kube::api::DynamicObject;
use serde_json::json;

use super::pod_template::ADMIN_PORT_NAME;
use super::service_account::metadata;
use crate::kinds::{self, KnownKinds};
use crate::names;
use crate::resource::{Monitoring, PodMonitorMode};
use crate::validate::ValidStore;

/// The monitor, where the store does not refuse it and the cluster knows the kind.
pub(super) fn build(store: &ValidStore, kinds: KnownKinds) -> Option<DynamicObject> {
    let Monitoring { pod_monitor, labels } = &store.monitoring;
    if *pod_monitor == PodMonitorMode::Disabled || !kinds.pod_monitors {
        return None;
    }
    let spec = json!({
        "selector": {"matchLabels": names::selector_labels(&store.name)},
        "podMetricsEndpoints": [{
            "port": ADMIN_PORT_NAME,
            "path": "/metrics",
            "relabelings": [
                {"targetLabel": "job", "replacement": "kvs-server"},
                {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"], "targetLabel": "kvsstore"},
            ],
        }],
    });
    let mut object = DynamicObject::new(&store.name, &kinds::pod_monitor()).data(json!({"spec": spec}));
    let mut metadata = metadata(store, store.name.clone());
    let mut all = labels.clone().unwrap_or_default();
    // Ours last: the operator finds its children by them.
    all.append(metadata.labels.get_or_insert_default());
    metadata.labels = Some(all);
    object.metadata = metadata;
    Some(object)
}
