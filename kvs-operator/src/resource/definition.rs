//! The custom resource definitions, as they are installed: what the derive gives, with the traces of Rust removed.
//!
//! What must hold: an explicit null means "absent" (nothing is nullable); status has no defaults, or each write of it
//! by another manager would be completed behind its back; the text is the same for the same types.

use kube::CustomResourceExt;
use serde_json::Value;

use super::{KvsBackup, KvsBackupSchedule, KvsStore};

/// The definitions of every kind of ours as YAML, ready to be applied.
///
/// # Panics
/// Never for the types of this crate: a test builds it.
#[must_use]
pub fn definitions_yaml() -> String {
    let definitions = [definition::<KvsStore>(), definition::<KvsBackup>(), definition::<KvsBackupSchedule>()];
    let texts = definitions.map(|definition| serde_yaml::to_string(&definition).expect("JSON always has a YAML form"));
    texts.join("---\n")
}

/// The definition of a kind as JSON.
pub(super) fn definition<K: CustomResourceExt>() -> Value {
    let mut value = serde_json::to_value(K::crd()).expect("a definition is made of maps and strings");
    value["metadata"]["labels"] = serde_json::json!({
        "app.kubernetes.io/name": "kvs-operator",
        "app.kubernetes.io/part-of": "aryavarth-kvs",
    });
    let schema = &mut value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    without_defaults(&mut schema["properties"]["status"]);
    value
}

/// Removes `nullable` and prints whole numbers as such.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), field.as_f64()) {
                    // schemars keeps bounds as floats; the API server prints 1, not 1.0.
                    #[expect(clippy::cast_possible_truncation, reason = "bounds in our types are small whole numbers")]
                    ("minimum" | "maximum", Some(bound)) if bound.fract() == 0.0 => *field = Value::from(bound as i64),
                    _ => tidy(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Removes every `default` of a schema.
fn without_defaults(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        // A property may be called `default`; then its value is a schema, which has a type.
        if fields.get("default").is_some_and(|default| default.get("type").is_none()) {
            fields.remove("default");
        }
        fields.values_mut().for_each(without_defaults);
    } else if let Value::Array(items) = schema {
        items.iter_mut().for_each(without_defaults);
    }
}
