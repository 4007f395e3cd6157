//! What server-side apply alone can't repair: an entry of ours in a keyed list whose key was changed.
//!
//! A Service's ports are keyed by number. When someone turns our 4000 into 4100, apply adds 4000 again and leaves 4100,
//! which is theirs now; and because both are called `client`, the API server refuses the whole write. So the altered
//! entry is first put back by a merge patch of the list, under the version that was looked at.
//!
//! What must hold: an entry is taken for an altered copy of ours only when ours is missing and the two share more than
//! half of their other fields, so that another manager's entry (a sidecar, a port of its own) stays.

use serde_json::{Map, Value};

use super::drift::list_keys;

/// A merge patch that puts altered entries back; `None` when apply alone is enough.
pub(super) fn patch(wanted: &Value, live: &Value) -> Option<Value> {
    let mut patch = changed(wanted, live, "")?;
    // The patch replaces whole lists, so it must not meet a version that nobody looked at.
    patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    Some(patch)
}

/// The parts of `live` that must change: objects hold changed fields only, lists are whole.
fn changed(wanted: &Value, live: &Value, name: &str) -> Option<Value> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let fields: Map<String, Value> = wanted
                .iter()
                .filter(|(name, _)| *name != "volumeClaimTemplates")
                .filter_map(|(name, wanted)| Some((name.clone(), changed(wanted, live.get(name)?, name)?)))
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        (Value::Array(wanted), Value::Array(live)) => list(wanted, live, name),
        _ => None,
    }
}

/// The whole list with altered entries put back, or `None` when there is none.
fn list(wanted: &[Value], live: &[Value], name: &str) -> Option<Value> {
    let keys = list_keys(name, wanted)?;
    let same = |one: &Value, other: &Value| keys.iter().all(|key| one.get(key) == other.get(key));
    let mut mended = live.to_vec();
    let mut found = false;
    for entry in wanted {
        if let Some(index) = live.iter().position(|live| same(entry, live)) {
            // The entry is there; lists inside it may not be.
            if let Some(patch) = changed(entry, &live[index], "") {
                merge(&mut mended[index], patch);
                found = true;
            }
            continue;
        }
        let altered = mended.iter().position(|candidate| {
            !wanted.iter().any(|wanted| same(wanted, candidate)) && is_altered_copy(entry, candidate, keys)
        });
        if let Some(index) = altered {
            mended[index] = entry.clone();
            found = true;
        }
    }
    found.then_some(Value::Array(mended))
}

/// Whether two entries share more than half of the fields that are no keys.
fn is_altered_copy(entry: &Value, candidate: &Value, keys: &[&str]) -> bool {
    let Value::Object(fields) = entry else { return false };
    let others: Vec<_> = fields.iter().filter(|(name, _)| !keys.contains(&name.as_str())).collect();
    let shared = others.iter().filter(|(name, value)| candidate.get(name.as_str()) == Some(value)).count();
    shared * 2 > others.len()
}

/// Puts changed parts into a value.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, patch) in patch {
                merge(into.entry(name).or_insert(Value::Null), patch);
            }
        }
        (into, patch) => *into = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_whose_number_was_changed_is_put_back_and_a_port_of_others_stays() {
        let wanted =
            json!({"spec": {"ports": [{"name": "client", "port": 4000, "protocol": "TCP", "targetPort": "client"}]}});
        let theirs = json!({"name": "other", "port": 1, "protocol": "TCP", "targetPort": 1});
        let live = json!({"metadata": {"resourceVersion": "7"}, "spec": {"clusterIP": "10.0.0.1", "ports": [
            theirs, {"name": "client", "port": 4100, "protocol": "TCP", "targetPort": "client", "nodePort": 30000}
        ]}});
        let ours = &wanted["spec"]["ports"][0];
        let expected = json!({"metadata": {"resourceVersion": "7"}, "spec": {"ports": [theirs, ours]}});
        assert_eq!(patch(&wanted, &live), Some(expected));
    }

    #[test]
    fn a_list_inside_an_entry_is_mended_in_its_place() {
        let container = |port: u16| json!({"name": "server", "image": "i", "tty": false, "ports": [{"name": "client", "containerPort": port, "protocol": "TCP"}]});
        let wanted = json!({"containers": [{"name": "server", "image": "i", "ports": container(4000)["ports"]}]});
        let live = json!({"metadata": {"resourceVersion": "7"}, "containers": [{"name": "sidecar"}, container(4100)]});
        let mended = patch(&wanted, &live).unwrap();
        assert_eq!(mended["containers"], json!([{"name": "sidecar"}, container(4000)]));
    }

    #[test]
    fn a_renamed_container_is_ours_and_a_sidecar_is_not() {
        let server = json!({"name": "server", "image": "i", "command": ["/kvs-server"], "resources": {}});
        let wanted = json!({"containers": [server]});
        let mut renamed = server.clone();
        renamed["name"] = json!("evil");
        let mended = patch(&wanted, &json!({"metadata": {}, "containers": [renamed]})).unwrap();
        assert_eq!(mended["containers"], json!([server]));
        let sidecar = json!({"name": "proxy", "image": "p", "resources": {}});
        assert_eq!(patch(&wanted, &json!({"metadata": {}, "containers": [sidecar]})), None);
    }

    #[test]
    fn what_apply_can_repair_needs_no_patch() {
        let wanted =
            json!({"spec": {"replicas": 1, "ports": [{"name": "c", "port": 1, "protocol": "TCP", "targetPort": 1}]}});
        let live =
            json!({"spec": {"replicas": 0, "ports": [{"name": "c", "port": 1, "protocol": "TCP", "targetPort": 9}]}});
        assert_eq!(patch(&wanted, &live), None);
    }
}
