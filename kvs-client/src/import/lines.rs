//! `Lines`: the input as requests, one JSON object a line.
//!
//! ```text
//! {"key":"k","value":"v"}    {"key64":"/w==","value64":"AAE="}    {"key":"k","value64":""}
//! ```
//! Empty lines are left out. Anything else is an error that names the line.
//!
//! What must hold: waiting for input never stops the thread, which may have a forwarded port to serve meanwhile.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvs_protocol::Verb;
use kvs_protocol::limits::HIGHEST_MAX_FRAME_BYTES;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::window::Entry;
use crate::error::Error;

/// The longest line, in bytes: what the longest key and value can take.
const MAX_LINE_BYTES: usize = HIGHEST_MAX_FRAME_BYTES;

/// One line. Exactly one of each pair must be there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key64: Option<String>,
    value: Option<String>,
    value64: Option<String>,
}

/// Bytes read from the input at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reads lines from an input that errors call by its name.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    name: String,
    /// Lines read so far.
    number: u64,
    /// Bytes of those lines.
    read_bytes: u64,
    /// The line that is being read, without its end.
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, name: String) -> Self {
        let input = BufReader::with_capacity(READ_BUFFER_BYTES, input);
        Self { input, name, number: 0, read_bytes: 0, line: Vec::new() }
    }

    /// Whether the next line is not wholly read yet, so that asking for it may wait.
    pub(super) fn may_wait(&self) -> bool {
        memchr::memchr(b'\n', self.input.buffer()).is_none()
    }

    /// A line of the input, as an error names it.
    pub(super) fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.name)
    }

    /// Bytes of the input in the lines so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next line as a request, or `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, Error> {
        while self.read_line().await? {
            let line = self.line.trim_ascii();
            if !line.is_empty() {
                let (key, value) = decode(line).map_err(|cause| self.wrong(&cause))?;
                let bytes = key.len() + value.len();
                return Ok(Some(Entry { line: self.number, request: Verb::Set { key, value }.into(), bytes }));
            }
        }
        Ok(None)
    }

    /// Reads one line into `line`; `false` at the end of the input.
    async fn read_line(&mut self) -> Result<bool, Error> {
        self.line.clear();
        self.number += 1;
        loop {
            let read = self.input.fill_buf().await;
            let read = read.map_err(|error: io::Error| Error::Data(format!("cannot read {}: {error}", self.name)))?;
            if read.is_empty() {
                return Ok(!self.line.is_empty());
            }
            let end = memchr::memchr(b'\n', read);
            let part = &read[..end.unwrap_or(read.len())];
            self.line.extend_from_slice(part);
            let consumed = part.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            self.read_bytes += u64::try_from(consumed).expect("a length fits 64 bits");
            if self.line.len() > MAX_LINE_BYTES {
                return Err(self.wrong(&format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn wrong(&self, cause: &str) -> Error {
        Error::Data(format!("{}: {cause}", self.place(self.number)))
    }
}

/// The key and value of a line, or what is wrong with it.
fn decode(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let words = error.to_string();
        // The line that serde_json means is always the first: ours is one of many.
        let words = words.split(" at line ").next().unwrap_or_default();
        format!("column {}: {words}; want {{\"key\":\"..\",\"value\":\"..\"}}", error.column())
    })?;
    let key = one_of(line.key, line.key64, "key")?;
    let value = one_of(line.value, line.value64, "value")?;
    Ok((key, value))
}

fn one_of(text: Option<String>, base64: Option<String>, name: &str) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("{name}64 is not base64: {error}")),
        (None, None) => Err(format!("no {name}; want \"{name}\" or \"{name}64\"")),
        (Some(_), Some(_)) => Err(format!("both {name} and {name}64; want one of them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, key and value of a line.
    type Found = (u64, Vec<u8>, Vec<u8>);

    async fn read(text: &[u8]) -> Result<Vec<Found>, String> {
        let mut lines = Lines::new(text, "input".into());
        let mut found = Vec::new();
        while let Some(entry) = lines.next().await.map_err(|error| error.to_string())? {
            let Verb::Set { key, value } = entry.request.verb else { panic!("an import sets") };
            assert_eq!(entry.bytes, key.len() + value.len());
            found.push((entry.line, key, value));
        }
        Ok(found)
    }

    #[tokio::test]
    async fn text_and_base64_are_read_and_empty_lines_left_out() {
        let text = b"{\"key\":\"a\",\"value\":\"\\n\\u00e9\"}\n\r\n  \n{\"value64\":\"AAE=\",\"key64\":\"/w==\"}\r\n{\"key\":\"\",\"value\":\"\"}";
        let expected = vec![
            (1, b"a".to_vec(), "\n\u{e9}".as_bytes().to_vec()),
            (4, vec![0xff], vec![0, 1]),
            (5, Vec::new(), Vec::new()),
        ];
        assert_eq!(read(text).await.unwrap(), expected);
        assert_eq!(read(b"").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_wrong_line_is_named_with_what_is_wrong() {
        let wrong = [
            ("{\"key\":\"a\"}", "no value"),
            ("{\"value\":\"a\"}", "no key"),
            ("{\"key\":\"a\",\"key64\":\"YQ==\",\"value\":\"\"}", "both key and key64"),
            ("{\"key\":\"a\",\"value\":1}", "column 20: invalid type"),
            ("{\"key\":\"a\",\"value\":\"b\",\"ttl\":\"1\"}", "unknown field `ttl`"),
            ("{\"key\":\"a\",\"key\":\"b\",\"value\":\"\"}", "duplicate field"),
            ("{\"key64\":\"?\",\"value\":\"b\"}", "key64 is not base64"),
            ("{\"key\":\"a\",\"value\":\"b\"} x", "trailing characters"),
            ("key,value", "column 1: expected value"),
            ("[]", "invalid"),
            ("\u{feff}{\"key\":\"a\",\"value\":\"b\"}", "column 1"),
        ];
        for (line, cause) in wrong {
            let error = read(format!("{{\"key\":\"ok\",\"value\":\"\"}}\n{line}\n").as_bytes()).await.unwrap_err();
            assert!(
                error.starts_with("input:2: ") && error.contains(cause) && !error.contains('\n'),
                "{line}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_not_wholly_there_may_wait() {
        let text: &[u8] = b"{\"key\":\"a\",\"value\":\"b\"}\n{\"key\"";
        let mut lines = Lines::new(text, "input".into());
        assert!(lines.may_wait(), "nothing is read yet");
        lines.input.fill_buf().await.unwrap();
        assert!(!lines.may_wait());
        lines.next().await.unwrap().unwrap();
        assert!(lines.may_wait());
    }

    #[tokio::test]
    async fn lines_longer_than_the_buffer_are_read() {
        let value = "v".repeat(READ_BUFFER_BYTES * 2);
        let text = format!("{{\"key\":\"a\",\"value\":\"{value}\"}}\n{{\"key\":\"b\",\"value\":\"\"}}\n");
        let found = read(text.as_bytes()).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].2 == value.as_bytes());
    }
}
