//! `Decoder`: requests out of the bytes of one connection.
//!
//! What must hold: a command with many keys becomes one request for each, taken one at a time, so that whoever takes
//! them keeps its bounds; its bytes stay where they are until the last of them.

use super::frame::{ProtocolError, Seen, Words};
use super::hello::Greeting;
use super::read::{self, Each, Read};
use super::reply::Reply;
use crate::request::Verb;
use crate::response::WireError;

/// The requests of one connection.
#[derive(Debug)]
pub struct Decoder {
    seen: Seen,
    /// The command of many keys at the front, of which some have been taken.
    open: Option<Open>,
    greeting: Greeting,
}

/// A command of many keys.
#[derive(Debug, Clone, Copy)]
struct Open {
    each: Each,
    /// Where its next key begins.
    at: usize,
    /// Keys that have not been taken.
    left: usize,
    /// Keys in all.
    total: usize,
    /// Where the command ends.
    end: usize,
}

/// What stands at the front of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// How many bytes the caller is to take away now.
    pub taken_bytes: usize,
    /// What to do.
    pub what: What,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A command without words: nothing, and nothing is answered.
    Nothing,
    /// Do this, and spell the answer so.
    Ask(Verb, Reply),
    /// As [`Ask`](Self::Ask), and read nothing more.
    Last(Verb, Reply),
    /// Answer this error in its turn; the connection goes on.
    Refuse(WireError),
}

impl Decoder {
    /// The decoder of a connection that the server knows by this number.
    #[must_use]
    pub fn new(connection: u64) -> Self {
        Self { seen: Seen::default(), open: None, greeting: Greeting::new(connection) }
    }

    /// The next request, or `None` when more bytes must arrive. `bytes` are those that have arrived and were not taken;
    /// a command is at most `limit_bytes` long.
    ///
    /// # Errors
    /// What arrived is no RESP2; nothing more can be read.
    pub fn next(&mut self, bytes: &[u8], limit_bytes: usize) -> Result<Option<Step>, ProtocolError> {
        if let Some(open) = self.open {
            return Ok(Some(self.take_key(open, bytes)));
        }
        let Some(end) = self.seen.end(bytes, limit_bytes)? else { return Ok(None) };
        self.seen = Seen::default();
        let what = match read::command(Words::of(&bytes[..end]), &mut self.greeting) {
            Read::Nothing => What::Nothing,
            Read::Ask(verb, reply) => What::Ask(verb, reply),
            Read::Last(verb, reply) => What::Last(verb, reply),
            Read::Refuse(error) => What::Refuse(error),
            Read::Each(each, keys) => {
                let left = keys.left();
                let open = Open { each, at: keys.place(), left, total: left, end };
                return Ok(Some(self.take_key(open, bytes)));
            }
        };
        Ok(Some(Step { taken_bytes: end, what }))
    }

    /// Takes the next key of a command.
    fn take_key(&mut self, mut open: Open, bytes: &[u8]) -> Step {
        let mut keys = Words::from(&bytes[..open.end], open.at, open.left);
        let key = keys.next().expect("a command of many keys is left open as long as it has one").to_vec();
        let is_first = open.left == open.total;
        (open.at, open.left) = (keys.place(), keys.left());
        let is_last = open.left == 0;
        let (verb, reply) = match open.each {
            Each::Get => (Verb::Get { key }, Reply::Element { of: is_first.then_some(open.total) }),
            Each::Exists => (Verb::Exists { key }, Reply::Tally { is_last }),
            Each::Remove => (Verb::Remove { key }, Reply::Tally { is_last }),
        };
        let taken_bytes = if is_last { open.end } else { 0 };
        self.open = (!is_last).then_some(open);
        Step { taken_bytes, what: What::Ask(verb, reply) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 10_000;

    fn all(text: &str) -> Vec<What> {
        let (mut decoder, mut bytes, mut found) = (Decoder::new(7), text.as_bytes(), Vec::new());
        while let Some(Step { taken_bytes, what }) = decoder.next(bytes, LIMIT).unwrap() {
            bytes = &bytes[taken_bytes..];
            found.push(what);
        }
        assert_eq!(bytes, b"");
        found
    }

    #[test]
    fn many_keys_are_many_requests() {
        let found = all("*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n*2\r\n$3\r\ndel\r\n$1\r\nc\r\n*0\r\n");
        let key = |key: &str| key.as_bytes().to_vec();
        assert_eq!(
            found,
            [
                What::Ask(Verb::Get { key: key("a") }, Reply::Element { of: Some(2) }),
                What::Ask(Verb::Get { key: key("b") }, Reply::Element { of: None }),
                What::Ask(Verb::Remove { key: key("c") }, Reply::Tally { is_last: true }),
                What::Nothing,
            ]
        );
    }
}
