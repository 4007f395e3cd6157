//! The schema of chart kvs-store's values: the definition's own spec, so that the chart can't fall behind it.
//!
//! What must hold: an unknown field is refused wherever the definition names fields; `global` stays open and `enabled`
//! is known, or no other chart could depend on this one; it refuses nothing that the API server and the operator accept.

use serde_json::{Map, Value, json};

use super::KvsStore;
use super::definition::definition;

/// The other chart's schema, which holds the shapes that both charts know, such as labels and quantities.
const OPERATOR_CHART: &str = include_str!("../../../charts/kvs-operator/values.schema.json");

/// Fields of the spec whose words have a shape that the definition leaves to CEL, to the API server's judgement of
/// children or to the operator: the end of the field's path, and the name of the shape.
const SHAPES: [(&str, &str); 26] = [
    ("affinity", "affinity"),
    ("tolerations", "tolerations"),
    ("nodeSelector", "labels"),
    ("podSelector", "labelSelector"),
    ("namespaceSelector", "labelSelector"),
    ("labelSelector", "labelSelector"),
    ("labels", "labels"),
    ("annotations", "annotations"),
    ("topologyKey", "labelKey"),
    ("matchLabelKeys/items", "labelKey"),
    ("storage/size", "bytes"),
    ("compactionThreshold", "bytes"),
    ("cacheCapacity", "bytes"),
    ("requests", "quantities"),
    ("limits", "quantities"),
    ("cidr", "addressBlock"),
    ("except/items", "addressBlock"),
    ("loadBalancerSourceRanges/items", "addressBlock"),
    ("spec/image", "imageName"),
    ("imagePullSecrets", "pullSecrets"),
    ("secretName", "objectName"),
    ("tokenSecretRef/name", "objectName"),
    ("issuerRef/name", "objectName"),
    ("issuerRef/group", "objectName"),
    ("storageClassName", "objectName"),
    ("priorityClassName", "objectName"),
];

/// The schema as JSON, with a line break at its end.
///
/// # Panics
/// Never for the types of this crate: a test builds it.
#[must_use]
pub fn store_values_schema() -> String {
    let mut definition = definition::<KvsStore>();
    let spec =
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].take();
    let Value::Object(mut properties) = spec else { panic!("a spec has fields") };
    for (name, property) in &mut properties {
        plain(&format!("spec/{name}"), property);
        // The chart leaves out a field that is empty, so an empty one lacks nothing; of others the API server judges.
        if let Some(property) = property.as_object_mut() {
            property.remove("required");
        }
    }
    // What a rule of the definition says, which the plain schema has no word for.
    properties["replicas"]["minimum"] = json!(1);
    properties["replicas"]["maximum"] = json!(1);
    let own = [
        ("global", shape("global")),
        (
            "enabled",
            json!({"type": "boolean", "description": "For charts that have this one as a dependency with a condition."}),
        ),
        ("name", json!({"type": "string", "maxLength": 48, "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"})),
        ("labels", shape("labels")),
        ("annotations", shape("annotations")),
        ("test", json!({"type": "object", "additionalProperties": false, "properties": {"image": shape("image")}})),
    ];
    properties.extend(own.map(|(name, schema)| (name.to_owned(), schema)));
    let operator_chart: Value = serde_json::from_str(OPERATOR_CHART).expect("the chart's schema is JSON");
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of kvs-store",
        "type": "object",
        "additionalProperties": false,
        "definitions": operator_chart["definitions"],
        "properties": properties,
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON already");
    text.push('\n');
    text
}

/// A reference to a shape that both charts know.
fn shape(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

/// Turns the structural schema of the field at that path into a plain one.
fn plain(path: &str, schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if let Some((_, name)) = SHAPES.iter().find(|(end, _)| path.ends_with(end)) {
        let mut reference = Map::new();
        reference.extend(fields.remove("description").map(|text| ("description".to_owned(), text)));
        reference.insert("$ref".into(), json!(format!("#/definitions/{name}")));
        *fields = reference;
        return;
    }
    if fields.get("format").is_some_and(|format| format == "int32") {
        fields.entry("maximum").or_insert_with(|| json!(i32::MAX));
    }
    fields.retain(|name, _| !name.starts_with("x-kubernetes-") && name != "format" && name != "default");
    if fields.contains_key("properties") {
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (name, property) in properties {
            plain(&format!("{path}/{name}"), property);
        }
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(nested) {
            plain(&format!("{path}/{nested}"), schema);
        }
    }
}
