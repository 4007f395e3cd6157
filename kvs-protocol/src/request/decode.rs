//! How a request is read.
//!
//! What must hold:
//! * unknown, missing and repeated fields are refused, beside an `id` too;
//! * decoding is one pass into types, without a tree of JSON values, so its memory is bounded by the line's length;
//! * an error never repeats at length what a stranger sent: the answer to a long mistake is short;
//! * what is not a JSON object is [`ErrorCode::Malformed`] and ends the connection: a server that resynchronized on
//!   the next line could be driven by a web page that posts lines of JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::options::{Flag, Options, put};
use super::shape;
use super::{Change, Condition, Request, RequestId, Verb, VerbName};
use crate::error_code::ErrorCode;
use crate::limits::MAX_BATCH_CHANGES;
use crate::response::{Response, WireError};
use crate::text::Base64;

/// How many characters of an unknown word an error repeats.
const QUOTED_CHARACTERS: usize = 32;
/// A string that stands where none may stand. serde's own word for it repeats the string: up to a whole line, escaped.
/// So the visitors below are driven by `deserialize_any`, which asks them what they think of a string.
pub(super) const STRING: Unexpected<'static> = Unexpected::Other("string");

impl Request {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    /// The response to send instead: [`ErrorCode::Malformed`] (then close), [`ErrorCode::InvalidRequest`] or
    /// [`ErrorCode::UnknownVerb`], with the request's id where it could be read.
    pub fn decode(line: &[u8]) -> Result<Self, Response> {
        match shape::read(line) {
            Some(verb) => Ok(Self { verb, id: None }),
            None => Self::parse(line),
        }
    }

    /// Reads a line of any spelling.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Response> {
        let envelope: Envelope = serde_json::from_slice(line).map_err(|error| refusal_of(&error, line))?;
        let Envelope { verb, id, unknown, changes } = envelope;
        let error = match (verb, unknown) {
            (Some(_), None) if changes > MAX_BATCH_CHANGES => {
                let message = format!("batch of {changes} changes is larger than the limit of {MAX_BATCH_CHANGES}");
                WireError::new(ErrorCode::TooLarge, message)
            }
            (Some(verb), None) => return Ok(Self { verb, id }),
            (Some(_), Some(word)) => {
                WireError::new(ErrorCode::InvalidRequest, format!("unknown field {}", quoted(&word)))
            }
            (None, Some(word)) => {
                let message = format!("unknown verb {}; use one of {}", quoted(&word), verbs());
                WireError::new(ErrorCode::UnknownVerb, message)
            }
            (None, None) => {
                WireError::new(ErrorCode::InvalidRequest, format!("a request has no verb; use one of {}", verbs()))
            }
        };
        Err(Response { body: Err(error), id })
    }
}

/// The words of the verbs, as an error lists them.
fn verbs() -> String {
    VerbName::ALL.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What a line that could not be decoded is answered with.
fn refusal_of(error: &serde_json::Error, line: &[u8]) -> Response {
    if !error.is_data() {
        let message = format!("the line is no JSON object: {}; the connection is closed", cause_of(error));
        return Response { body: Err(WireError { code: ErrorCode::Malformed, message }), id: None };
    }
    // The slow path of a mistaken client: read the line again for its id alone.
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<RequestId>,
    }
    let object = line.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let code = if object { ErrorCode::InvalidRequest } else { ErrorCode::Malformed };
    let id = serde_json::from_slice::<OnlyId>(line).ok().and_then(|only| only.id);
    Response { body: Err(WireError { code, message: cause_of(error) }), id }
}

/// What is wrong and at which byte. serde_json counts lines and columns, but there is only one line.
fn cause_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())) {
        Some(cause) => format!("{cause}, at byte {}", error.column()),
        None => text,
    }
}

/// The beginning of a word that a stranger chose, escaped.
pub(super) fn quoted(word: &str) -> String {
    let beginning: String = word.chars().take(QUOTED_CHARACTERS).collect();
    format!("`{}`", beginning.escape_debug())
}

/// The names that can stand in a request's outer object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum OuterName {
    Ping,
    Auth,
    Get,
    Exists,
    Length,
    Set,
    Take,
    Rm,
    Batch,
    Scan,
    Count,
    Clear,
    Info,
    Backup,
    Id,
    Unknown(String),
}

/// A request's outer object, read but not yet judged.
struct Envelope {
    verb: Option<Verb>,
    id: Option<RequestId>,
    /// The first name that is neither a verb nor `id`.
    unknown: Option<String>,
    /// How many changes the batch has, if there is one; `verb` holds no more than the limit.
    changes: usize,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request object")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Envelope, E> {
        Err(E::invalid_type(STRING, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope { verb: None, id: None, unknown: None, changes: 0 };
        while let Some(name) = map.next_key::<OuterName>()? {
            let verb = match name {
                OuterName::Id => {
                    let id = map.next_value()?;
                    if envelope.id.replace(id).is_some() {
                        return Err(Error::duplicate_field("id"));
                    }
                    continue;
                }
                OuterName::Unknown(word) => {
                    map.next_value::<IgnoredAny>()?;
                    envelope.unknown.get_or_insert(word);
                    continue;
                }
                OuterName::Ping => map.next_value_seed(Body { fields: Fields::None }).map(|_| Verb::Ping)?,
                OuterName::Count => map.next_value_seed(Body { fields: Fields::None }).map(|_| Verb::Count)?,
                OuterName::Clear => map.next_value_seed(Body { fields: Fields::None }).map(|_| Verb::Clear)?,
                OuterName::Backup => map.next_value_seed(Body { fields: Fields::None }).map(|_| Verb::Backup)?,
                OuterName::Get => Verb::Get { key: map.next_value_seed(Body { fields: Fields::Key })?.key },
                OuterName::Exists => Verb::Exists { key: map.next_value_seed(Body { fields: Fields::Key })?.key },
                OuterName::Length => Verb::Length { key: map.next_value_seed(Body { fields: Fields::Key })?.key },
                OuterName::Take => Verb::Take { key: map.next_value_seed(Body { fields: Fields::Key })?.key },
                OuterName::Rm => Verb::Remove { key: map.next_value_seed(Body { fields: Fields::Key })?.key },
                OuterName::Set => match map.next_value_seed(Body { fields: Fields::KeyAndValue })? {
                    BodyRead { key, value, condition: None, old: None } => Verb::Set { key, value },
                    BodyRead { key, value, condition, old } => {
                        let condition = condition.unwrap_or(Condition::Always);
                        Verb::SetIf { key, value, condition, old: old.unwrap_or(false) }
                    }
                },
                OuterName::Scan => map.next_value_seed(Options::Scan)?,
                OuterName::Info => map.next_value_seed(Options::Info)?,
                OuterName::Auth => map.next_value_seed(Options::Auth)?,
                OuterName::Batch => {
                    let Changes { list, count } = map.next_value()?;
                    envelope.changes = count;
                    Verb::Batch(list)
                }
            };
            if envelope.verb.replace(verb).is_some() {
                return Err(Error::custom("a request has one verb, this one has more"));
            }
        }
        Ok(envelope)
    }
}

/// Which fields the object after a verb must have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    None,
    Key,
    KeyAndValue,
}

/// The names that can stand in the object after a verb.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum BodyName {
    Key,
    Key64,
    Value,
    Value64,
    If,
    Old,
    Unknown(String),
}

/// What stands in the object after a verb. Key and value stay empty where the verb has none.
struct BodyRead {
    key: Vec<u8>,
    value: Vec<u8>,
    condition: Option<Condition>,
    old: Option<bool>,
}

/// Reads the object after a verb.
#[derive(Clone, Copy)]
struct Body {
    fields: Fields,
}

impl<'de> DeserializeSeed<'de> for Body {
    type Value = BodyRead;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BodyRead, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Body {
    type Value = BodyRead;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.fields {
            Fields::None => "an empty object",
            Fields::Key => "an object with `key` (or `key64`)",
            Fields::KeyAndValue => "an object with `key` (or `key64`), `value` (or `value64`), `if` and `old`",
        })
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<BodyRead, E> {
        Err(E::invalid_type(STRING, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BodyRead, A::Error> {
        let (mut key, mut value, mut condition, mut old) = (None, None, None, None);
        while let Some(name) = map.next_key::<BodyName>()? {
            let (place, field) = match &name {
                BodyName::Key | BodyName::Key64 if self.fields != Fields::None => (&mut key, "key"),
                BodyName::Value | BodyName::Value64 if self.fields == Fields::KeyAndValue => (&mut value, "value"),
                BodyName::Key => return Err(self.unknown("key")),
                BodyName::Key64 => return Err(self.unknown("key64")),
                BodyName::Value => return Err(self.unknown("value")),
                BodyName::Value64 => return Err(self.unknown("value64")),
                BodyName::If if self.fields == Fields::KeyAndValue => {
                    put(&mut condition, map.next_value_seed(If)?, "if")?;
                    continue;
                }
                BodyName::Old if self.fields == Fields::KeyAndValue => {
                    put(&mut old, map.next_value_seed(Flag("old"))?, "old")?;
                    continue;
                }
                BodyName::If => return Err(self.unknown("if")),
                BodyName::Old => return Err(self.unknown("old")),
                BodyName::Unknown(word) => return Err(self.unknown(word)),
            };
            let bytes = match name {
                BodyName::Key64 | BodyName::Value64 => map.next_value::<Base64>()?.0,
                _ => map.next_value::<String>()?.into_bytes(),
            };
            put(place, bytes, field)?;
        }
        if key.is_none() && self.fields != Fields::None {
            return Err(Error::missing_field("key"));
        }
        if value.is_none() && self.fields == Fields::KeyAndValue {
            return Err(Error::missing_field("value"));
        }
        Ok(BodyRead { key: key.unwrap_or_default(), value: value.unwrap_or_default(), condition, old })
    }
}

impl Body {
    fn unknown<E: Error>(self, word: &str) -> E {
        E::custom(format_args!("unknown field {}, expected {}", quoted(word), Expected(self)))
    }
}

/// Reads the condition of a set.
struct If;

impl<'de> DeserializeSeed<'de> for If {
    type Value = Condition;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Condition, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for If {
    type Value = Condition;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`missing` or `present` for `if`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Condition, E> {
        match word {
            "missing" => Ok(Condition::Missing),
            "present" => Ok(Condition::Present),
            _ => Err(E::custom(format_args!("unknown condition {}; use `missing` or `present`", quoted(word)))),
        }
    }
}

/// What a [`Body`] expects, for an error.
struct Expected(Body);

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }
}

/// The array after `batch`. Changes over the limit are counted and not kept.
struct Changes {
    list: Vec<Change>,
    count: usize,
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Changes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of `{\"set\":{..}}` and `{\"rm\":{..}}`")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Changes, E> {
                Err(E::invalid_type(STRING, &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Changes, A::Error> {
                let mut list = Vec::new();
                while list.len() < MAX_BATCH_CHANGES {
                    let Some(envelope) = sequence.next_element::<Envelope>()? else {
                        return Ok(Changes { count: list.len(), list });
                    };
                    let change = match envelope {
                        Envelope { verb: Some(Verb::Set { key, value }), id: None, unknown: None, .. } => {
                            Change::Set { key, value }
                        }
                        Envelope { verb: Some(Verb::Remove { key }), id: None, unknown: None, .. } => {
                            Change::Remove { key }
                        }
                        _ => return Err(Error::custom("a change in a batch is `{\"set\":{..}}` or `{\"rm\":{..}}`")),
                    };
                    list.push(change);
                }
                let mut count = list.len();
                while sequence.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Changes { list, count })
            }
        }
        deserializer.deserialize_any(List)
    }
}
