//! `Page`: what a `scan` answers: `{"entries":[{"key":"k","value":"v"}],"cursor":"..."}`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::text::{self, Base64};

/// A part of a scan. It may be empty and still not be the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, in no order.
    pub entries: Vec<Entry>,
    /// What the next request is to give as its cursor; `None` when the scan is complete.
    pub cursor: Option<String>,
}

/// One key that a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value, if values were asked for.
    pub value: Option<Vec<u8>>,
}

impl Page {
    /// The bytes of keys and values.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.key.len() + entry.value.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Appends the object.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"entries\":[");
        for (place, entry) in self.entries.iter().enumerate() {
            out.extend_from_slice(if place > 0 { b",{" } else { b"{" });
            text::write_field(out, "key", &entry.key);
            if let Some(value) = &entry.value {
                out.push(b',');
                text::write_field(out, "value", value);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"cursor\":");
        match &self.cursor {
            Some(cursor) => text::write_string(out, cursor),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
}

/// Reads a page whose first name has been read.
pub(super) fn read<'de, A: MapAccess<'de>>(first: &str, mut map: A) -> Result<Page, A::Error> {
    let (mut entries, mut cursor) = (None, None);
    let mut name = Some(first.to_owned());
    while let Some(known) = name {
        match known.as_str() {
            "entries" => entries = Some(map.next_value::<Vec<Entry>>()?),
            "cursor" => cursor = map.next_value::<Option<String>>()?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        name = map.next_key::<String>()?;
    }
    Ok(Page { entries: entries.ok_or_else(|| A::Error::missing_field("entries"))?, cursor })
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entry;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an entry with `key` (or `key64`)")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let (mut key, mut value) = (None, None);
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "key" => key = Some(map.next_value::<String>()?.into_bytes()),
                        "key64" => key = Some(map.next_value::<Base64>()?.0),
                        "value" => value = Some(map.next_value::<String>()?.into_bytes()),
                        "value64" => value = Some(map.next_value::<Base64>()?.0),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Entry { key: key.ok_or_else(|| A::Error::missing_field("key"))?, value })
            }
        }
        deserializer.deserialize_map(Object)
    }
}
