//! What a person wants to see when a story failed: conditions, objects, events and logs of its namespace.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::cluster::{OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use crate::namespace::Namespace;
use crate::process::Program;

/// The time that each question has.
const LIMIT: Duration = Duration::from_secs(15);

/// Everything that can be had; what can't be had says why.
pub async fn of_namespace(namespace: &Namespace) -> String {
    let mut report = conditions(namespace).await;
    let kinds = "kvsstores,kvsbackups,kvsbackupschedules,jobs,statefulsets,pods,persistentvolumeclaims,services";
    report.push_str(&said(namespace.kubectl(["get", kinds, "--output", "wide"])).await);
    report.push_str(&said(namespace.kubectl(["get", "events", "--sort-by=.metadata.creationTimestamp"])).await);
    let pods = Api::<Pod>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let pods = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    for pod in pods {
        let name = pod.name_any();
        report.push_str(&said(namespace.kubectl(["logs", &name, "--all-containers", "--tail=40"])).await);
        let restarted = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        if restarted.into_iter().any(|container| container.restart_count > 0) {
            report.push_str(&said(namespace.kubectl(["logs", &name, "--previous", "--tail=40"])).await);
        }
    }
    report.push_str(&operator_log(namespace).await);
    report
}

/// Every condition of every store, one a line.
async fn conditions(namespace: &Namespace) -> String {
    let stores = match namespace.cluster.stores(&namespace.name).list(&ListParams::default()).await {
        Ok(stores) => stores,
        Err(error) => return format!("-- no conditions: {error}\n"),
    };
    let mut report = String::new();
    for store in stores {
        let conditions = store.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
        for condition in conditions.unwrap_or_default() {
            let word = |field: &str| condition[field].as_str().unwrap_or("?").to_owned();
            let line = format!("{}={} {}: {}", word("type"), word("status"), word("reason"), word("message"));
            report.push_str(&format!("-- {}: {line}\n", store.name_any()));
        }
    }
    report
}

/// What the operator said of this namespace.
async fn operator_log(namespace: &Namespace) -> String {
    // Of all its pods: who led at that time is not known here.
    let selector = format!("app.kubernetes.io/instance={OPERATOR_RELEASE}");
    let kubectl = namespace.cluster.kubectl(OPERATOR_NAMESPACE).args(["logs", "--selector", &selector, "--tail=2000"]);
    match kubectl.limit(LIMIT).succeed().await {
        Ok(log) => {
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&namespace.name)).collect();
            let last = lines.len().saturating_sub(40);
            format!("-- the operator's log about {}:\n{}\n", namespace.name, lines[last..].join("\n"))
        }
        Err(failure) => format!("-- {failure}\n"),
    }
}

/// A program's line and what it said.
async fn said(program: Program) -> String {
    match program.limit(LIMIT).run().await {
        Ok(output) => format!("-- {}\n{}{}", output.line, output.stdout, output.stderr),
        Err(failure) => format!("-- {failure}\n"),
    }
}
