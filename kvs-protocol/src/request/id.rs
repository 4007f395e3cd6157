//! `RequestId`: what a client calls a request, echoed in its response.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_ID_BYTES;

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

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => formatter.pad(text),
        }
    }
}

/// Appends `,"id":..` when there is an id.
pub(crate) fn write_id(out: &mut Vec<u8>, id: Option<&RequestId>) {
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        serde_json::to_writer(out, id).expect("writing a number or a string into memory can't fail");
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
