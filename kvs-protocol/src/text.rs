//! Bytes as JSON text: a plain string where they are UTF-8, base64 in a field of another name where they are not.
//!
//! What must hold: every byte string has exactly one spelling that we write, and both spellings are read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Bytes that arrive as base64 (RFC 4648 section 4, with padding).
#[derive(Debug)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Base64;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a base64 string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                STANDARD.decode(text).map(Base64).map_err(|cause| E::custom(format_args!("not base64: {cause}")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Appends `"name":"text"`, or `"name64":"base64"` when the bytes are not UTF-8: the one spelling of bytes in our JSON.
pub fn write_field(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.extend_from_slice(b"\":");
        write_string(out, text);
    } else {
        out.extend_from_slice(b"64\":\"");
        let start = out.len();
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        STANDARD.encode_slice(bytes, &mut out[start..]).expect("four characters for each three bytes are reserved");
        out.push(b'"');
    }
}

/// Whether bytes are UTF-8 that a JSON string holds as it is, without an escape.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    needs_no_escape(bytes) && std::str::from_utf8(bytes).is_ok()
}

/// Looks at all bytes, whatever it finds: so the processor looks at many at a time.
fn needs_no_escape(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'))
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    if needs_no_escape(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    serde_json::to_writer(out, text).expect("writing a string into memory can't fail");
}
