//! `Info`: what a server tells of itself: sections with figures and words.

use std::collections::BTreeMap;

use serde::de::MapAccess;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sections by name, each with its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Info {
    /// The sections. Servers may add some, and fields to each.
    pub sections: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Info {
    /// One field of one section.
    #[must_use]
    pub fn get(&self, section: &str, field: &str) -> Option<&Value> {
        self.sections.get(section)?.get(field)
    }

    /// About what it takes as text, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let fields = self.sections.iter().flat_map(|(name, fields)| {
            let fields = fields.iter().map(|(field, value)| field.len() + value_bytes(value) + PUNCTUATION_BYTES);
            fields.chain([name.len() + PUNCTUATION_BYTES])
        });
        fields.sum()
    }
}

/// What a field has around its name and value, in bytes.
const PUNCTUATION_BYTES: usize = 4;
/// What a number may take as text, in bytes.
const NUMBER_BYTES: usize = 20;

/// About what a value takes as text, in bytes. As deep as a server's own answers are.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => NUMBER_BYTES,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| value_bytes(value) + PUNCTUATION_BYTES).sum(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() + value_bytes(value) + PUNCTUATION_BYTES).sum()
        }
    }
}

/// Reads the sections after the name of the first one.
pub(super) fn read<'de, A: MapAccess<'de>>(first: String, mut map: A) -> Result<Info, A::Error> {
    let mut sections = BTreeMap::new();
    let mut name = Some(first);
    while let Some(known) = name {
        sections.insert(known, map.next_value()?);
        name = map.next_key::<String>()?;
    }
    Ok(Info { sections })
}
