//! The JSON inside a line: `{"set":…}`, `{"rm":…}`, `{"batch":[…]}`.
//!
//! Keys and values are bytes: JSON strings (`key`, `value`) where they are UTF-8, base64 (`key64`, `value64`) where
//! they are not. Written by serde_json, whose strings never hold a raw newline.
//!
//! What must hold: what [`plain_set`] reads without a parser is what the parser reads.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::log::frame::OVERHEAD_BYTES;
use crate::operation::Mutation;

const BEFORE_BATCH: &[u8] = br#"{"batch":["#;
const AFTER_BATCH: &[u8] = b"]}";
/// Bytes of a batch's line that are no element and no comma behind one: the frame, the array, less the comma that the
/// last element does not have.
const BATCH_OVERHEAD_BYTES: usize = OVERHEAD_BYTES + BEFORE_BATCH.len() + AFTER_BATCH.len() - 1;

/// One mutation as it is written.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Written<'a> {
    Set(SetBody<'a>),
    Rm(KeyBody<'a>),
}

#[derive(Serialize)]
struct SetBody<'a> {
    #[serde(flatten)]
    key: KeyBody<'a>,
    #[serde(flatten)]
    value: ValueBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum KeyBody<'a> {
    Key(&'a str),
    Key64(String),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ValueBody<'a> {
    Value(&'a str),
    Value64(String),
}

impl<'a> KeyBody<'a> {
    fn new(key: &'a [u8]) -> Self {
        std::str::from_utf8(key).map_or_else(|_| Self::Key64(BASE64.encode(key)), Self::Key)
    }
}

impl<'a> ValueBody<'a> {
    fn new(value: &'a [u8]) -> Self {
        std::str::from_utf8(value).map_or_else(|_| Self::Value64(BASE64.encode(value)), Self::Value)
    }
}

fn written(mutation: &Mutation) -> Written<'_> {
    match mutation {
        Mutation::Set { key, value } => Written::Set(SetBody { key: KeyBody::new(key), value: ValueBody::new(value) }),
        Mutation::Remove { key } => Written::Rm(KeyBody::new(key)),
    }
}

/// The record of one mutation.
pub(crate) fn encode(mutation: &Mutation) -> Vec<u8> {
    serde_json::to_vec(&written(mutation)).expect("strings always have a JSON form")
}

/// The record of mutations that take effect together, from the records of each.
pub(crate) fn join_batch(elements: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut payload = BEFORE_BATCH.to_vec();
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            payload.push(b',');
        }
        payload.extend_from_slice(element.as_ref());
    }
    payload.extend_from_slice(AFTER_BATCH);
    payload
}

/// What one element of a batch counts for, in bytes: its JSON, its comma, and its share of what belongs to no element.
/// `sharing` are the elements whose end is the end of the line: a line of live elements then has no dead bytes.
pub(crate) fn bytes_in_batch(json_bytes: usize, sharing: usize) -> u64 {
    (json_bytes + 1 + BATCH_OVERHEAD_BYTES.div_ceil(sharing.max(1))) as u64
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Read<'a> {
    Set(SetFields),
    Rm(KeyFields),
    #[serde(borrow)]
    Batch(Vec<&'a RawValue>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFields {
    key: Option<String>,
    key64: Option<String>,
    value: Option<String>,
    value64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFields {
    key: Option<String>,
    key64: Option<String>,
}

/// Why the payload of an intact line is no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record is no JSON of this format: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the record's base64 is damaged: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("the record has no key or no value, or two of one")]
    Fields,
    #[error("the record has a batch inside a batch")]
    Nested,
}

/// One mutation of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// What it changes.
    pub(crate) mutation: Mutation,
    /// Its JSON: the whole payload, or its part of a batch.
    pub(crate) json: &'a str,
}

/// The mutations of a record in order, and whether they are a batch.
pub(crate) fn decode(payload: &[u8]) -> Result<(Vec<Element<'_>>, bool), RecordError> {
    if let Some((key, value)) = plain_set(payload) {
        let mutation = Mutation::Set { key: key.to_vec(), value: value.to_vec() };
        let json = std::str::from_utf8(payload).map_err(|_| RecordError::Fields)?;
        return Ok((vec![Element { mutation, json }], false));
    }
    match serde_json::from_slice(payload)? {
        Read::Batch(elements) => {
            let elements =
                elements.into_iter().map(|element| decode_element(element.get())).collect::<Result<_, _>>()?;
            Ok((elements, true))
        }
        single => {
            let json = std::str::from_utf8(payload).map_err(|_| RecordError::Fields)?;
            Ok((vec![Element { mutation: mutation_of(single)?, json }], false))
        }
    }
}

fn decode_element(json: &str) -> Result<Element<'_>, RecordError> {
    Ok(Element { mutation: mutation_of(serde_json::from_str(json)?)?, json })
}

fn mutation_of(read: Read<'_>) -> Result<Mutation, RecordError> {
    match read {
        Read::Set(SetFields { key, key64, value, value64 }) => {
            Ok(Mutation::Set { key: bytes_of(key, key64)?, value: bytes_of(value, value64)? })
        }
        Read::Rm(KeyFields { key, key64 }) => Ok(Mutation::Remove { key: bytes_of(key, key64)? }),
        Read::Batch(_) => Err(RecordError::Nested),
    }
}

fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, RecordError> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => Ok(BASE64.decode(base64)?),
        _ => Err(RecordError::Fields),
    }
}

/// The elements that decide: of several about one key the last one. In no order.
pub(crate) fn last_of_each_key<'e, 'a>(elements: &'e [Element<'a>]) -> Vec<&'e Element<'a>> {
    let last: HashMap<&[u8], &Element<'_>> = elements.iter().map(|element| (element.mutation.key(), element)).collect();
    last.into_values().collect()
}

/// Key and value of a set whose strings hold no escape, without a parser: nearly every record. Only for payloads whose
/// checksum fits, because it trusts the shape that [`encode`] writes.
pub(crate) fn plain_set(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    const BEFORE_KEY: &[u8] = br#"{"set":{"key":""#;
    const BEFORE_VALUE: &[u8] = br#"","value":""#;
    const AFTER_VALUE: &[u8] = br#""}}"#;
    let rest = payload.strip_prefix(BEFORE_KEY)?.strip_suffix(AFTER_VALUE)?;
    if rest.contains(&b'\\') {
        return None;
    }
    let key_bytes = rest.iter().position(|byte| *byte == b'"')?;
    let value = rest[key_bytes..].strip_prefix(BEFORE_VALUE)?;
    Some((&rest[..key_bytes], value))
}

/// Whether a record says anything of one key. Copies no value.
pub(crate) fn is_about(payload: &[u8], key: &[u8]) -> Result<bool, RecordError> {
    match plain_set(payload) {
        Some((found, _)) => Ok(found == key),
        None => Ok(decode(payload)?.0.iter().any(|element| element.mutation.key() == key)),
    }
}

/// What a record says of one key: `Some(Some(value))` when its last word is a set, `Some(None)` when it is a removal,
/// `None` when the record is about other keys.
pub(crate) fn last_word(payload: &[u8], key: &[u8]) -> Result<Option<Option<Vec<u8>>>, RecordError> {
    if let Some((found, value)) = plain_set(payload) {
        return Ok((found == key).then(|| Some(value.to_vec())));
    }
    let (elements, _) = decode(payload)?;
    Ok(elements.into_iter().rev().find(|element| element.mutation.key() == key).map(|element| match element.mutation {
        Mutation::Set { value, .. } => Some(value),
        Mutation::Remove { .. } => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(key: &[u8], value: &[u8]) -> Mutation {
        Mutation::Set { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn records_are_what_the_format_document_shows() {
        assert_eq!(encode(&set(b"k", b"v")), br#"{"set":{"key":"k","value":"v"}}"#);
        assert_eq!(encode(&Mutation::Remove { key: b"k".to_vec() }), br#"{"rm":{"key":"k"}}"#);
        assert_eq!(encode(&set(b"\xff", b"a\nb")), br#"{"set":{"key64":"/w==","value":"a\nb"}}"#);
        let batch = join_batch(&[encode(&set(b"a", b"1")), encode(&Mutation::Remove { key: b"b".to_vec() })]);
        assert_eq!(batch, br#"{"batch":[{"set":{"key":"a","value":"1"}},{"rm":{"key":"b"}}]}"#);
    }

    #[test]
    fn elements_of_a_batch_can_be_joined_again() {
        let mutations = [set(b"a", b"1"), set(b"b", b"\\\"")];
        let payload = join_batch(&mutations.each_ref().map(encode));
        let (elements, batch) = decode(&payload).unwrap();
        assert!(batch);
        let joined = join_batch(&elements.iter().map(|element| element.json).collect::<Vec<_>>());
        assert_eq!(joined, payload);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for payload in [
            r#"{"set":{"key":"a"}}"#,
            r#"{"set":{"key":"a","key64":"YQ==","value":""}}"#,
            r#"{"set":{"key":"a","value":"b","more":1}}"#,
            r#"{"batch":[{"batch":[]}]}"#,
            r#"{"rm":{"key64":"!"}}"#,
            "[]",
        ] {
            assert!(decode(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn every_mutation_comes_back(key in any::<Vec<u8>>(), value in any::<Vec<u8>>(), text in ".*") {
            for mutation in [set(&key, &value), set(text.as_bytes(), &value), set(&key, text.as_bytes()),
                             set(text.as_bytes(), text.as_bytes()), Mutation::Remove { key: key.clone() }] {
                let payload = encode(&mutation);
                prop_assert!(!payload.contains(&b'\n'));
                let (elements, batch) = decode(&payload).unwrap();
                prop_assert!(!batch);
                prop_assert_eq!(&elements[0].mutation, &mutation);
                if let Some((plain_key, plain_value)) = plain_set(&payload) {
                    prop_assert_eq!(set(plain_key, plain_value), mutation);
                }
            }
        }
    }
}
