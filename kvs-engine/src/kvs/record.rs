//! The JSON inside a line: `{"set":…}`, `{"rm":…}`, `{"batch":[…]}`.
//!
//! Keys and values are bytes: JSON strings (`key`, `value`) where they are UTF-8, base64 (`key64`, `value64`) where
//! they are not. Written by serde_json, whose strings never hold a raw newline.
//!
//! This file writes and parses them; [`shape`] reads them without a parser.

mod parts;
pub(crate) mod shape;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::limits::MAX_BATCH_OPERATIONS;
use crate::log::frame::OVERHEAD_BYTES;
use crate::log::group;
use crate::operation::Mutation;
pub(crate) use parts::{Part, Parts, key_of_set, parts};

/// Bytes of a record that are neither key nor value, with room for a few escapes.
const ROOM_BYTES: usize = 48;
const BEFORE_BATCH: &[u8] = br#"{"batch":["#;
const AFTER_BATCH: &[u8] = b"]}";
/// Bytes of a batch's line that are no element and no comma behind one: the frame, the array, less the comma that the
/// last element does not have.
const BATCH_OVERHEAD_BYTES: usize = OVERHEAD_BYTES + BEFORE_BATCH.len() + AFTER_BATCH.len() - 1;

/// The record of one mutation.
pub(crate) fn encode(mutation: &Mutation) -> Vec<u8> {
    // Keys and values that are base64 take four bytes for three.
    let bytes = match mutation {
        Mutation::Set { key, value } => key.len() + value.len() / 3 * 4,
        Mutation::Remove { key } => key.len(),
    };
    let mut payload = Vec::with_capacity(bytes + ROOM_BYTES);
    match mutation {
        Mutation::Set { key, value } => {
            payload.extend_from_slice(br#"{"set":{"#);
            append_key(&mut payload, key);
            payload.push(b',');
            append_field(&mut payload, "value", value);
        }
        Mutation::Remove { key } => {
            payload.extend_from_slice(br#"{"rm":{"#);
            append_key(&mut payload, key);
        }
    }
    payload.extend_from_slice(b"}}");
    payload
}

/// The field of a key.
fn append_key(payload: &mut Vec<u8>, key: &[u8]) {
    append_field(payload, "key", key);
}

/// A field whose value is a JSON string where the bytes are UTF-8, else base64 under the same name with `64`.
pub(crate) fn append_field(payload: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    payload.push(b'"');
    payload.extend_from_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            payload.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *payload, text).expect("a string has a JSON form, and memory takes it");
        }
        Err(_) => {
            payload.extend_from_slice(b"64\":\"");
            let start = payload.len();
            payload.resize(start + bytes.len().div_ceil(3) * 4, 0);
            BASE64.encode_slice(bytes, &mut payload[start..]).expect("there is room for four bytes for three");
            payload.push(b'"');
        }
    }
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
    #[error("the record has more mutations than a batch can have")]
    Long,
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
    match serde_json::from_slice(payload)? {
        Read::Batch(elements) if elements.len() > MAX_BATCH_OPERATIONS => Err(RecordError::Long),
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

/// Whether the payload of an intact line is a record, or the announcement of a group of them.
///
/// # Errors
/// Why it is none.
pub(crate) fn check(payload: &[u8]) -> Result<(), RecordError> {
    if group::announced(payload).is_some() {
        return Ok(());
    }
    match shape::set(payload) {
        Some((key, value)) => key.to_bytes().and_then(|_| value.to_bytes()).map(drop),
        None => decode(payload).map(drop),
    }
}

/// Whether a record says anything of one key. Copies no value.
pub(crate) fn is_about(payload: &[u8], key: &[u8]) -> Result<bool, RecordError> {
    match shape::last_word(payload, key) {
        Some(word) => Ok(word? != shape::Word::Nothing),
        None => Ok(decode(payload)?.0.iter().any(|element| element.mutation.key() == key)),
    }
}

/// What a record says of one key: `Some(Some(value))` when its last word is a set, `Some(None)` when it is a removal,
/// `None` when the record is about other keys.
pub(crate) fn last_word(payload: &[u8], key: &[u8]) -> Result<Option<Option<Vec<u8>>>, RecordError> {
    match shape::last_word(payload, key) {
        Some(word) => match word? {
            shape::Word::Set(value) => Ok(Some(Some(value.to_bytes()?))),
            shape::Word::Removed => Ok(Some(None)),
            shape::Word::Nothing => Ok(None),
        },
        None => {
            let (elements, _) = decode(payload)?;
            let last = elements.into_iter().rev().find(|element| element.mutation.key() == key);
            Ok(last.map(|element| match element.mutation {
                Mutation::Set { value, .. } => Some(value),
                Mutation::Remove { .. } => None,
            }))
        }
    }
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
        let removals = |count| join_batch(&vec![r#"{"rm":{"key":"a"}}"#; count]);
        assert!(decode(&removals(MAX_BATCH_OPERATIONS)).is_ok());
        assert!(matches!(decode(&removals(MAX_BATCH_OPERATIONS + 1)), Err(RecordError::Long)));
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
                if let Some((key, value)) = shape::set(&payload) {
                    prop_assert_eq!(set(&key.to_bytes().unwrap(), &value.to_bytes().unwrap()), mutation);
                }
            }
        }
    }
}
