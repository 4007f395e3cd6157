//! `Request`: one line from client to server, such as `{"set":{"key":"k","value":"v"},"id":7}`.
//!
//! What must hold:
//! * one verb a request; unknown, missing and repeated fields are refused, beside an `id` too;
//! * decoding is one pass into types, without a tree of JSON values, so its memory is bounded by the line's length;
//! * what is not a JSON object is [`ErrorCode::Malformed`] and ends the connection: a server that resynchronized on
//!   the next line could be driven by a web page that posts lines of JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::error_code::ErrorCode;
use crate::limits::MAX_ID_BYTES;
use crate::response::{Response, WireError};
use crate::text::{self, Base64};

/// What a client asks, with the id that the response echoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// Echoed in the response; `None` sends none.
    pub id: Option<RequestId>,
}

/// What can be asked. Keys and values are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Answers `"pong"`, in its turn.
    Ping,
    /// The value of a key, or null.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// Whether a key has a value.
    Exists {
        /// The key.
        key: Vec<u8>,
    },
    /// Stores a value, over an older one if there is one.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key that must be there.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// Applies all changes in order or, after a crash, none.
    Batch(Vec<Change>),
}

/// One change of a batch. Removing a key that is not there is no error in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores a value.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
}

/// What a client calls a request: a whole number from 0 to 2^64 - 1, or text of at most
/// [`MAX_ID_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
}

/// The words of the verbs, as an error lists them.
const VERBS: &str = "`ping`, `get`, `exists`, `set`, `rm`, `batch`";
/// How many characters of an unknown word an error repeats.
const QUOTED_CHARACTERS: usize = 32;

impl From<Verb> for Request {
    fn from(verb: Verb) -> Self {
        Self { verb, id: None }
    }
}

impl Request {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    /// The response to send instead: [`ErrorCode::Malformed`] (then close), [`ErrorCode::InvalidRequest`] or
    /// [`ErrorCode::UnknownVerb`], with the request's id where it could be read.
    pub fn decode(line: &[u8]) -> Result<Self, Response> {
        let envelope: Envelope = serde_json::from_slice(line).map_err(|error| refusal_of(&error, line))?;
        let Envelope { verb, id, unknown } = envelope;
        let refuse = |code, message: String| Response { body: Err(WireError { code, message }), id: None };
        match (verb, unknown) {
            (Some(verb), None) => Ok(Self { verb, id }),
            (Some(_), Some(word)) => {
                Err(Response { id, ..refuse(ErrorCode::InvalidRequest, format!("unknown field {}", quoted(&word))) })
            }
            (None, Some(word)) => Err(Response {
                id,
                ..refuse(ErrorCode::UnknownVerb, format!("unknown verb {}; use one of {VERBS}", quoted(&word)))
            }),
            (None, None) => Err(Response {
                id,
                ..refuse(ErrorCode::InvalidRequest, format!("a request has no verb; use one of {VERBS}"))
            }),
        }
    }

    /// Appends the request as one line with its line end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.verb {
            Verb::Ping => out.extend_from_slice(b"{\"ping\":{}"),
            Verb::Get { key } => write_body(out, "get", key, None),
            Verb::Exists { key } => write_body(out, "exists", key, None),
            Verb::Set { key, value } => write_body(out, "set", key, Some(value)),
            Verb::Remove { key } => write_body(out, "rm", key, None),
            Verb::Batch(changes) => {
                out.extend_from_slice(b"{\"batch\":[");
                for (position, change) in changes.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    match change {
                        Change::Set { key, value } => write_body(out, "set", key, Some(value)),
                        Change::Remove { key } => write_body(out, "rm", key, None),
                    }
                    out.push(b'}');
                }
                out.push(b']');
            }
        }
        write_id(out, self.id.as_ref());
        out.extend_from_slice(b"}\n");
    }
}

/// Appends `{"verb":{"key":..,"value":..}` and leaves the outer object open.
fn write_body(out: &mut Vec<u8>, verb: &str, key: &[u8], value: Option<&[u8]>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(verb.as_bytes());
    out.extend_from_slice(b"\":{");
    text::write_field(out, "key", key);
    if let Some(value) = value {
        out.push(b',');
        text::write_field(out, "value", value);
    }
    out.push(b'}');
}

/// Appends `,"id":..` when there is an id.
pub(crate) fn write_id(out: &mut Vec<u8>, id: Option<&RequestId>) {
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        serde_json::to_writer(out, id).expect("writing a number or a string into memory can't fail");
    }
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
fn quoted(word: &str) -> String {
    let beginning: String = word.chars().take(QUOTED_CHARACTERS).collect();
    format!("`{}`", beginning.escape_debug())
}

/// The names that can stand in a request's outer object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum OuterName {
    Ping,
    Get,
    Exists,
    Set,
    Rm,
    Batch,
    Id,
    Unknown(String),
}

/// A request's outer object, read but not yet judged.
struct Envelope {
    verb: Option<Verb>,
    id: Option<RequestId>,
    /// The first name that is neither a verb nor `id`.
    unknown: Option<String>,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope { verb: None, id: None, unknown: None };
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
                OuterName::Ping => {
                    map.next_value_seed(Body { fields: Fields::None })?;
                    Verb::Ping
                }
                OuterName::Get => Verb::Get { key: map.next_value_seed(Body { fields: Fields::Key })?.0 },
                OuterName::Exists => Verb::Exists { key: map.next_value_seed(Body { fields: Fields::Key })?.0 },
                OuterName::Rm => Verb::Remove { key: map.next_value_seed(Body { fields: Fields::Key })?.0 },
                OuterName::Set => {
                    let (key, value) = map.next_value_seed(Body { fields: Fields::KeyAndValue })?;
                    Verb::Set { key, value }
                }
                OuterName::Batch => Verb::Batch(map.next_value::<Changes>()?.0),
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
    Unknown(String),
}

/// Reads the object after a verb into key and value, which stay empty where the verb has none.
#[derive(Clone, Copy)]
struct Body {
    fields: Fields,
}

impl<'de> DeserializeSeed<'de> for Body {
    type Value = (Vec<u8>, Vec<u8>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body {
    type Value = (Vec<u8>, Vec<u8>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.fields {
            Fields::None => "an empty object",
            Fields::Key => "an object with `key` (or `key64`)",
            Fields::KeyAndValue => "an object with `key` (or `key64`) and `value` (or `value64`)",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut key, mut value) = (None, None);
        while let Some(name) = map.next_key::<BodyName>()? {
            let (place, field) = match &name {
                BodyName::Key | BodyName::Key64 if self.fields != Fields::None => (&mut key, "key"),
                BodyName::Value | BodyName::Value64 if self.fields == Fields::KeyAndValue => (&mut value, "value"),
                BodyName::Key => return Err(self.unknown("key")),
                BodyName::Key64 => return Err(self.unknown("key64")),
                BodyName::Value => return Err(self.unknown("value")),
                BodyName::Value64 => return Err(self.unknown("value64")),
                BodyName::Unknown(word) => return Err(self.unknown(word)),
            };
            let bytes = match name {
                BodyName::Key64 | BodyName::Value64 => map.next_value::<Base64>()?.0,
                _ => map.next_value::<String>()?.into_bytes(),
            };
            if place.replace(bytes).is_some() {
                return Err(Error::duplicate_field(field));
            }
        }
        if key.is_none() && self.fields != Fields::None {
            return Err(Error::missing_field("key"));
        }
        if value.is_none() && self.fields == Fields::KeyAndValue {
            return Err(Error::missing_field("value"));
        }
        Ok((key.unwrap_or_default(), value.unwrap_or_default()))
    }
}

impl Body {
    fn unknown<E: Error>(self, word: &str) -> E {
        E::custom(format_args!("unknown field {}, expected {}", quoted(word), Expected(self)))
    }
}

/// What a [`Body`] expects, for an error.
struct Expected(Body);

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }
}

/// The array after `batch`.
struct Changes(Vec<Change>);

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Changes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of `{\"set\":{..}}` and `{\"rm\":{..}}`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Changes, A::Error> {
                let mut changes = Vec::new();
                while let Some(envelope) = list.next_element::<Envelope>()? {
                    let Envelope { verb, id, unknown } = envelope;
                    let change = match (verb, id, unknown) {
                        (Some(Verb::Set { key, value }), None, None) => Change::Set { key, value },
                        (Some(Verb::Remove { key }), None, None) => Change::Remove { key },
                        _ => return Err(Error::custom("a change in a batch is `{\"set\":{..}}` or `{\"rm\":{..}}`")),
                    };
                    changes.push(change);
                }
                Ok(Changes(changes))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = RequestId;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an id: a whole number from 0, or text of at most {MAX_ID_BYTES} bytes")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<RequestId, E> {
                Ok(RequestId::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RequestId, E> {
                if text.len() > MAX_ID_BYTES {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(RequestId::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Id)
    }
}
