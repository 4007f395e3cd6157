//! Bytes of RESP2: what is read does not depend on how they arrive, and every answer can be spelled.
//!
//! The first byte is how many bytes arrive at a time.
#![no_main]

use kvs_protocol::resp::{Decoder, ProtocolError, Replies, Reply, Step, What};
use kvs_protocol::{Answer, WireError};
use libfuzzer_sys::fuzz_target;

/// The longest command, in bytes.
const LIMIT_BYTES: usize = 2048;

/// Everything that is read from bytes that arrive in pieces.
fn read(bytes: &[u8], piece_bytes: usize) -> (Vec<What>, Option<ProtocolError>) {
    let (mut decoder, mut arrived, mut found) = (Decoder::new(1), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece_bytes.max(1)) {
        arrived.extend_from_slice(piece);
        loop {
            match decoder.next(&arrived, LIMIT_BYTES) {
                Ok(None) => break,
                Ok(Some(Step { taken_bytes, what })) => {
                    arrived.drain(..taken_bytes);
                    found.push(what);
                }
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(arrived.len() <= LIMIT_BYTES + piece_bytes, "more is held than a command may have");
    }
    (found, None)
}

/// Spells an answer of every kind in the shape of a request.
fn spell(reply: &Reply, replies: &mut Replies, out: &mut Vec<u8>) {
    let answers = [Answer::Null, Answer::Bytes(b"v".to_vec()), Answer::Bool(true), Answer::Number(7)];
    for answer in answers {
        replies.encode(reply.clone(), Ok(answer), out);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, bytes)) = input.split_first() else { return };
    let (found, error) = read(bytes, bytes.len());
    let (again, same) = read(bytes, usize::from(piece));
    assert_eq!((&found, error), (&again, same));
    let (mut replies, mut out) = (Replies::default(), Vec::new());
    for what in &found {
        match what {
            What::Nothing => {}
            What::Ask(_, reply) | What::Last(_, reply) => spell(reply, &mut replies, &mut out),
            What::Refuse(WireError { code, message }) => {
                assert!(message.len() < 1024, "{message}");
                replies.encode(Reply::Value, Err(WireError::new(*code, message.clone())), &mut out);
            }
        }
    }
});
