//! A command's bytes: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`.
//!
//! | part | form | limit |
//! |---|---|---|
//! | count | `*`, digits, CR LF | [`MAX_ARGUMENTS`]; zero and below ask for nothing |
//! | each word | `$`, digits, CR LF, so many bytes, CR LF | the whole command within the frame's limit |
//!
//! An empty line in a command's place asks for nothing: `redis-cli --pipe` sends one behind what it was given.
//!
//! What must hold: a word whose end has been seen is not looked at again until the command is complete.

use crate::limits::MAX_BATCH_CHANGES;

/// The most words of one command: an MSET of the largest batch.
pub const MAX_ARGUMENTS: usize = 2 * MAX_BATCH_CHANGES + 1;
/// A line without a word.
const EMPTY_LINE: &[u8] = b"\r\n";
/// The most digits of a number: more than any length within the limits has.
const MAX_DIGITS: usize = 10;

/// What the sender sent is not RESP2. Nothing after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Another byte stands where a count or a word must begin.
    #[error("Protocol error: expected '{expected}', got '{}'", char::from(*.found).escape_default())]
    Expected {
        /// What must stand there.
        expected: char,
        /// What stands there.
        found: u8,
    },
    /// The count of words is no number, or too large.
    #[error("Protocol error: invalid multibulk length; a command has at most {MAX_ARGUMENTS} words")]
    Count,
    /// The length of a word is no number, or below zero.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// A word is not followed by a line end.
    #[error("Protocol error: a word of the announced length does not end there")]
    Unended,
    /// The command is too long.
    #[error("Protocol error: a command is longer than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

/// How much of the command at the front has been seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Whether its count has been read.
    begun: bool,
    /// Where the next word begins.
    at: usize,
    /// Words that have not been seen.
    left: usize,
}

impl Seen {
    /// Where the command ends, or `None` when more bytes must arrive. `bytes` begin where the command does.
    pub(super) fn end(&mut self, bytes: &[u8], limit_bytes: usize) -> Result<Option<usize>, ProtocolError> {
        if !self.begun && bytes.first() == Some(&EMPTY_LINE[0]) {
            return match bytes.get(1) {
                None => Ok(None),
                Some(next) if *next == EMPTY_LINE[1] => Ok(Some(EMPTY_LINE.len())),
                Some(_) => Err(ProtocolError::Expected { expected: '*', found: EMPTY_LINE[0] }),
            };
        }
        if !self.begun {
            let Some((count, at)) = number(bytes, 0, '*', ProtocolError::Count)? else { return Ok(None) };
            let left = usize::try_from(count).unwrap_or(0);
            if left > MAX_ARGUMENTS {
                return Err(ProtocolError::Count);
            }
            *self = Self { begun: true, at, left };
        }
        while self.left > 0 {
            let Some((length, start)) = number(bytes, self.at, '$', ProtocolError::Length)? else { return Ok(None) };
            let length = usize::try_from(length).map_err(|_| ProtocolError::Length)?;
            let end = start.saturating_add(length).saturating_add(2);
            if end > limit_bytes {
                return Err(ProtocolError::TooLarge { limit_bytes });
            }
            match bytes.get(end - 2..end) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::Unended),
            }
            (self.at, self.left) = (end, self.left - 1);
        }
        Ok(Some(self.at))
    }
}

/// The number behind a mark, and the place behind its line end; `None` when more bytes must arrive.
fn number(bytes: &[u8], at: usize, mark: char, wrong: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let Some(&found) = bytes.get(at) else { return Ok(None) };
    if char::from(found) != mark {
        return Err(ProtocolError::Expected { expected: mark, found });
    }
    let is_negative = bytes.get(at + 1) == Some(&b'-');
    let first = at + 1 + usize::from(is_negative);
    let (mut place, mut number) = (first, 0_i64);
    loop {
        match bytes.get(place) {
            None => return Ok(None),
            Some(digit @ b'0'..=b'9') if place - first < MAX_DIGITS => number = number * 10 + i64::from(digit - b'0'),
            Some(b'\r') if place > first => break,
            Some(_) => return Err(wrong),
        }
        place += 1;
    }
    match bytes.get(place + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if is_negative { -number } else { number }, place + 2))),
        Some(_) => Err(wrong),
    }
}

/// The words of a command whose end has been seen.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    /// Where the next word begins.
    at: usize,
    left: usize,
}

impl<'a> Words<'a> {
    /// The words of a whole command.
    pub(super) fn of(command: &'a [u8]) -> Self {
        if command == EMPTY_LINE {
            return Self { bytes: command, at: 0, left: 0 };
        }
        let (count, at) = seen(number(command, 0, '*', ProtocolError::Count));
        Self { bytes: command, at, left: usize::try_from(count).unwrap_or(0) }
    }

    /// The words of a whole command from the one at a place on.
    pub(super) fn from(command: &'a [u8], at: usize, left: usize) -> Self {
        Self { bytes: command, at, left }
    }

    /// How many are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Where the next one begins.
    pub(super) fn place(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (length, start) = seen(number(self.bytes, self.at, '$', ProtocolError::Length));
        let end = start + usize::try_from(length).expect("a length that was seen is not below zero");
        self.at = end + 2;
        Some(&self.bytes[start..end])
    }
}

fn seen(number: Result<Option<(i64, usize)>, ProtocolError>) -> (i64, usize) {
    number.ok().flatten().expect("the end of the command has been seen, so its numbers are sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    #[test]
    fn a_command_is_found_however_it_arrives() {
        let command = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n$1\r\n";
        let mut seen = Seen::default();
        for end in 0..command.len() {
            assert_eq!(seen.end(&command[..end], LIMIT), Ok(None), "{end} bytes");
        }
        assert_eq!(seen.end(&[&command[..], b"*1\r\n"].concat(), LIMIT), Ok(Some(command.len())));
        let words: Vec<&[u8]> = Words::of(command).collect();
        assert_eq!(words, [&b"SET"[..], b"k", b"\r\n$1"]);
        for nothing in [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n"] {
            assert_eq!(Seen::default().end(nothing, LIMIT), Ok(Some(nothing.len())));
            assert_eq!(Words::of(nothing).left(), 0);
        }
    }

    #[test]
    fn the_first_bad_byte_is_known() {
        for (bytes, error) in [
            (&b"GET k\r\n"[..], ProtocolError::Expected { expected: '*', found: b'G' }),
            (b"\r*1", ProtocolError::Expected { expected: '*', found: b'\r' }),
            (b"*1\r\n:3\r\n", ProtocolError::Expected { expected: '$', found: b':' }),
            (b"*x\r\n", ProtocolError::Count),
            (b"*\r\n", ProtocolError::Count),
            (b"*--1\r\n", ProtocolError::Count),
            (b"*1\rx", ProtocolError::Count),
            (b"*99999999999", ProtocolError::Count),
            (b"*20002\r\n", ProtocolError::Count),
            (b"*1\r\n$-1\r\n", ProtocolError::Length),
            (b"*1\r\n$x", ProtocolError::Length),
            (b"*1\r\n$1\r\nab\r\n", ProtocolError::Unended),
            (b"*1\r\n$1001\r\n", ProtocolError::TooLarge { limit_bytes: LIMIT }),
            (b"*1\r\n$9999999999\r\n", ProtocolError::TooLarge { limit_bytes: LIMIT }),
        ] {
            assert_eq!(Seen::default().end(bytes, LIMIT), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
