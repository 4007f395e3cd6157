//! Which pod of a store to talk to, and why there is none. Pure: it sees what was read and asks nobody.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::Value;

/// The selector of the store's pods: what its status says, or what the operator labels them with.
pub(crate) fn selector(store: &DynamicObject, name: &str) -> String {
    match store.data.pointer("/status/selector").and_then(Value::as_str) {
        Some(selector) if !selector.is_empty() => selector.to_owned(),
        _ => format!(
            "app.kubernetes.io/name=kvs-store,app.kubernetes.io/instance={name},app.kubernetes.io/component=server"
        ),
    }
}

/// The name of the first pod that is ready and not on its way out.
pub(super) fn pick_ready(pods: &[Pod]) -> Option<&str> {
    let mut ready: Vec<&str> = pods.iter().filter(|pod| is_ready(pod)).filter_map(name).collect();
    ready.sort_unstable();
    ready.first().copied()
}

/// Why no pod is ready: the store's own words where it has some, else what the pods say.
pub(super) fn why_not_ready(store: &DynamicObject, pods: &[Pod]) -> String {
    let pods = describe(pods);
    match ready_condition(store) {
        Some((true, _)) => format!("it was ready a moment ago; {pods}"),
        Some((false, message)) => format!("{message}; {pods}"),
        None => format!("the operator has not reported about it yet (is kvs-operator running?); {pods}"),
    }
}

/// The store's condition `Ready`: whether it holds, and why.
fn ready_condition(store: &DynamicObject) -> Option<(bool, String)> {
    let conditions = store.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let text = |field: &str| ready[field].as_str().unwrap_or_default().trim();
    let message = match (text("reason"), text("message")) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    Some((text("status") == "True", message))
}

fn describe(pods: &[Pod]) -> String {
    if pods.is_empty() {
        return "it has no pod".into();
    }
    let each = pods.iter().map(|pod| format!("pod {} is {}", name(pod).unwrap_or("without a name"), state(pod)));
    each.collect::<Vec<_>>().join(", ")
}

/// The state of a pod that is not ready in a few words, as `kubectl get pods` would give it.
fn state(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "being deleted".into();
    }
    let Some(status) = &pod.status else { return "not scheduled".into() };
    let containers = status.container_statuses.iter().flatten();
    let mut waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    match waiting.next() {
        Some(reason) => format!("waiting ({reason})"),
        None if status.phase.as_deref() == Some("Running") => "running but not ready".into(),
        None => status.phase.clone().unwrap_or_else(|| "of unknown state".into()).to_lowercase(),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn name(pod: &Pod) -> Option<&str> {
    pod.metadata.name.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn store(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsStore",
            "metadata": {"name": "orders", "namespace": "shop"}, "status": status,
        }))
        .unwrap()
    }

    fn pod(name: &str, ready: &str, deleted: bool, reason: Option<&str>) -> Pod {
        let deletion = deleted.then_some("2026-01-01T00:00:00Z");
        let state = reason.map_or(json!({"running": {}}), |reason| json!({"waiting": {"reason": reason}}));
        serde_json::from_value(json!({
            "metadata": {"name": name, "deletionTimestamp": deletion},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "kvs-server", "image": "", "imageID": "", "ready": ready == "True",
                                       "restartCount": 0, "state": state}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_status_says_which_pods_are_the_stores() {
        assert_eq!(selector(&store(&json!({"selector": "a=b"})), "orders"), "a=b");
        assert!(selector(&store(&json!({})), "orders").contains("app.kubernetes.io/instance=orders"));
    }

    #[test]
    fn only_a_ready_pod_that_stays_is_picked() {
        let dying = pod("orders-0", "True", true, None);
        let starting = pod("orders-1", "False", false, None);
        let ready = pod("orders-2", "True", false, None);
        assert_eq!(pick_ready(&[]), None);
        assert_eq!(pick_ready(&[dying.clone(), starting.clone()]), None);
        assert_eq!(pick_ready(&[dying, starting, ready]), Some("orders-2"));
    }

    #[test]
    fn the_reason_names_the_condition_and_the_pods() {
        let not_ready = json!({"conditions": [
            {"type": "Progressing", "status": "True", "reason": "Other", "message": "not this"},
            {"type": "Ready", "status": "False", "reason": "VolumePending", "message": "no volume of 1Gi"},
        ]});
        let crashing = pod("orders-0", "False", false, Some("CrashLoopBackOff"));
        assert_eq!(
            why_not_ready(&store(&not_ready), &[crashing]),
            "VolumePending: no volume of 1Gi; pod orders-0 is waiting (CrashLoopBackOff)"
        );
        let unseen = why_not_ready(&store(&Value::Null), &[]);
        assert!(unseen.contains("is kvs-operator running?") && unseen.contains("no pod"), "{unseen}");
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let dying = pod("orders-0", "True", true, None);
        assert_eq!(why_not_ready(&store(&ready), &[dying]), "it was ready a moment ago; pod orders-0 is being deleted");
    }
}
