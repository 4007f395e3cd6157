//! `Response`: one line from server to client: `{"ok":"v"}`, `{"ok64":".."}` or `{"error":{"code":..,"message":..}}`.
//!
//! What must hold: responses come in the order of the requests; exactly one of `ok`, `ok64` and `error` stands in a
//! response; only `backup` has more than one; an `id` is echoed as it came. A client ignores fields that it does not know, so that servers can add some.

mod backup;
mod info;
mod page;

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

pub use backup::{BackupEnd, BackupPart};
pub use info::Info;
pub use page::{Entry, Page};

use crate::error_code::ErrorCode;
use crate::request::{RequestId, write_id};
use crate::text::{self, Base64};

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The answer, or why there is none.
    pub body: Result<Answer, WireError>,
    /// The id of the request, if it had one.
    pub id: Option<RequestId>,
}

/// The answer to a request that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done; or, where a value is asked for, there is no such key.
    Null,
    /// To `get` and `take`: the value. To a `set` that asks for it: the old value. To `ping`: `pong`.
    Bytes(Vec<u8>),
    /// To `exists`. To a `set` with a condition: whether the value was stored.
    Bool(bool),
    /// To `count` and `length`.
    Number(u64),
    /// To `scan`.
    Page(Page),
    /// To `info`.
    Info(Info),
    /// To `backup`, which has many responses: the last one is [`BackupPart::End`] or an error.
    Part(BackupPart),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What programs decide by.
    pub code: ErrorCode,
    /// What people read: the cause, and what to do where that is not plain.
    pub message: String,
}

impl WireError {
    /// An error with its message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<WireError> for Response {
    fn from(error: WireError) -> Self {
        Self { body: Err(error), id: None }
    }
}

impl Response {
    /// Reads one line, without its line end.
    ///
    /// # Errors
    /// The line is no response; the message says why.
    pub fn decode(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// Appends the response as one line with its line end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.body {
            Ok(Answer::Null) => out.extend_from_slice(b"{\"ok\":null"),
            Ok(Answer::Bool(true)) => out.extend_from_slice(b"{\"ok\":true"),
            Ok(Answer::Bool(false)) => out.extend_from_slice(b"{\"ok\":false"),
            Ok(Answer::Bytes(bytes)) => {
                out.push(b'{');
                text::write_field(out, "ok", bytes);
            }
            Ok(Answer::Number(number)) => {
                out.extend_from_slice(b"{\"ok\":");
                out.extend_from_slice(number.to_string().as_bytes());
            }
            Ok(Answer::Page(page)) => {
                out.extend_from_slice(b"{\"ok\":");
                page.encode(out);
            }
            Ok(Answer::Info(info)) => {
                out.extend_from_slice(b"{\"ok\":");
                serde_json::to_writer(&mut *out, info)
                    .expect("words and numbers have a JSON form, and memory takes it");
            }
            Ok(Answer::Part(part)) => {
                out.extend_from_slice(b"{\"ok\":");
                part.encode(out);
            }
            Err(WireError { code, message }) => {
                out.extend_from_slice(b"{\"error\":{\"code\":\"");
                out.extend_from_slice(code.as_str().as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                text::write_string(out, message);
                out.push(b'}');
            }
        }
        write_id(out, self.id.as_ref());
        out.extend_from_slice(b"}\n");
    }
}

/// The names that can stand in a response.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Ok,
    Ok64,
    Error,
    Id,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Response {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Response;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a response object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Response, A::Error> {
                let (mut body, mut id) = (None, None);
                while let Some(name) = map.next_key::<Name>()? {
                    let part = match name {
                        Name::Ok => Ok(map.next_value::<Answer>()?),
                        Name::Ok64 => Ok(Answer::Bytes(map.next_value::<Base64>()?.0)),
                        Name::Error => Err(map.next_value::<WireError>()?),
                        Name::Id => {
                            id = map.next_value()?;
                            continue;
                        }
                        Name::Unknown => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if body.replace(part).is_some() {
                        return Err(Error::custom("a response has one of `ok`, `ok64` and `error`, this one has more"));
                    }
                }
                let body = body.ok_or_else(|| Error::custom("a response has one of `ok`, `ok64` and `error`"))?;
                Ok(Response { body, id })
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Answer;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("null, a string, a whole number, true, false, or the object of a known verb")
            }

            fn visit_unit<E: Error>(self) -> Result<Answer, E> {
                Ok(Answer::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Answer, E> {
                Ok(Answer::Bool(value))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Answer, E> {
                Ok(Answer::Number(number))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
                // The first name tells the objects apart.
                let Some(name) = map.next_key::<String>()? else { return Ok(Answer::Info(Info::default())) };
                match name.as_str() {
                    "entries" | "cursor" => page::read(&name, map).map(Answer::Page),
                    "file" | "data64" | "end" => backup::read(&name, map).map(Answer::Part),
                    _ => info::read(name, map).map(Answer::Info),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Answer, E> {
                Ok(Answer::Bytes(text.as_bytes().to_vec()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Answer, E> {
                Ok(Answer::Bytes(text.into_bytes()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
