//! `Output`: answers on standard output, as text for people, JSON for programs, or raw bytes for pipes.
//!
//! | answer | text | json | raw |
//! |---|---|---|---|
//! | value | the value and a newline | `{"found":true,"key":"k","value":"v"}` | the value |
//! | no value | `Key not found` | `{"found":false,"key":"k"}` | nothing |
//! | set, rm, batch | nothing | `{"key":"k","set":true}`, `{"key":"k","removed":true}`, `{"changes":2}` | nothing |
//! | exists | `true`, `false` | `{"exists":true,"key":"k"}` | as text |
//! | count | the number | `{"count":2}` | as text |
//! | keys | each on a line, escaped | `{"key":"k"}` on a line each | each ended by a zero byte |
//!
//! What must hold: JSON is one object a line, with `key64` and `value64` in base64 where the bytes are not UTF-8; what
//! goes to a terminal holds nothing that a terminal obeys, unless it was asked for as raw.

use std::io::{self, IsTerminal as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::escape;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: one line, or the value and a newline
    Text,
    /// For programs: one JSON object a line
    Json,
    /// For pipes: the bytes and nothing else
    Raw,
}

/// Writes answers in one format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
}

impl Output {
    /// The value of a key, or that there is none.
    pub(crate) fn value(self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        match (self.format, value) {
            (Format::Json, value) => {
                let mut object = object("key", key);
                object.insert("found".into(), value.is_some().into());
                if let Some(value) = value {
                    insert_bytes(&mut object, "value", value);
                }
                self.object(object)
            }
            (Format::Raw, value) => write(&[value.unwrap_or_default()]),
            (Format::Text, None) => write(&[b"Key not found\n"]),
            (Format::Text, Some(value)) if io::stdout().is_terminal() && !escape::is_harmless(value) => {
                write(&[escape::bytes(value).as_bytes(), b"\n"])?;
                say("the value holds bytes that are not plain text, shown with \\ (`-o raw` prints them)");
                Ok(())
            }
            (Format::Text, Some(value)) => write(&[value, b"\n"]),
        }
    }

    /// Something was done to a key; only JSON has a word for it.
    pub(crate) fn done(self, word: &str, key: &[u8]) -> Result<(), Error> {
        if self.format != Format::Json {
            return Ok(());
        }
        let mut object = object("key", key);
        object.insert(word.into(), true.into());
        self.object(object)
    }

    /// So many changes were done; only JSON has a word for it.
    pub(crate) fn done_changes(self, changes: u64) -> Result<(), Error> {
        if self.format == Format::Json { self.json(&json!({ "changes": changes })) } else { Ok(()) }
    }

    /// Whether a key is there.
    pub(crate) fn exists(self, key: &[u8], exists: bool) -> Result<(), Error> {
        if self.format != Format::Json {
            return write(&[exists.to_string().as_bytes(), b"\n"]);
        }
        let mut object = object("key", key);
        object.insert("exists".into(), exists.into());
        self.object(object)
    }

    /// A number of something. Text has the number alone.
    pub(crate) fn number(self, word: &str, number: u64) -> Result<(), Error> {
        match self.format {
            Format::Json => self.json(&json!({ word: number })),
            Format::Text | Format::Raw => write(&[number.to_string().as_bytes(), b"\n"]),
        }
    }

    /// A line for people, and the same as an object for programs.
    pub(crate) fn report(self, text: &str, object: &Value) -> Result<(), Error> {
        match self.format {
            Format::Json => self.json(object),
            Format::Text | Format::Raw => write(&[text.as_bytes(), b"\n"]),
        }
    }

    /// Appends an entry of a scan to what will be written at once.
    pub(crate) fn entry(self, written: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
        match self.format {
            Format::Text => {
                written.extend_from_slice(escape::bytes(key).as_bytes());
                if let Some(value) = value {
                    written.push(b'\t');
                    written.extend_from_slice(escape::bytes(value).as_bytes());
                }
                written.push(b'\n');
            }
            Format::Json => {
                let mut object = object("key", key);
                if let Some(value) = value {
                    insert_bytes(&mut object, "value", value);
                }
                written.extend_from_slice(escape::json(&Value::Object(object).to_string()).as_bytes());
                written.push(b'\n');
            }
            Format::Raw => {
                for bytes in [Some(key), value].into_iter().flatten() {
                    written.extend_from_slice(bytes);
                    written.push(0);
                }
            }
        }
    }

    fn object(self, object: Map<String, Value>) -> Result<(), Error> {
        self.json(&Value::Object(object))
    }

    fn json(self, value: &Value) -> Result<(), Error> {
        write(&[escape::json(&value.to_string()).as_bytes(), b"\n"])
    }
}

/// An object with one byte string.
fn object(name: &str, bytes: &[u8]) -> Map<String, Value> {
    let mut object = Map::new();
    insert_bytes(&mut object, name, bytes);
    object
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}64"), STANDARD.encode(bytes).into()),
    };
}

/// Writes to standard output at once.
pub(crate) fn write(parts: &[&[u8]]) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    parts.iter().try_for_each(|part| output.write_all(part)).and_then(|()| output.flush()).map_err(Error::Output)
}

/// Says on standard error what went wrong.
pub(crate) fn complain(error: &Error, format: Format) {
    match error {
        Error::Said(_) => {}
        error if format == Format::Json => say_line(&escape::json(&error.as_json().to_string())),
        // These three words are the contract of `rm`; every other error says whose it is.
        Error::KeyNotFound => say_line(&error.to_string()),
        error => say(&error.to_string()),
    }
}

/// Tells a person something that is no answer, on a line of standard error.
pub(crate) fn say(text: &str) {
    say_line(&format!("kvs-client: {}", escape::line(text)));
}

fn say_line(line: &str) {
    // Nobody is left to tell that standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}
