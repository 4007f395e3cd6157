//! CSV as RFC 4180 has it: fields between commas, quoted where they hold commas, quotes or ends of lines.
//!
//! ```text
//! key,value,encoding
//! greeting,"hello, world",
//! AP8=,/wA=,base64
//! ```
//! The first line names the columns, in any order: `key`, `value` and, where bytes are not text, `encoding`. The encoding
//! of a line is `base64` for key and value both, or `text`, or nothing, which is text too.
//!
//! What must hold: reading what was written gives the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The first line of what is written.
pub(crate) const HEADER: &[u8] = b"key,value,encoding\n";

/// Where the columns stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    key: usize,
    value: usize,
    encoding: Option<usize>,
    count: usize,
}

impl Columns {
    /// Reads the first line.
    pub(super) fn of(header: &[u8]) -> Result<Self, String> {
        let fields = fields(header)?;
        let want = "want the columns key, value and, if you like, encoding";
        let (mut key, mut value, mut encoding) = (None, None, None);
        for (position, field) in fields.iter().enumerate() {
            let place = match field.trim_ascii() {
                b"key" => &mut key,
                b"value" => &mut value,
                b"encoding" => &mut encoding,
                other => return Err(format!("column '{}' is unknown; {want}", String::from_utf8_lossy(other))),
            };
            if place.replace(position).is_some() {
                return Err(format!("column '{}' stands there twice; {want}", String::from_utf8_lossy(field)));
            }
        }
        match (key, value) {
            (Some(key), Some(value)) => Ok(Self { key, value, encoding, count: fields.len() }),
            _ => Err(format!("the first line names the columns; {want}")),
        }
    }

    /// The key and value of a line.
    pub(super) fn decode(&self, record: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let mut fields = fields(record)?;
        if fields.len() != self.count {
            return Err(format!("{} fields; want {} as in the first line", fields.len(), self.count));
        }
        let key = std::mem::take(&mut fields[self.key]);
        let value = std::mem::take(&mut fields[self.value]);
        match self.encoding.map(|position| fields[position].as_slice()) {
            None | Some(b"" | b"text") => Ok((key, value)),
            Some(b"base64") => {
                let decode = |name: &str, field: &[u8]| {
                    STANDARD.decode(field).map_err(|error| format!("the {name} is not base64: {error}"))
                };
                Ok((decode("key", &key)?, decode("value", &value)?))
            }
            Some(other) => Err(format!("encoding '{}'; want base64, text or nothing", String::from_utf8_lossy(other))),
        }
    }
}

/// Whether a line opens or ends a quoted field, so that its record goes on in the next line or no longer does. Quotes
/// inside of a field are doubled, so that the count tells.
pub(super) fn turns(line: &[u8]) -> bool {
    memchr::memchr_iter(b'"', line).count() % 2 == 1
}

/// The fields of a record.
fn fields(record: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let mut field = Vec::new();
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            rest = quoted;
            loop {
                let end = memchr::memchr(b'"', rest).ok_or("a quoted field is not ended")?;
                field.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                let Some(more) = rest.strip_prefix(b"\"") else { break };
                field.push(b'"');
                rest = more;
            }
            if !(rest.is_empty() || rest[0] == b',') {
                return Err("text after a quoted field; double the quotes inside of it".into());
            }
        } else {
            let end = memchr::memchr2(b',', b'"', rest).unwrap_or(rest.len());
            if rest.get(end) == Some(&b'"') {
                return Err("a quote inside of a field that does not begin with one".into());
            }
            field.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.split_first() {
            None => return Ok(fields),
            Some((_, after_comma)) => rest = after_comma,
        }
    }
}

/// Appends an entry as one record.
pub(crate) fn write_entry(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if std::str::from_utf8(key).is_ok() && std::str::from_utf8(value).is_ok() {
        write_field(out, key);
        out.push(b',');
        write_field(out, value);
        out.extend_from_slice(b",\n");
    } else {
        out.extend_from_slice(STANDARD.encode(key).as_bytes());
        out.push(b',');
        out.extend_from_slice(STANDARD.encode(value).as_bytes());
        out.extend_from_slice(b",base64\n");
    }
}

/// Appends text as a field. Spaces at its ends are quoted as well, because spreadsheets drop them.
fn write_field(out: &mut Vec<u8>, text: &[u8]) {
    let is_plain =
        !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) && text.trim_ascii().len() == text.len();
    if is_plain {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let columns = Columns::of(HEADER.trim_ascii()).unwrap();
        let texts: [&[u8]; 9] =
            [b"", b"k", b" spaces ", b"a,b", b"\"quoted\"", b"two\nlines\r\n", b"\xff\x00", "äö".as_bytes(), b"\r"];
        for key in texts {
            for value in texts {
                let mut record = Vec::new();
                write_entry(&mut record, key, value);
                let record = record.strip_suffix(b"\n").unwrap();
                assert!(!turns(record));
                assert_eq!(columns.decode(record).unwrap(), (key.to_vec(), value.to_vec()));
            }
        }
    }

    #[test]
    fn columns_stand_in_any_order() {
        let columns = Columns::of(b"encoding,\"value\",key").unwrap();
        assert_eq!(columns.decode(b"base64,/wA=,AP8=").unwrap(), (vec![0, 0xff], vec![0xff, 0]));
        assert_eq!(columns.decode(b",v,k").unwrap(), (b"k".to_vec(), b"v".to_vec()));
        let columns = Columns::of(b"key,value").unwrap();
        assert_eq!(columns.decode(b"\"a\"\"b\",").unwrap(), (b"a\"b".to_vec(), Vec::new()));
    }

    #[test]
    fn what_is_no_csv_is_named() {
        for (header, words) in [
            (&b"key"[..], "names the columns"),
            (b"key,value,ttl", "'ttl' is unknown"),
            (b"key,value,key", "twice"),
            (b"", "'' is unknown"),
        ] {
            let error = Columns::of(header).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let columns = Columns::of(b"key,value,encoding").unwrap();
        for (record, words) in [
            (&b"a"[..], "1 fields; want 3"),
            (b"a,b,c,d", "4 fields"),
            (b"a,b,hex", "encoding 'hex'"),
            (b"a,b\"c,", "a quote inside"),
            (b"\"a\"b,c,", "text after a quoted field"),
            (b"!,b,base64", "the key is not base64"),
        ] {
            let error = columns.decode(record).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(turns(b"a,\"b") && turns(b"b\"") && !turns(b"\"b\""));
    }
}
