//! Dumps: a store as lines of JSON that `kvs-client import` and any other program reads back.
//!
//! ```text
//! {"key":"k","value":"v"}    {"key64":"/w==","value64":"AAE="}
//! ```
//! Text stands as JSON strings, other bytes in base64 (RFC 4648 section 4). In no order; each key once.

use std::io::Write;

use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::kvs::record;
use crate::scan::Entry;

/// How many bytes of lines are gathered before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// The line of an entry, newline included. Without a value it has only a key.
#[must_use]
pub fn line_of(entry: &Entry) -> Vec<u8> {
    let mut line = Vec::new();
    append_line(&mut line, &entry.key, entry.value.as_deref());
    line
}

/// Writes every entry whose key begins with `prefix` as one line each; returns how many.
///
/// # Errors
/// As [`KvsEngine::scan`], and what `out` says.
pub fn write_lines(engine: &impl KvsEngine, prefix: &[u8], out: &mut dyn Write) -> Result<u64> {
    let failed = |error| Error::io("writing the dump", error);
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    let mut entries = 0;
    for entry in engine.entries(prefix) {
        let Entry { key, value } = entry?;
        append_line(&mut buffer, &key, value.as_deref());
        entries += 1;
        if buffer.len() >= WRITE_BYTES {
            out.write_all(&buffer).map_err(failed)?;
            buffer.clear();
        }
    }
    out.write_all(&buffer).and_then(|()| out.flush()).map_err(failed)?;
    Ok(entries)
}

fn append_line(line: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    line.push(b'{');
    record::append_field(line, "key", key);
    if let Some(value) = value {
        line.push(b',');
        record::append_field(line, "value", value);
    }
    line.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryEngine;

    #[test]
    fn lines_are_what_the_client_imports() {
        let engine = MemoryEngine::new();
        for (key, value) in
            [(&b"a"[..], &b"line\n\"quoted\""[..]), (b"\xff", b"text"), (b"bytes", b"\0\x80"), (b"", b"")]
        {
            engine.set(key, value).unwrap();
        }
        let mut out = Vec::new();
        assert_eq!(write_lines(&engine, b"", &mut out).unwrap(), 4);
        let lines: Vec<_> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                r#"{"key":"","value":""}"#,
                r#"{"key":"a","value":"line\n\"quoted\""}"#,
                r#"{"key":"bytes","value64":"AIA="}"#,
                r#"{"key64":"/w==","value":"text"}"#,
            ]
        );
        let entry = Entry { key: b"k".to_vec(), value: None };
        assert_eq!(line_of(&entry), b"{\"key\":\"k\"}\n");
    }
}
