//! Which of the fields that we set have another value in the live object.
//!
//! What must hold: what we do not set is not looked at; lists that Kubernetes keys (containers by name, ports by
//! number) are compared by key, so that another manager's entry among ours is left alone; two spellings of one quantity
//! are equal; what the API server completes in the entries of a pod's lists is no change. What we set empty is equal to
//! what is absent, because the API server drops it. A flag or a number that is absent is a change: where the API server
//! dropped a `false` or a 0, an apply proves it (see `settlement.rs`), while an absent `automountServiceAccountToken`
//! means true.

use serde_json::{Map, Value};

use crate::quantity::Amount;

/// Paths of the fields that differ, such as `spec.template.spec.containers[kvs-server].image`, at most [`MOST_FIELDS`].
pub(crate) fn fields(wanted: &Value, live: &Value) -> Vec<String> {
    let mut comparison = Comparison { path: Vec::new(), fields: Vec::new() };
    comparison.value(wanted, Some(live));
    comparison.fields
}

/// Fields that one comparison names. A person reads them in an event of at most 1,024 bytes.
const MOST_FIELDS: usize = 8;

struct Comparison {
    path: Vec<String>,
    fields: Vec<String>,
}

impl Comparison {
    fn value(&mut self, wanted: &Value, live: Option<&Value>) {
        match (wanted, live) {
            (Value::Object(wanted), Some(Value::Object(live))) => self.object(wanted, live),
            (Value::Array(wanted), Some(Value::Array(live))) => self.array(wanted, live),
            (wanted, None) if is_empty(wanted) => {}
            (wanted, Some(live)) if wanted == live || self.is_same_quantity(wanted, live) => {}
            _ => self.differs(),
        }
    }

    fn object(&mut self, wanted: &Map<String, Value>, live: &Map<String, Value>) {
        for (name, wanted) in wanted {
            if name == "volumeClaimTemplates" {
                // Can't drift, because it can't change; and the API server completes each entry.
                continue;
            }
            self.path.push(name.clone());
            self.value(wanted, live.get(name));
            self.path.pop();
        }
    }

    fn array(&mut self, wanted: &[Value], live: &[Value]) {
        let keys = self.path.last().and_then(|name| list_keys(name, wanted));
        let Some(keys) = keys else {
            // A list without keys belongs to one manager as a whole. In a pod the API server completes its entries.
            let is_in_pod = self.path.iter().any(|name| name == "template");
            if is_in_pod && wanted.len() == live.len() {
                for (index, (wanted, live)) in wanted.iter().zip(live).enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.value(wanted, Some(live));
                    self.path.pop();
                }
            } else if pruned_list(wanted) != pruned_list(live) {
                self.differs();
            }
            return;
        };
        for item in wanted {
            let twin = live.iter().find(|live| keys.iter().all(|key| live.get(key) == item.get(key)));
            let label: Vec<String> = keys.iter().filter_map(|key| item.get(key)).map(plain).collect();
            self.path.push(format!("[{}]", label.join("/")));
            self.value(item, twin);
            self.path.pop();
        }
    }

    /// Quantities stand below `requests` and `limits`, and in fields of these names.
    fn is_same_quantity(&self, wanted: &Value, live: &Value) -> bool {
        let parent = self.path.len().checked_sub(2).and_then(|index| self.path.get(index));
        let is_in_list = parent.is_some_and(|parent| parent == "requests" || parent == "limits");
        if !is_in_list && !self.path.last().is_some_and(|name| name == "sizeLimit" || name == "divisor") {
            return false;
        }
        matches!((Amount::parse(&plain(wanted)), Amount::parse(&plain(live))), (Ok(one), Ok(other)) if one == other)
    }

    fn differs(&mut self) {
        if self.fields.len() < MOST_FIELDS {
            self.fields.push(self.path.join(".").replace(".[", "["));
        }
    }
}

/// By what Kubernetes keys the entries of a list of this name: the first set of keys that every entry of ours has.
pub(crate) fn list_keys(list: &str, entries: &[Value]) -> Option<&'static [&'static str]> {
    let candidates: &[&'static [&'static str]] = match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => &[&["name"]],
        "ports" => &[&["containerPort", "protocol"], &["port", "protocol"]],
        "volumeMounts" => &[&["mountPath"]],
        "topologySpreadConstraints" => &[&["topologyKey", "whenUnsatisfiable"]],
        "ownerReferences" => &[&["uid"]],
        _ => &[],
    };
    candidates.iter().copied().find(|keys| entries.iter().all(|entry| keys.iter().all(|key| entry.get(key).is_some())))
}

/// A string without its quotation marks, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// A list without what the API server drops from its entries: empty lists and texts, and labels that select nothing. An
/// empty selector itself stays, because it selects everything.
fn pruned_list(items: &[Value]) -> Vec<Value> {
    items.iter().map(pruned).collect()
}

fn pruned(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(pruned_list(items)),
        Value::Object(fields) => {
            let is_kept = |name: &str, field: &Value| match field {
                Value::Object(labels) => !(name == "matchLabels" && labels.is_empty()),
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty(),
                Value::Bool(_) | Value::Number(_) => true,
                Value::Null => false,
            };
            let kept = fields.iter().filter(|(name, field)| is_kept(name, field));
            Value::Object(kept.map(|(name, field)| (name.clone(), pruned(field))).collect())
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_api_server_drops_from_a_policy_is_no_change_and_a_selector_of_everything_is_none() {
        let wanted = json!({"ingress": [{"from": [
            {"podSelector": {"matchLabels": {}}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}
        ]}]});
        let live = json!({"ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}]});
        assert_eq!(fields(&wanted, &live), Vec::<String>::new());
        let widened = json!({"ingress": [{"from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}]});
        assert_eq!(fields(&wanted, &widened), ["ingress"]);
    }

    #[test]
    fn an_empty_text_is_dropped_and_a_flag_that_is_gone_is_a_change() {
        let wanted = json!({"tolerations": [{"key": "", "operator": "Exists"}], "emptyDir": {"medium": ""}});
        let wanted = json!({"template": wanted});
        let live = json!({"template": {"tolerations": [{"operator": "Exists"}], "emptyDir": {}}});
        assert_eq!(fields(&wanted, &live), Vec::<String>::new());
        let flag = json!({"automountServiceAccountToken": false});
        assert_eq!(fields(&flag, &json!({})), ["automountServiceAccountToken"]);
    }

    #[test]
    fn what_others_set_is_not_looked_at() {
        let wanted =
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "server", "image": "i"}]}});
        let live = json!({
            "metadata": {"labels": {"a": "1", "theirs": "x"}, "uid": "u"},
            "spec": {"containers": [{"name": "sidecar"}, {"name": "server", "image": "i", "tty": false}], "x": 1}
        });
        assert_eq!(fields(&wanted, &live), Vec::<String>::new());
    }

    #[test]
    fn each_changed_field_is_named_by_its_path() {
        let wanted = json!({"spec": {"replicas": 1, "template": {"containers": [{"name": "server", "image": "i"}]}}});
        let live = json!({"spec": {"replicas": 0, "template": {"containers": [{"name": "server", "image": "evil"}]}}});
        assert_eq!(fields(&wanted, &live), ["spec.replicas", "spec.template.containers[server].image"]);
        let live = json!({"spec": {"replicas": 1, "template": {"containers": []}}});
        assert_eq!(fields(&wanted, &live), ["spec.template.containers[server]"]);
    }

    #[test]
    fn quantities_are_compared_by_value_and_only_where_quantities_stand() {
        let wanted = json!({"requests": {"memory": "1024Mi", "cpu": "0.5"}, "data": {"size": "1024Mi"}, "emptyDir": {"sizeLimit": "1024Mi"}});
        let live = json!({"requests": {"memory": "1Gi", "cpu": "500m"}, "data": {"size": "1Gi"}, "emptyDir": {"sizeLimit": "1Gi"}});
        assert_eq!(fields(&wanted, &live), ["data.size"]);
    }

    #[test]
    fn a_list_without_keys_is_compared_whole() {
        let wanted = json!({"drop": ["ALL"], "command": ["/a", "b"]});
        assert_eq!(fields(&wanted, &json!({"drop": ["ALL", "x"], "command": ["/a", "b"]})), ["drop"]);
    }

    #[test]
    fn defaults_that_are_completed_in_a_pods_list_without_keys_are_no_change() {
        let wanted = json!({"template": {"items": [{"path": "p", "fieldRef": {"fieldPath": "f"}}], "command": ["/a"]}});
        let mut live = wanted.clone();
        live["template"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
        assert_eq!(fields(&wanted, &live), Vec::<String>::new());
        live["template"]["items"][0]["path"] = json!("q");
        live["template"]["command"] = json!(["/b"]);
        assert_eq!(fields(&wanted, &live), ["template.command[0]", "template.items[0].path"]);
    }

    #[test]
    fn elsewhere_an_entry_that_was_widened_is_a_change() {
        let wanted = json!({"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}});
        let live = json!({"spec": {"ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]}});
        assert_eq!(fields(&wanted, &live), ["spec.ingress"]);
    }

    #[test]
    fn an_empty_wish_is_fulfilled_by_absence() {
        assert_eq!(fields(&json!({"resources": {}, "list": []}), &json!({})), Vec::<String>::new());
    }

    #[test]
    fn at_most_eight_fields_are_named() {
        let wanted: Map<String, Value> = (0..20).map(|index| (format!("f{index}"), json!(1))).collect();
        assert_eq!(fields(&Value::Object(wanted), &json!({})).len(), MOST_FIELDS);
    }
}
