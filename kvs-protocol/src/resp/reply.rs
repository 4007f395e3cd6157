//! How answers are spelled: `+OK`, `:1`, `$1\r\nv`, `$-1`, `*2..`, `-ERR ..`.
//!
//! What must hold: one reply for each command, in order; no error holds a line end of its own.

use std::fmt::Display;
use std::io::Write as _;

use super::pattern::Pattern;
use super::version::Version;
use crate::error_code::ErrorCode;
use crate::response::{Answer, Info, Page, WireError};

/// How the answer to one request is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A value, or nil.
    Value,
    /// A word, when it is done.
    Word(&'static str),
    /// `OK` when a value was stored, else nil.
    Stored,
    /// A number; nothing counts as zero.
    Number,
    /// One of the requests of a command that answers how many of them found a key.
    Tally {
        /// The last one: now the number is written.
        is_last: bool,
    },
    /// One of the values of an array.
    Element {
        /// The first one: how long the array is.
        of: Option<usize>,
    },
    /// A page of keys.
    Page {
        /// Which keys are shown; `None` is all.
        pattern: Option<Pattern>,
        /// Whether any is.
        shows: bool,
    },
    /// Sections of text.
    Info {
        /// Which section, in lower case; `None` is all.
        section: Option<String>,
    },
    /// Nothing, when it is done.
    Nil,
    /// These bytes, spelled in version 3, when it is done.
    Raw(Vec<u8>),
    /// As [`Raw`](Self::Raw); and from this answer on, if it is done, this version is spoken.
    Switch {
        /// Which one.
        version: Version,
        /// The answer.
        raw: Vec<u8>,
    },
}

impl Reply {
    /// What it holds beside itself, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Raw(raw) | Self::Switch { raw, .. } => raw.len(),
            Self::Page { pattern, .. } => pattern.as_ref().map_or(0, Pattern::held_bytes),
            Self::Info { section } => section.as_ref().map_or(0, String::len),
            Self::Value
            | Self::Word(_)
            | Self::Stored
            | Self::Nil
            | Self::Number
            | Self::Tally { .. }
            | Self::Element { .. } => 0,
        }
    }
}

/// Spells the answers of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    version: Version,
    /// Keys that the command under way has found.
    tally: u64,
    /// Why one of its requests was not done.
    failed: Option<WireError>,
    /// Its first value was not to be had by this client, which was said once and for all of them.
    is_refused: bool,
}

impl Replies {
    /// Appends the reply to a request, if it is the request's to give one.
    pub fn encode(&mut self, reply: Reply, body: Result<Answer, WireError>, out: &mut Vec<u8>) {
        match (reply, body) {
            (Reply::Tally { is_last }, body) => self.count(is_last, body, out),
            (Reply::Element { of }, body) => self.element(of, body, out),
            (_, Err(error)) => write_error(out, &error),
            (Reply::Value, Ok(answer)) => self.write_value(out, &answer),
            (Reply::Word(word), Ok(_)) => write_word(out, word),
            (Reply::Raw(raw), Ok(_)) => self.version.write_spelled(out, &raw),
            (Reply::Switch { version, raw }, Ok(_)) => {
                self.version = version;
                version.write_spelled(out, &raw);
            }
            (Reply::Stored, Ok(Answer::Bool(true))) => write_word(out, "OK"),
            (Reply::Stored | Reply::Nil, Ok(_)) => self.version.write_null(out),
            (Reply::Number, Ok(Answer::Number(number))) => write_integer(out, number),
            (Reply::Number, Ok(_)) => write_integer(out, 0),
            (Reply::Page { pattern, shows }, Ok(Answer::Page(page))) => {
                let matcher = pattern.as_ref().map(Pattern::matcher);
                write_page(out, &page, |key| shows && matcher.as_ref().is_none_or(|matcher| matcher.matches(key)));
            }
            (Reply::Info { section }, Ok(Answer::Info(info))) => {
                let mut text = Vec::new();
                write_info(&mut text, &info, section.as_deref());
                write_bulk(out, &text);
            }
            (Reply::Page { .. } | Reply::Info { .. }, Ok(answer)) => self.write_value(out, &answer),
        }
    }

    /// A client that may not read at all gets one error, as clients expect; what else fails, fails in its place.
    fn element(&mut self, of: Option<usize>, body: Result<Answer, WireError>, out: &mut Vec<u8>) {
        if let Some(length) = of {
            self.is_refused =
                matches!(&body, Err(WireError { code: ErrorCode::Unauthenticated | ErrorCode::Forbidden, .. }));
            if !self.is_refused {
                write_array(out, length);
            }
        } else if self.is_refused {
            return;
        }
        match body {
            Ok(answer) => self.write_value(out, &answer),
            Err(error) => write_error(out, &error),
        }
    }

    /// `$..`: a value, or nil.
    fn write_value(&self, out: &mut Vec<u8>, answer: &Answer) {
        match answer {
            Answer::Bytes(bytes) => write_bulk(out, bytes),
            Answer::Number(number) => write_integer(out, *number),
            Answer::Bool(truth) => write_integer(out, u64::from(*truth)),
            Answer::Null | Answer::Page(_) | Answer::Info(_) | Answer::Part(_) => self.version.write_null(out),
        }
    }

    fn count(&mut self, is_last: bool, body: Result<Answer, WireError>, out: &mut Vec<u8>) {
        match body {
            Ok(Answer::Bool(false)) => {}
            Ok(_) => self.tally += 1,
            Err(error) if error.code == ErrorCode::KeyNotFound => {}
            Err(error) => drop(self.failed.get_or_insert(error)),
        }
        if is_last {
            let tally = std::mem::take(&mut self.tally);
            match self.failed.take() {
                Some(error) => write_error(out, &error),
                None => write_integer(out, tally),
            }
        }
    }
}

pub(super) fn write_word(out: &mut Vec<u8>, word: &str) {
    out.push(b'+');
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_integer(out: &mut Vec<u8>, number: impl Display) {
    write!(out, ":{number}\r\n").expect("memory takes everything");
}

pub(super) fn write_array(out: &mut Vec<u8>, length: usize) {
    out.push(b'*');
    write_length(out, length);
}

/// Only version 3 has maps: so many pairs follow.
pub(super) fn write_map(out: &mut Vec<u8>, pairs: usize) {
    out.push(b'%');
    write_length(out, pairs);
}

/// Only version 3 has sets.
pub(super) fn write_set(out: &mut Vec<u8>, length: usize) {
    out.push(b'~');
    write_length(out, length);
}

pub(super) fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    write_length(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The digits of a length and a line end: written for nearly every answer, so without the formatter.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(length % 10).expect("a digit");
        length /= 10;
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(b"\r\n");
}

/// `-CODE message`, in one line. Clients of Redis decide by the first word.
fn write_error(out: &mut Vec<u8>, WireError { code, message }: &WireError) {
    out.push(b'-');
    let word = match code {
        // The message begins with the word itself.
        ErrorCode::NotSupported if message.starts_with("NOPROTO ") => "",
        ErrorCode::Unauthenticated if message.starts_with("WRONGPASS ") => "",
        ErrorCode::Unauthenticated => "NOAUTH ",
        ErrorCode::Forbidden => "NOPERM ",
        ErrorCode::Busy => "BUSY ",
        ErrorCode::NoSpace | ErrorCode::Poisoned => "MISCONF ",
        ErrorCode::KeyNotFound
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownVerb
        | ErrorCode::NotSupported
        | ErrorCode::TooLarge
        | ErrorCode::ShuttingDown
        | ErrorCode::Corruption
        | ErrorCode::Internal
        | ErrorCode::Malformed
        | ErrorCode::WrongProtocol
        | ErrorCode::Timeout
        | ErrorCode::Other => "ERR ",
    };
    out.extend_from_slice(word.as_bytes());
    out.extend(message.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}

/// The next cursor, zero at the end, and the keys that are shown.
fn write_page(out: &mut Vec<u8>, page: &Page, shows: impl Fn(&[u8]) -> bool) {
    write_array(out, 2);
    write_bulk(out, page.cursor.as_deref().unwrap_or("0").as_bytes());
    let shown: Vec<&[u8]> = page.entries.iter().map(|entry| &entry.key[..]).filter(|key| shows(key)).collect();
    write_array(out, shown.len());
    for key in shown {
        write_bulk(out, key);
    }
}

/// The sections as Redis spells them, with what its clients look for.
fn write_info(out: &mut Vec<u8>, info: &Info, section: Option<&str>) {
    let wants = |name: &str| matches!(section, None | Some("all" | "default" | "everything")) || section == Some(name);
    let mut write = |text: String| out.extend_from_slice(text.as_bytes());
    for (name, fields) in info.sections.iter().filter(|(name, _)| wants(name)) {
        write(format!("# {}{}\r\n", name[..1].to_uppercase(), &name[1..]));
        if name == "server" {
            // The version whose commands ours are like: clients choose what they send by it.
            write("redis_version:7.0.0\r\nredis_mode:standalone\r\n".to_owned());
        }
        for (field, value) in fields {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write(format!("{}:{value}\r\n", snake(field)));
        }
        write("\r\n".to_owned());
    }
    if wants("persistence") {
        write("# Persistence\r\nloading:0\r\naof_enabled:1\r\n\r\n".to_owned());
    }
    if wants("keyspace") {
        let keys = info.get("store", "keys").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let line = if keys > 0 { format!("db0:keys={keys},expires=0,avg_ttl=0\r\n") } else { String::new() };
        write(format!("# Keyspace\r\n{line}"));
    }
}

/// `uptimeSeconds` as `uptime_seconds`.
fn snake(word: &str) -> String {
    let mut text = String::new();
    for letter in word.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Entry;

    fn spelled(replies: Vec<(Reply, Result<Answer, WireError>)>) -> String {
        let (mut speller, mut out) = (Replies::default(), Vec::new());
        replies.into_iter().for_each(|(reply, body)| speller.encode(reply, body, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_answer_has_its_spelling() {
        let refused = |code| Err(WireError::new(code, "two\r\nlines"));
        let entry = |key: &str| Entry { key: key.into(), value: None };
        let page = Page { entries: vec![entry("a"), entry("b")], cursor: Some("17".into()) };
        for (reply, body, text) in [
            (Reply::Value, Ok(Answer::Null), "$-1\r\n"),
            (Reply::Value, Ok(Answer::Bytes(b"v\r\n".to_vec())), "$3\r\nv\r\n\r\n"),
            (Reply::Word("OK"), Ok(Answer::Null), "+OK\r\n"),
            (Reply::Stored, Ok(Answer::Bool(true)), "+OK\r\n"),
            (Reply::Stored, Ok(Answer::Bool(false)), "$-1\r\n"),
            (Reply::Number, Ok(Answer::Number(12)), ":12\r\n"),
            (Reply::Number, Ok(Answer::Null), ":0\r\n"),
            (Reply::Raw(b"*0\r\n".to_vec()), Ok(Answer::Bytes(b"pong".to_vec())), "*0\r\n"),
            (Reply::Value, refused(ErrorCode::TooLarge), "-ERR two  lines\r\n"),
            (Reply::Word("OK"), refused(ErrorCode::Unauthenticated), "-NOAUTH two  lines\r\n"),
            (
                Reply::Page { pattern: Pattern::new(b"[b-z]"), shows: true },
                Ok(Answer::Page(page)),
                "*2\r\n$2\r\n17\r\n*1\r\n$1\r\nb\r\n",
            ),
        ] {
            assert_eq!(spelled(vec![(reply.clone(), body)]), text, "{reply:?}");
        }
    }

    #[test]
    fn the_version_changes_with_the_answer_that_says_so() {
        let switch = |version| Reply::Switch { version, raw: b"%0\r\n".to_vec() };
        let done = || Ok(Answer::Null);
        let refused = Err(WireError::new(ErrorCode::Unauthenticated, "who?"));
        let replies = vec![
            (switch(Version::Three), refused),
            (Reply::Value, done()),
            (switch(Version::Three), done()),
            (Reply::Value, done()),
            (Reply::Element { of: Some(1) }, done()),
            (switch(Version::Two), done()),
            (Reply::Nil, done()),
        ];
        assert_eq!(spelled(replies), "-NOAUTH who?\r\n$-1\r\n%0\r\n_\r\n*1\r\n_\r\n*0\r\n$-1\r\n");
    }

    #[test]
    fn many_requests_can_have_one_reply() {
        let missing = || Err(WireError::new(ErrorCode::KeyNotFound, "Key not found"));
        let tally = |is_last| Reply::Tally { is_last };
        assert_eq!(spelled(vec![(tally(false), Ok(Answer::Null)), (tally(true), missing())]), ":1\r\n");
        assert_eq!(
            spelled(vec![(tally(false), Ok(Answer::Bool(true))), (tally(true), Ok(Answer::Bool(false)))]),
            ":1\r\n"
        );
        let failed = Err(WireError::new(ErrorCode::NoSpace, "full"));
        let replies = vec![(tally(false), failed), (tally(true), Ok(Answer::Null)), (tally(true), Ok(Answer::Null))];
        assert_eq!(spelled(replies), "-MISCONF full\r\n:1\r\n", "the next command counts for itself");
        let array = vec![
            (Reply::Element { of: Some(2) }, Ok(Answer::Bytes(b"v".to_vec()))),
            (Reply::Element { of: None }, Ok(Answer::Null)),
        ];
        assert_eq!(spelled(array), "*2\r\n$1\r\nv\r\n$-1\r\n");
        let refused = || Err(WireError::new(ErrorCode::Unauthenticated, "who?"));
        let element = |of| Reply::Element { of };
        let replies = vec![
            (element(Some(2)), refused()),
            (element(None), refused()),
            (element(Some(2)), Ok(Answer::Null)),
            (element(None), refused()),
        ];
        assert_eq!(spelled(replies), "-NOAUTH who?\r\n*2\r\n$-1\r\n-NOAUTH who?\r\n", "one for all, or one for each");
    }
}
