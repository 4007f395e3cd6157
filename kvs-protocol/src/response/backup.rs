//! `BackupPart`: what a `backup` answers, a line each: the name of a file, pieces of it, the next name, and at the end
//! sums of everything.
//!
//! What must hold: a backup whose end did not come is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, MapAccess};
use serde::{Deserialize, Serialize};

use crate::text::{self, Base64};

/// One response of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupPart {
    /// What follows belongs to the file of this name, a plain one: `{"file":"MANIFEST"}`.
    File(String),
    /// The next bytes of the file: `{"data64":"..."}`.
    Data(Vec<u8>),
    /// All files are complete: `{"end":{..}}`.
    End(BackupEnd),
}

/// The sums of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupEnd {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// CRC-32C of all bytes of all files, in the order of their coming.
    pub crc32c: u32,
    /// Every write up to this sequence is in the backup.
    pub last_sequence: u64,
}

impl BackupPart {
    /// Appends the object.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::File(name) => {
                out.extend_from_slice(b"{\"file\":");
                text::write_string(out, name);
            }
            Self::Data(bytes) => {
                out.extend_from_slice(b"{\"data64\":\"");
                let start = out.len();
                out.resize(start + bytes.len().div_ceil(3) * 4, 0);
                STANDARD.encode_slice(bytes, &mut out[start..]).expect("four characters for three bytes are reserved");
                out.push(b'"');
            }
            Self::End(end) => {
                out.extend_from_slice(b"{\"end\":");
                serde_json::to_writer(&mut *out, end).expect("numbers have a JSON form, and memory takes it");
            }
        }
        out.push(b'}');
    }
}

/// Reads a part whose name has been read.
pub(super) fn read<'de, A: MapAccess<'de>>(name: &str, mut map: A) -> Result<BackupPart, A::Error> {
    let part = match name {
        "file" => BackupPart::File(map.next_value()?),
        "data64" => BackupPart::Data(map.next_value::<Base64>()?.0),
        _ => BackupPart::End(map.next_value()?),
    };
    if map.next_key::<String>()?.is_some() {
        return Err(A::Error::custom("a part of a backup has one name, this one has more"));
    }
    Ok(part)
}
