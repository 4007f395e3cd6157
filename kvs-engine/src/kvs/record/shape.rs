//! Reading records by their shape, without a parser: nearly every read of the store.
//!
//! Only for payloads whose checksum fits and which [`encode`](super::encode) wrote: the shape is trusted. What does
//! not have it is left to the parser, which accepts any JSON of the format.
//!
//! What must hold: what is read here is what the parser reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{AFTER_BATCH, BEFORE_BATCH, RecordError};

const BEFORE_SET: &[u8] = br#"{"set":{"#;
const BEFORE_REMOVAL: &[u8] = br#"{"rm":{"#;
/// Behind the last string of a set or of a removal.
const AFTER_SET: &[u8] = br#""}}"#;

/// A string of a record as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// As it is.
    Plain(&'a [u8]),
    /// With escapes of JSON.
    Escaped(&'a [u8]),
    /// In base64.
    Base64(&'a [u8]),
}

impl<'a> Text<'a> {
    fn new(raw: &'a [u8], base64: bool) -> Self {
        match memchr::memchr(b'\\', raw) {
            _ if base64 => Self::Base64(raw),
            None => Self::Plain(raw),
            Some(_) => Self::Escaped(raw),
        }
    }

    /// The bytes that it stands for.
    pub(crate) fn to_bytes(self) -> Result<Vec<u8>, RecordError> {
        match self {
            Self::Plain(raw) => Ok(raw.to_vec()),
            Self::Base64(raw) => Ok(BASE64.decode(raw)?),
            Self::Escaped(raw) => {
                let mut quoted = Vec::with_capacity(raw.len() + 2);
                quoted.push(b'"');
                quoted.extend_from_slice(raw);
                quoted.push(b'"');
                Ok(serde_json::from_slice::<String>(&quoted)?.into_bytes())
            }
        }
    }

    /// Whether it stands for these bytes.
    fn is(self, bytes: &[u8]) -> Result<bool, RecordError> {
        match self {
            Self::Plain(raw) => Ok(raw == bytes),
            Self::Base64(raw) if raw.len() != bytes.len().div_ceil(3) * 4 => Ok(false),
            other => Ok(other.to_bytes()? == bytes),
        }
    }
}

/// Key and value of a record that is one set; `None` when it has another shape.
pub(crate) fn set(payload: &[u8]) -> Option<(Text<'_>, Text<'_>)> {
    let rest = payload.strip_prefix(BEFORE_SET)?.strip_suffix(AFTER_SET)?;
    let (base64, rest) = field(rest, b"key")?;
    let key_bytes = end_of_text(rest)?;
    let (key, rest) = rest.split_at(key_bytes);
    let (value_base64, value) = field(rest.strip_prefix(br#"","#)?, b"value")?;
    Some((Text::new(key, base64), Text::new(value, value_base64)))
}

/// What stands behind a field's name and the quotation mark of its value, and whether that is base64.
fn field<'a>(rest: &'a [u8], name: &[u8]) -> Option<(bool, &'a [u8])> {
    let rest = rest.strip_prefix(b"\"")?.strip_prefix(name)?;
    match rest.strip_prefix(br#"":""#) {
        Some(value) => Some((false, value)),
        None => Some((true, rest.strip_prefix(br#"64":""#)?)),
    }
}

/// Where a string ends: at the first quotation mark that is not escaped.
pub(crate) fn end_of_text(rest: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let place = from + memchr::memchr2(b'"', b'\\', &rest[from..])?;
        if rest[place] == b'"' {
            return Some(place);
        }
        from = place + 2;
        if from > rest.len() {
            return None;
        }
    }
}

/// What a record says of one key, as far as its shape tells: see [`last_word`](super::last_word). The outer `None`:
/// ask the parser.
pub(crate) fn last_word<'a>(payload: &'a [u8], key: &[u8]) -> Option<Result<Word<'a>, RecordError>> {
    if let Some((found, value)) = set(payload) {
        return Some(found.is(key).map(|is| if is { Word::Set(value) } else { Word::Nothing }));
    }
    let batch = payload.strip_prefix(BEFORE_BATCH).and_then(|rest| rest.strip_suffix(AFTER_BATCH));
    let mut rest = batch.unwrap_or(payload);
    let mut word = Word::Nothing;
    loop {
        let found = element(rest)?;
        match found.key.is(key) {
            Ok(true) => word = found.value.map_or(Word::Removed, Word::Set),
            Ok(false) => {}
            Err(error) => return Some(Err(error)),
        }
        match rest[found.bytes..].split_first() {
            None => return Some(Ok(word)),
            Some((b',', more)) if batch.is_some() => rest = more,
            Some(_) => return None,
        }
    }
}

/// One mutation, alone or in a batch.
pub(super) struct Element<'a> {
    pub(super) key: Text<'a>,
    /// `None` for a removal.
    pub(super) value: Option<Text<'a>>,
    /// Bytes of its JSON.
    pub(super) bytes: usize,
}

/// The mutation that begins here; `None` when it has another shape.
pub(super) fn element(rest: &[u8]) -> Option<Element<'_>> {
    let (sets, body) = match rest.strip_prefix(BEFORE_SET) {
        Some(body) => (true, body),
        None => (false, rest.strip_prefix(BEFORE_REMOVAL)?),
    };
    let (base64, body) = field(body, b"key")?;
    let (key, mut behind) = body.split_at(end_of_text(body)?);
    let mut value = None;
    if sets {
        let (base64, body) = field(behind.strip_prefix(br#"","#)?, b"value")?;
        let (raw, rest) = body.split_at(end_of_text(body)?);
        (value, behind) = (Some(Text::new(raw, base64)), rest);
    }
    let end = behind.strip_prefix(AFTER_SET)?;
    Some(Element { key: Text::new(key, base64), value, bytes: rest.len() - end.len() })
}

/// What a record says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// It sets it.
    Set(Text<'a>),
    /// It removes it.
    Removed,
    /// It is about other keys.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode, join_batch};
    use super::*;
    use crate::operation::Mutation;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-c]{0,3}".prop_map(String::into_bytes),
            r#"["\\,:{}a\n]{0,6}"#.prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..6),
            Just(br#"","value":"x"}}"#.to_vec()),
            Just(br#"{"set":{"key":"a","value":"b"}}"#.to_vec()),
        ]
    }

    fn mutations() -> impl Strategy<Value = Mutation> {
        prop_oneof![
            (texts(), texts()).prop_map(|(key, value)| Mutation::Set { key, value }),
            texts().prop_map(|key| Mutation::Remove { key }),
        ]
    }

    /// What the parser says.
    fn parsed(payload: &[u8], key: &[u8]) -> Option<Option<Vec<u8>>> {
        let (elements, _) = decode(payload).unwrap();
        elements.into_iter().rev().find(|element| element.mutation.key() == key).map(|element| match element.mutation {
            Mutation::Set { value, .. } => Some(value),
            Mutation::Remove { .. } => None,
        })
    }

    proptest! {
        /// Shape and parser agree about every key, in records and in batches of them.
        #[test]
        fn the_shape_says_what_the_parser_says(batch in proptest::collection::vec(mutations(), 1..5), other in texts()) {
            let single = encode(&batch[0]);
            let joined = join_batch(&batch.iter().map(encode).collect::<Vec<_>>());
            for payload in [single, joined] {
                for key in batch.iter().map(Mutation::key).chain([&other[..]]) {
                    let word = match last_word(&payload, key) {
                        None => continue,
                        Some(word) => word.unwrap(),
                    };
                    let word = match word {
                        Word::Set(text) => Some(Some(text.to_bytes().unwrap())),
                        Word::Removed => Some(None),
                        Word::Nothing => None,
                    };
                    prop_assert_eq!(word, parsed(&payload, key));
                }
            }
        }
    }

    #[test]
    fn what_we_write_is_never_left_to_the_parser() {
        for (key, value) in [(&b"k"[..], &b"v"[..]), (b"\xff", b"\xfe"), (b"a\"b", b"{\"a\":1}"), (b"", b"")] {
            let set = Mutation::Set { key: key.to_vec(), value: value.to_vec() };
            let removal = Mutation::Remove { key: key.to_vec() };
            assert!(last_word(&encode(&set), key).is_some());
            assert!(last_word(&join_batch(&[encode(&set), encode(&set)]), key).is_some());
            assert!(matches!(last_word(&join_batch(&[encode(&removal)]), key), Some(Ok(Word::Removed))));
            assert!(matches!(last_word(&encode(&removal), key), Some(Ok(Word::Removed))));
        }
    }
}
