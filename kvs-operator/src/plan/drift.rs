//! Which of the fields that we set have another value in the live object.
//!
//! What must hold: what we do not set is not looked at; lists that Kubernetes keys (containers by name, ports by
//! number) are compared by key, so that another manager's entry among ours is left alone; two spellings of one quantity
//! are equal. What we set empty is equal to what is absent, because the API server drops it.

use serde_json::{Map, Value};

use crate::quantity::Amount;

/// Paths of the fields that differ, such as `spec.template.spec.containers[kvs-server].image`, at most [`MOST_FIELDS`].
pub(super) fn fields(wanted: &Value, live: &Value) -> Vec<String> {
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
            // A list without keys belongs to one manager as a whole.
            if wanted != live {
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

    /// Quantities stand below `requests` and `limits`.
    fn is_same_quantity(&self, wanted: &Value, live: &Value) -> bool {
        let parent = self.path.len().checked_sub(2).and_then(|index| self.path.get(index));
        if !parent.is_some_and(|parent| parent == "requests" || parent == "limits") {
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
pub(super) fn list_keys(list: &str, entries: &[Value]) -> Option<&'static [&'static str]> {
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
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        let wanted = json!({"requests": {"memory": "1024Mi", "cpu": "0.5"}, "data": {"size": "1024Mi"}});
        let live = json!({"requests": {"memory": "1Gi", "cpu": "500m"}, "data": {"size": "1Gi"}});
        assert_eq!(fields(&wanted, &live), ["data.size"]);
    }

    #[test]
    fn a_list_without_keys_is_compared_whole() {
        let wanted = json!({"drop": ["ALL"], "command": ["/a", "b"]});
        assert_eq!(fields(&wanted, &json!({"drop": ["ALL", "x"], "command": ["/a", "b"]})), ["drop"]);
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
