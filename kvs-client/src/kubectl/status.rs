//! `status`: how a store is, in the operator's words, and one line of what to do.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::cluster::{Cluster, Condition, json};
use super::collect::Collected;
use super::doctor::diagnose;
use crate::error::Error;
use crate::escape;
use crate::output::Output;

/// Reads the store and prints what its status says. It takes no right but that.
pub(super) async fn run(cluster: &Cluster, name: &str, output: Output) -> Result<(), Error> {
    let store = json(&cluster.store(name).await?);
    let next = next(&store, cluster, name);
    output.report(&text(&store, &cluster.namespace, name, &next), &object(&store, &cluster.namespace, name, &next))
}

/// The same as text, of a store that was read already.
pub(super) fn describe(store: &Value, cluster: &Cluster, name: &str) -> String {
    text(store, &cluster.namespace, name, &next(store, cluster, name))
}

/// What to do, in one line.
fn next(store: &Value, cluster: &Cluster, name: &str) -> String {
    let seen = Collected::of_store(store.clone(), Timestamp::now());
    let ready = Condition::find(store, "Ready");
    match (diagnose(&seen, &cluster.namespace, name).first(), ready) {
        (_, Some(ready)) if ready.holds && ready.is_current => "nothing".to_owned(),
        (Some(finding), _) if finding.cause != "NotReady" => finding.next.clone(),
        _ => cluster.command("doctor", name),
    }
}

/// What a person reads.
fn text(store: &Value, namespace: &str, name: &str, next: &str) -> String {
    let at = |path: &str| store.pointer(path).and_then(Value::as_str).unwrap_or("-");
    let mut lines = vec![format!("{namespace}/{name}: {}", summary(store))];
    lines.push(format!("version  {} ({})", at("/status/version"), at("/status/image")));
    lines.push(format!("clients  {}", at("/status/endpoints/client")));
    let (asked, has) = (at("/status/storage/requested"), at("/status/storage/capacity"));
    lines.push(format!("storage  {asked} asked for, {has} there, class {}", at("/status/storage/storageClassName")));
    let members = store.pointer("/status/members").and_then(Value::as_array);
    for member in members.into_iter().flatten() {
        let at = |field: &str| member[field].as_str().unwrap_or("-");
        let ready = if member["ready"] == true { "ready" } else { "not ready" };
        let (node, claim, size) = (at("node"), at("volumeClaim"), at("volumeCapacity"));
        lines.push(format!("member   {} {ready} on {node}, volume {claim} ({size})", at("name")));
    }
    for (kind, status, words, is_current) in conditions(store) {
        let age = if is_current { "" } else { " (of an older spec)" };
        lines.push(format!("{kind:<21}{status:<8}{words}{age}"));
    }
    lines.push(format!("next: {next}"));
    let mut text = String::new();
    for line in lines {
        // The status is written by whoever may write it.
        writeln!(text, "{}", escape::line(&line)).expect("writing into a string can't fail");
    }
    text.pop();
    text
}

fn summary(store: &Value) -> String {
    match Condition::find(store, "Ready") {
        None => "the operator has not reported about it yet (is kvs-operator running?)".to_owned(),
        Some(ready) if !ready.is_current => "the operator has not seen the last change yet".to_owned(),
        Some(ready) if ready.holds => format!("Ready, {}", ready.message),
        Some(ready) => format!("not Ready, {}", ready.words()),
    }
}

/// Type, status, words, and whether it speaks of the present spec.
fn conditions(store: &Value) -> Vec<(&str, &str, String, bool)> {
    let found = store.pointer("/status/conditions").and_then(Value::as_array);
    found
        .into_iter()
        .flatten()
        .filter_map(|condition| {
            let kind = condition["type"].as_str()?;
            let known = Condition::find(store, kind)?;
            Some((kind, condition["status"].as_str().unwrap_or("-"), known.words(), known.is_current))
        })
        .collect()
}

/// What programs read.
fn object(store: &Value, namespace: &str, name: &str, next: &str) -> Value {
    let ready = Condition::find(store, "Ready").is_some_and(|ready| ready.holds && ready.is_current);
    let status = store.get("status").cloned().unwrap_or_default();
    json!({"store": format!("{namespace}/{name}"), "ready": ready, "next": next, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_lines_that_nobody_can_break() {
        let store = json!({"metadata": {"generation": 2}, "status": {
            "version": "0.1.0", "image": "registry/kvs-server:0.1.0",
            "endpoints": {"client": "orders.shop.svc:4000"},
            "storage": {"requested": "64Mi", "capacity": "64Mi", "storageClassName": "fast"},
            "members": [{"name": "orders-0", "ready": true, "node": "node1", "volumeClaim": "data-orders-0"}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "AllMembersReady", "message": "1/1 members ready",
                 "observedGeneration": 2},
                {"type": "Degraded", "status": "False", "reason": "AsExpected", "message": "all\u{1b}[2J well",
                 "observedGeneration": 1},
            ],
        }});
        assert_eq!(
            text(&store, "shop", "orders", "nothing"),
            "shop/orders: Ready, 1/1 members ready\n\
             version  0.1.0 (registry/kvs-server:0.1.0)\n\
             clients  orders.shop.svc:4000\n\
             storage  64Mi asked for, 64Mi there, class fast\n\
             member   orders-0 ready on node1, volume data-orders-0 (-)\n\
             Ready                True    AllMembersReady: 1/1 members ready\n\
             Degraded             False   AsExpected: all\\u{1b}[2J well (of an older spec)\n\
             next: nothing"
        );
        assert_eq!(object(&store, "shop", "orders", "nothing")["ready"], true);
        assert!(text(&json!({}), "shop", "orders", "x").contains("has not reported"));
    }
}
