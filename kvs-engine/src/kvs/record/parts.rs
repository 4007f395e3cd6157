//! The mutations of a record that decide: of several about one key the last. For whoever goes through the log.

use std::borrow::Cow;
use std::collections::HashSet;

use super::shape::{self, Element, Text};
use super::{AFTER_BATCH, BEFORE_BATCH, RecordError};
use crate::operation::Mutation;

/// A mutation of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// What it changes.
    pub(crate) key: Cow<'a, [u8]>,
    /// Whether it sets it; else it removes it.
    pub(crate) sets: bool,
    /// Its JSON: the whole payload, or its part of a batch.
    pub(crate) json: &'a [u8],
}

/// The mutations that decide.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// In the order of the record, each key once.
    pub(crate) parts: Vec<Part<'a>>,
    /// Whether the record is a batch.
    pub(crate) batch: bool,
    /// Whether the record holds nothing else.
    pub(crate) whole: bool,
}

/// The mutations of a record that decide.
///
/// # Errors
/// The payload is no record.
pub(crate) fn parts(payload: &[u8]) -> Result<Parts<'_>, RecordError> {
    if let Some((key, _)) = shape::set(payload) {
        let parts = vec![Part { key: bytes_of(key)?, sets: true, json: payload }];
        return Ok(Parts { parts, batch: false, whole: true });
    }
    if let Some(parts) = by_shape(payload)? {
        return Ok(Parts { parts, batch: true, whole: true });
    }
    let (elements, batch) = super::decode(payload)?;
    let count = elements.len();
    let mut seen = HashSet::new();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for element in elements.into_iter().rev() {
        let sets = matches!(element.mutation, Mutation::Set { .. });
        let (Mutation::Set { key, .. } | Mutation::Remove { key }) = element.mutation;
        if seen.insert(key.clone()) {
            parts.push(Part { key: Cow::Owned(key), sets, json: element.json.as_bytes() });
        }
    }
    parts.reverse();
    let whole = parts.len() == count;
    Ok(Parts { parts, batch, whole })
}

/// The key of a record that is one set of our shape.
pub(crate) fn key_of_set(payload: &[u8]) -> Option<Cow<'_, [u8]>> {
    bytes_of(shape::set(payload)?.0).ok()
}

/// The mutations of a batch of our shape, if no key is there twice.
fn by_shape(payload: &[u8]) -> Result<Option<Vec<Part<'_>>>, RecordError> {
    let Some(mut rest) = payload.strip_prefix(BEFORE_BATCH).and_then(|rest| rest.strip_suffix(AFTER_BATCH)) else {
        return Ok(None);
    };
    let mut parts: Vec<Part<'_>> = Vec::new();
    loop {
        let Some(Element { key, value, bytes }) = shape::element(rest) else { return Ok(None) };
        let part = Part { key: bytes_of(key)?, sets: value.is_some(), json: &rest[..bytes] };
        // Few: a line of a batch is short, and long ones of older versions are left to the parser.
        if parts.len() == MAX_COMPARED || parts.iter().any(|other| other.key == part.key) {
            return Ok(None);
        }
        parts.push(part);
        match rest[bytes..].split_first() {
            None => return Ok(Some(parts)),
            Some((b',', more)) => rest = more,
            Some(_) => return Ok(None),
        }
    }
}

/// The most mutations of which each is compared with each other.
const MAX_COMPARED: usize = 128;

fn bytes_of(text: Text<'_>) -> Result<Cow<'_, [u8]>, RecordError> {
    match text {
        Text::Plain(raw) => Ok(Cow::Borrowed(raw)),
        other => other.to_bytes().map(Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{encode, join_batch};
    use super::*;
    use proptest::prelude::*;

    fn mutations() -> impl Strategy<Value = Mutation> {
        let bytes = || proptest::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'a'), any::<u8>()], 0..3);
        prop_oneof![
            (bytes(), bytes()).prop_map(|(key, value)| Mutation::Set { key, value }),
            bytes().prop_map(|key| Mutation::Remove { key }),
        ]
    }

    proptest! {
        /// Each key is there once, with its last mutation, and the JSON of the parts makes the record again.
        #[test]
        fn the_last_mutation_of_each_key_is_a_part(batch in proptest::collection::vec(mutations(), 1..8)) {
            let payload = join_batch(&batch.iter().map(encode).collect::<Vec<_>>());
            let found = parts(&payload).unwrap();
            let mut seen = HashSet::new();
            let mut wanted: Vec<&Mutation> = batch.iter().rev().filter(|one| seen.insert(one.key().to_vec())).collect();
            wanted.reverse();
            prop_assert!(found.batch);
            prop_assert_eq!(found.whole, wanted.len() == batch.len());
            prop_assert_eq!(found.parts.len(), wanted.len());
            for (part, mutation) in found.parts.iter().zip(wanted) {
                prop_assert_eq!(&*part.key, mutation.key());
                prop_assert_eq!(part.sets, matches!(mutation, Mutation::Set { .. }));
                prop_assert_eq!(part.json, &encode(mutation)[..]);
            }
        }

        #[test]
        fn a_single_mutation_is_one_part(mutation in mutations()) {
            let payload = encode(&mutation);
            let found = parts(&payload).unwrap();
            prop_assert!(!found.batch && found.whole);
            prop_assert_eq!(&*found.parts[0].key, mutation.key());
            prop_assert_eq!(found.parts[0].json, &payload[..]);
        }
    }
}
