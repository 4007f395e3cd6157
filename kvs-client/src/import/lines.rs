//! `Lines`: the input as requests, one JSON object a line, or CSV as `csv` says.
//!
//! ```text
//! {"key":"k","value":"v"}    {"key64":"/w==","value64":"AAE="}    {"key":"k","value64":""}
//! ```
//! Empty lines are left out, and the mark that some programs put at the beginning of text. Anything else is an error that
//! names the line.
//!
//! What must hold: waiting for input never stops the thread, which may have a forwarded port to serve meanwhile; who gives
//! up waiting loses nothing of what was read; each byte is looked at once, however many lines a record has.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvs_protocol::Verb;
use kvs_protocol::limits::HIGHEST_MAX_FRAME_BYTES;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncSeek, AsyncSeekExt as _, BufReader};

use super::csv::{self, Columns};
use super::window::Entry;
use crate::arguments::FileFormat;
use crate::error::Error;
use crate::value::cannot_read;

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
    format: FileFormat,
    /// CSV: where the columns stand, once the first line is read.
    columns: Option<Columns>,
    /// Lines read so far.
    number: u64,
    /// Bytes of those lines.
    read_bytes: u64,
    /// The record that is being read, without its end. One of CSV may take several lines.
    record: Vec<u8>,
    /// Whether that record is whole, so that the next line begins another.
    is_whole: bool,
    /// The number of its first line.
    first: u64,
    /// Where its last line begins.
    line_start: usize,
    /// CSV: whether a quoted field of it is open.
    is_open: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, name: String, format: FileFormat) -> Self {
        let input = BufReader::with_capacity(READ_BUFFER_BYTES, input);
        let (record, is_whole, first, line_start, is_open) = (Vec::new(), true, 1, 0, false);
        Self {
            input,
            name,
            format,
            columns: None,
            number: 0,
            read_bytes: 0,
            record,
            is_whole,
            first,
            line_start,
            is_open,
        }
    }

    /// Goes on behind so many bytes and lines, which were imported before.
    pub(super) async fn go_on(&mut self, bytes: u64, lines: u64) -> Result<(), Error>
    where
        R: AsyncSeek,
    {
        if self.format == FileFormat::Csv {
            self.read_columns().await?;
        }
        let position = io::SeekFrom::Start(bytes);
        self.input.seek(position).await.map_err(|error| cannot_read(&self.name, &error))?;
        (self.read_bytes, self.number) = (bytes, lines);
        Ok(())
    }

    /// A line of the input, as an error names it.
    pub(super) fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.name)
    }

    /// The next line as a request, or `None` at the end. Can be given up while it waits, and asked for again.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.format == FileFormat::Csv && self.columns.is_none() && !self.read_columns().await? {
            return Ok(None);
        }
        loop {
            if !self.read_record().await? {
                return Ok(None);
            }
            let line = self.first;
            let record = match self.format {
                FileFormat::Jsonl if line == 1 => without_mark(&self.record).trim_ascii(),
                FileFormat::Jsonl => self.record.trim_ascii(),
                FileFormat::Csv => self.record.strip_suffix(b"\r").unwrap_or(&self.record),
            };
            if record.is_empty() {
                continue;
            }
            let decoded = match &self.columns {
                None => decode(record),
                Some(columns) => columns.decode(record),
            };
            let (key, value) = decoded.map_err(|cause| self.wrong(line, &cause))?;
            let bytes = key.len() + value.len();
            let request = Verb::Set { key, value }.into();
            return Ok(Some(Entry { line, end_line: self.number, end_bytes: self.read_bytes, request, bytes }));
        }
    }

    /// Reads the first line of CSV; `false` if there is none.
    async fn read_columns(&mut self) -> Result<bool, Error> {
        if !self.read_record().await? {
            return Ok(false);
        }
        let header = without_mark(&self.record).trim_ascii();
        self.columns = Some(Columns::of(header).map_err(|cause| self.wrong(1, &cause))?);
        Ok(true)
    }

    /// Reads one line, or all lines of a record of CSV, into `record`; `false` at the end of the input.
    async fn read_record(&mut self) -> Result<bool, Error> {
        if self.is_whole {
            self.record.clear();
            (self.is_whole, self.first, self.line_start, self.is_open) = (false, self.number + 1, 0, false);
        }
        while self.append_line().await? {
            if self.format == FileFormat::Csv && csv::turns(&self.record[self.line_start..]) {
                self.is_open = !self.is_open;
            }
            if !self.is_open {
                self.is_whole = true;
                return Ok(true);
            }
            self.record.push(b'\n');
            self.line_start = self.record.len();
        }
        if self.is_open { Err(self.wrong(self.first, "a quoted field is not ended")) } else { Ok(false) }
    }

    /// Appends one line to `record`, or the rest of one that was given up; `false` at the end of the input.
    async fn append_line(&mut self) -> Result<bool, Error> {
        loop {
            let read = self.input.fill_buf().await;
            let read = read.map_err(|error: io::Error| cannot_read(&self.name, &error))?;
            let end = memchr::memchr(b'\n', read);
            let is_end = end.is_some() || read.is_empty();
            let part = &read[..end.unwrap_or(read.len())];
            self.record.extend_from_slice(part);
            let consumed = part.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            self.read_bytes += u64::try_from(consumed).expect("a length fits 64 bits");
            if self.record.len() > MAX_LINE_BYTES {
                return Err(self.wrong(self.number + 1, &format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            if is_end {
                let is_line = end.is_some() || self.record.len() > self.line_start;
                self.number += u64::from(is_line);
                return Ok(is_line);
            }
        }
    }

    fn wrong(&self, line: u64, cause: &str) -> Error {
        Error::Data(format!("{}: {cause}", self.place(line)))
    }
}

/// The first line without the mark that some programs put at the beginning of text.
fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
}

/// The key and value of a line, or what is wrong with it.
fn decode(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    // Arrays would be taken for the fields in their order, and other formats would be called broken JSON.
    if !line.starts_with(b"{") {
        return Err("column 1: no JSON object; want {\"key\":\"..\",\"value\":\"..\"}, or --format csv".into());
    }
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
    use futures::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Number, key and value of a line.
    type Found = (u64, Vec<u8>, Vec<u8>);

    async fn read(text: &[u8]) -> Result<Vec<Found>, String> {
        read_as(FileFormat::Jsonl, text).await
    }

    async fn read_as(format: FileFormat, text: &[u8]) -> Result<Vec<Found>, String> {
        let mut lines = Lines::new(text, "input".into(), format);
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
        assert_eq!(read(&["\u{feff}".as_bytes(), text].concat()).await.unwrap(), expected);
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
            ("key,value", "column 1: no JSON object"),
            ("[]", "column 1: no JSON object"),
            ("[\"k\",null,\"v\",null]", "column 1: no JSON object"),
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
    async fn what_was_read_when_waiting_was_given_up_is_not_lost() {
        for (format, text) in [
            (FileFormat::Jsonl, "\n{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}"),
            (FileFormat::Csv, "key,value\n\na,\"1\n\"\"2\n\"\nb,2\n\"c\nc\",\"\n\""),
        ] {
            let expected = read_as(format, text.as_bytes()).await.unwrap();
            let (reader, mut writer) = tokio::io::duplex(text.len());
            let mut lines = Lines::new(reader, "input".into(), format);
            let mut found = Vec::new();
            let mut take = |entry: Entry| {
                let Verb::Set { key, value } = entry.request.verb else { panic!("an import sets") };
                found.push((entry.line, key, value));
            };
            for byte in text.as_bytes() {
                writer.write_all(&[*byte]).await.unwrap();
                if let Some(entry) = lines.next().now_or_never() {
                    take(entry.unwrap().unwrap());
                }
            }
            drop(writer);
            while let Some(entry) = lines.next().await.unwrap() {
                take(entry);
            }
            assert_eq!((found, lines.read_bytes), (expected, text.len() as u64));
        }
    }

    #[tokio::test]
    async fn lines_longer_than_the_buffer_are_read() {
        let value = "v".repeat(READ_BUFFER_BYTES * 2);
        let text = format!("{{\"key\":\"a\",\"value\":\"{value}\"}}\n{{\"key\":\"b\",\"value\":\"\"}}\n");
        let found = read(text.as_bytes()).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].2 == value.as_bytes());
    }

    #[tokio::test]
    async fn a_record_of_csv_may_take_several_lines() {
        let text = b"\xef\xbb\xbfkey,value,encoding\r\na,\"two\nlines\",\r\n\n/w==,AAE=,base64\n\"\",\"\",";
        let expected =
            vec![(2, b"a".to_vec(), b"two\nlines".to_vec()), (5, vec![0xff], vec![0, 1]), (6, Vec::new(), Vec::new())];
        assert_eq!(read_as(FileFormat::Csv, text).await.unwrap(), expected);
        assert_eq!(read_as(FileFormat::Csv, b"").await.unwrap(), []);
        for (text, place) in
            [("a,b", "input:1: "), ("key,value\na\n", "input:2: "), ("key,value\n\"a\n\n", "input:2: ")]
        {
            let error = read_as(FileFormat::Csv, text.as_bytes()).await.unwrap_err();
            assert!(error.starts_with(place), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn reading_goes_on_behind_what_was_read() {
        for (format, text) in [
            (FileFormat::Jsonl, "{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\",\"value\":\"2\"}\n"),
            (FileFormat::Csv, "value,key\n\"1\n\",a\n2,b\n"),
        ] {
            let mut first = Lines::new(io::Cursor::new(text), "input".into(), format);
            let entry = first.next().await.unwrap().unwrap();
            let mut second = Lines::new(io::Cursor::new(text), "input".into(), format);
            second.go_on(entry.end_bytes, entry.end_line).await.unwrap();
            let (expected, found) = (first.next().await.unwrap().unwrap(), second.next().await.unwrap().unwrap());
            assert_eq!((found.line, &found.request), (expected.line, &expected.request));
            assert!(second.next().await.unwrap().is_none());
        }
    }
}
