//! What a command asks for, from its words.

use std::fmt::Write as _;

use super::command::{CommandInfo, Kind};
use super::frame::Words;
use super::hello::Greeting;
use super::pattern::{MAX_PATTERN_BYTES, Pattern};
use super::reply::{Reply, write_bulk};
use crate::error_code::ErrorCode;
use crate::limits::MAX_PAGE_ENTRIES;
use crate::request::{Change, Condition, Verb};
use crate::response::WireError;

/// How many bytes of a word that is not known an error repeats.
const QUOTED_BYTES: usize = 64;
/// The entries of a page unless a SCAN says otherwise, as in Redis.
const DEFAULT_SCAN_COUNT: u32 = 10;

/// A command, understood.
pub(super) enum Read<'a> {
    Nothing,
    Ask(Verb, Reply),
    Last(Verb, Reply),
    Refuse(WireError),
    /// One request for each of these keys.
    Each(Each, Words<'a>),
}

/// What is asked of each key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Each {
    Get,
    Exists,
    Remove,
}

/// Understands a command.
pub(super) fn command<'a>(mut words: Words<'a>, greeting: &mut Greeting) -> Read<'a> {
    let count = words.left();
    let Some(name) = words.next() else { return Read::Nothing };
    let Some(command) = CommandInfo::find(name) else { return Read::Refuse(unknown(name, words)) };
    if !command.takes(count) {
        return Read::Refuse(wrong_count(command));
    }
    let read = match command.kind {
        Kind::Get => ask(Verb::Get { key: next(&mut words) }, Reply::Value),
        Kind::GetDel => ask(Verb::Take { key: next(&mut words) }, Reply::Value),
        Kind::StrLen => ask(Verb::Length { key: next(&mut words) }, Reply::Number),
        Kind::Set => set(words),
        Kind::MSet if count.is_multiple_of(2) => Err(wrong_count(command)),
        Kind::MSet => mset(words),
        Kind::MGet => Ok(Read::Each(Each::Get, words)),
        Kind::Exists => Ok(Read::Each(Each::Exists, words)),
        Kind::Del => Ok(Read::Each(Each::Remove, words)),
        Kind::DbSize => ask(Verb::Count, Reply::Number),
        Kind::FlushDb => flush(words),
        Kind::Scan => scan(words),
        Kind::Info => ask(Verb::Info { section: None }, Reply::Info { section: words.next().map(lower) }),
        Kind::Ping if count > 2 => Err(wrong_count(command)),
        Kind::Ping => local(words.next().map_or(Reply::Word("PONG"), bulk)),
        Kind::Echo => local(bulk(&next(&mut words))),
        Kind::Quit => Ok(Read::Last(Verb::Ping, Reply::Word("OK"))),
        Kind::Hello => greeting.hello(words),
        Kind::Auth => greeting.auth(words),
        Kind::Client => greeting.client(words),
        Kind::Select => greeting.select(words),
        Kind::Reset => greeting.reset(),
        Kind::Config => greeting.config(words),
        Kind::Command => greeting.command(words),
    };
    read.unwrap_or_else(Read::Refuse)
}

/// What reading a command can end with.
pub(super) type Result<'a> = std::result::Result<Read<'a>, WireError>;

fn ask<'a>(verb: Verb, reply: Reply) -> Result<'a> {
    Ok(Read::Ask(verb, reply))
}

/// A command that needs nothing but its answer: it still takes its turn, as a ping does.
pub(super) fn local<'a>(reply: Reply) -> Result<'a> {
    ask(Verb::Ping, reply)
}

/// The next word of a command that was seen to have it.
fn next(words: &mut Words<'_>) -> Vec<u8> {
    words.next().unwrap_or_default().to_vec()
}

fn bulk(bytes: &[u8]) -> Reply {
    let mut raw = Vec::new();
    write_bulk(&mut raw, bytes);
    Reply::Raw(raw)
}

/// The beginning of a word in lower case, as text.
pub(super) fn lower(word: &[u8]) -> String {
    let word = &word[..word.len().min(QUOTED_BYTES)];
    String::from_utf8_lossy(word).to_ascii_lowercase()
}

fn set<'a>(mut words: Words<'a>) -> Result<'a> {
    let (key, value) = (next(&mut words), next(&mut words));
    let (mut condition, mut old) = (None, false);
    for option in words {
        let wanted = if option.eq_ignore_ascii_case(b"NX") {
            Condition::Missing
        } else if option.eq_ignore_ascii_case(b"XX") {
            Condition::Present
        } else if option.eq_ignore_ascii_case(b"GET") {
            old = true;
            continue;
        } else {
            return Err(invalid("syntax error; SET takes NX, XX and GET, and keys do not expire here"));
        };
        if condition.replace(wanted).is_some_and(|before| before != wanted) {
            return Err(invalid("syntax error; NX and XX exclude each other"));
        }
    }
    match (condition, old) {
        (None, false) => ask(Verb::Set { key, value }, Reply::Word("OK")),
        (Some(condition), false) => ask(Verb::SetIf { key, value, condition, old }, Reply::Stored),
        (condition, true) => {
            let condition = condition.unwrap_or(Condition::Always);
            ask(Verb::SetIf { key, value, condition, old }, Reply::Value)
        }
    }
}

fn mset<'a>(mut words: Words<'a>) -> Result<'a> {
    let mut changes = Vec::with_capacity(words.left() / 2);
    while words.left() > 0 {
        changes.push(Change::Set { key: next(&mut words), value: next(&mut words) });
    }
    ask(Verb::Batch(changes), Reply::Word("OK"))
}

fn flush<'a>(mut words: Words<'a>) -> Result<'a> {
    let how = words.next();
    let known = how.is_none_or(|how| how.eq_ignore_ascii_case(b"SYNC") || how.eq_ignore_ascii_case(b"ASYNC"));
    if known && words.left() == 0 { ask(Verb::Clear, Reply::Word("OK")) } else { Err(invalid("syntax error")) }
}

fn scan<'a>(mut words: Words<'a>) -> Result<'a> {
    let cursor: u64 = number(words.next().unwrap_or_default()).ok_or_else(|| invalid("invalid cursor"))?;
    let (mut pattern, mut limit, mut shows) = (None, DEFAULT_SCAN_COUNT, true);
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| invalid("syntax error"))?;
        if option.eq_ignore_ascii_case(b"MATCH") {
            pattern = Some(Pattern::new(value).ok_or_else(|| {
                let bytes = value.len();
                let message = format!("pattern of {bytes} bytes is larger than the limit of {MAX_PATTERN_BYTES} bytes");
                WireError::new(ErrorCode::TooLarge, message)
            })?);
        } else if option.eq_ignore_ascii_case(b"COUNT") {
            let count: u64 = number(value).ok_or_else(|| invalid("value is not an integer or out of range"))?;
            if count == 0 {
                return Err(invalid("syntax error; COUNT is at least 1"));
            }
            limit = u32::try_from(count).unwrap_or(MAX_PAGE_ENTRIES).min(MAX_PAGE_ENTRIES);
        } else if option.eq_ignore_ascii_case(b"TYPE") {
            // Every value is a string, as Redis calls it.
            shows = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(invalid("syntax error"));
        }
    }
    let prefix = pattern.as_ref().map(Pattern::prefix).unwrap_or_default();
    let cursor = (cursor != 0).then(|| cursor.to_string());
    let verb = Verb::Scan { prefix, cursor, limit: Some(limit), values: false, numbered: true };
    ask(verb, Reply::Page { pattern, shows })
}

/// A whole number in decimal digits.
pub(super) fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

pub(super) fn invalid(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::InvalidRequest, message)
}

fn wrong_count(command: &CommandInfo) -> WireError {
    invalid(format!("wrong number of arguments for '{}' command", command.name))
}

/// In Redis' words, with the beginning of what was sent.
fn unknown(name: &[u8], words: Words<'_>) -> WireError {
    let mut message = format!("unknown command '{}', with args beginning with:", quoted(name));
    for word in words {
        if message.len() > 2 * QUOTED_BYTES {
            break;
        }
        write!(message, " '{}'", quoted(word)).expect("a string takes everything");
    }
    WireError::new(ErrorCode::UnknownVerb, message)
}

/// The beginning of a word, escaped.
pub(super) fn quoted(word: &[u8]) -> String {
    word[..word.len().min(QUOTED_BYTES)].escape_ascii().to_string()
}
