//! The schema of chart kvs-store's values: the definition's own spec, so that the chart can't fall behind it.
//!
//! What must hold: an unknown field is refused wherever the definition names fields; `global` stays open and `enabled`
//! is known, or no other chart could depend on this one.

use serde_json::{Value, json};

use super::definition::definition;

/// The schema as JSON, with a line break at its end.
///
/// # Panics
/// Never for the types of this crate: a test builds it.
#[must_use]
pub fn store_values_schema() -> String {
    let mut definition = definition();
    let spec =
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].take();
    let Value::Object(mut properties) = spec else { panic!("a spec has fields") };
    properties.values_mut().for_each(plain);
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let own = [
        (
            "global",
            json!({"type": "object", "description": "Shared with every chart of the release, so it may hold what other charts read."}),
        ),
        (
            "enabled",
            json!({"type": "boolean", "description": "For charts that have this one as a dependency with a condition."}),
        ),
        (
            "name",
            json!({"type": "string", "maxLength": 48, "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$", "description": "The store's name; empty means the release's."}),
        ),
        ("labels", labels.clone()),
        ("annotations", labels),
        ("test", test_schema()),
    ];
    properties.extend(own.map(|(name, schema)| (name.to_owned(), schema)));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of kvs-store",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON already");
    text.push('\n');
    text
}

/// What `helm test` needs.
fn test_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {"image": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "registry": {"type": "string"},
                "repository": {"type": "string", "minLength": 1},
                "tag": {"type": "string", "maxLength": 128},
                "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]}
            }
        }}
    })
}

/// Turns a structural schema of Kubernetes into a plain one.
fn plain(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.insert("type".into(), json!(["integer", "string"]));
    }
    fields.retain(|name, _| !name.starts_with("x-kubernetes-") && name != "format" && name != "default");
    if fields.contains_key("properties") {
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(plain);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(nested) {
            plain(schema);
        }
    }
}
