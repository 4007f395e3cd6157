//! Whether an operator is at work.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Case, Finding, Place};
use crate::kubectl::collect::OPERATOR_SELECTOR;

/// A leader confirms its Lease every few seconds; one that has not for so long, in seconds, is gone.
const LEASE_LIMIT_S: i64 = 30;
/// A store that no operator has looked at for so long, in seconds, has none.
const UNSEEN_LIMIT_S: i64 = 60;

pub(super) fn find(case: &Case<'_>) -> Option<Finding> {
    let (evidence, next) = down(case)?;
    let place = if case.is_left_alone() { Place::NobodyActs(1) } else { Place::Later(1) };
    let says = "no operator is at work: stores go on, but nothing is repaired or changed";
    Some(Finding::new(place, "OperatorDown", says, evidence, next))
}

/// Whether no operator works.
pub(super) fn is_down(case: &Case<'_>) -> bool {
    down(case).is_some()
}

/// What shows that no operator works, and what to do.
fn down(case: &Case<'_>) -> Option<(String, String)> {
    let list = format!("kubectl get pods --all-namespaces --selector {OPERATOR_SELECTOR}");
    let lease = case.seen.leases.as_deref().ok().and_then(|leases| lease(leases, case.seen.now));
    match case.seen.operators.as_deref() {
        Ok([]) => match lease {
            Some(Ok(_)) => None,
            Some(Err(stale)) => Some((format!("there is no Deployment of kvs-operator, and {stale}"), list)),
            None if case.seen.leases.is_ok() => Some((
                "there is no Deployment and no Lease of kvs-operator".to_owned(),
                "helm install kvs-operator charts/kvs-operator --namespace kvs-system --create-namespace".to_owned(),
            )),
            None => unseen(case).map(|unseen| (format!("there is no Deployment of kvs-operator; {unseen}"), list)),
        },
        Ok(deployments) => {
            let available = |deployment: &&Value| deployment["status"]["availableReplicas"].as_i64().unwrap_or(0) > 0;
            let Some(works) = deployments.iter().find(available) else {
                return Some(idle(&deployments[0]));
            };
            let stale = lease?.err()?;
            Some((format!("a pod of Deployment {} answers, but {stale}", full_name(works)), list))
        }
        Err(_) => match lease {
            Some(Ok(_)) => None,
            Some(Err(stale)) => Some((stale, list)),
            None => unseen(case).map(|unseen| (unseen, list)),
        },
    }
}

/// A Deployment none of whose pods answers.
fn idle(deployment: &Value) -> (String, String) {
    let (namespace, name) = (text(deployment, "/metadata/namespace"), text(deployment, "/metadata/name"));
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let evidence = format!("Deployment {namespace}/{name} has 0 of {wanted} pods available");
    let next = if wanted == 0 {
        format!("kubectl --namespace {namespace} scale deployment {name} --replicas 2")
    } else {
        format!("kubectl --namespace {namespace} describe pods --selector {OPERATOR_SELECTOR}")
    };
    (evidence, next)
}

/// Who leads, or what shows that nobody does; `None` where no Lease is known.
fn lease(leases: &[Value], now: Timestamp) -> Option<Result<(), String>> {
    let age = |lease: &Value| {
        let renewed: Timestamp = text(lease, "/spec/renewTime").parse().ok()?;
        Some(now.as_second() - renewed.as_second())
    };
    let holder = |lease: &Value| text(lease, "/spec/holderIdentity").to_owned();
    let leads = |lease: &&Value| !holder(lease).is_empty() && age(lease).is_some_and(|age| age <= LEASE_LIMIT_S);
    if leases.iter().any(|lease| leads(&lease)) {
        return Some(Ok(()));
    }
    let newest = leases.iter().min_by_key(|lease| age(lease).unwrap_or(i64::MAX))?;
    let name = full_name(newest);
    Some(Err(match (holder(newest).as_str(), age(newest)) {
        ("", _) | (_, None) => format!("nobody holds Lease {name}"),
        (holder, Some(age)) => format!("Lease {name} of {holder} was last confirmed {age} s ago"),
    }))
}

/// Where no right lets us look at the operator: whether it has looked at the store.
fn unseen(case: &Case<'_>) -> Option<String> {
    let store = &case.seen.store;
    if store["status"]["observedGeneration"].as_i64() == store["metadata"]["generation"].as_i64() {
        return None;
    }
    // When the spec was last changed is not known; a young store, or a change that was just made, is no sign.
    let created: Timestamp = case.text("/metadata/creationTimestamp").parse().ok()?;
    let fields = store.pointer("/metadata/managedFields").and_then(Value::as_array);
    let changes = fields.into_iter().flatten().filter(|entry| entry["subresource"].is_null());
    let times = changes.filter_map(|entry| entry["time"].as_str()?.parse::<Timestamp>().ok());
    let changed = times.chain([created]).max()?;
    let age = case.seen.now.as_second() - changed.as_second();
    (age > UNSEEN_LIMIT_S).then(|| format!("the store was changed {age} s ago, and no operator has looked at it since"))
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn full_name(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}
