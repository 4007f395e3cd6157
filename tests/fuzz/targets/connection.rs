//! A whole connection, from the first byte to the close: it ends, and what it answers does not depend on how the bytes
//! arrive.
//!
//! The first byte says whether the server asks for a token, and how many bytes arrive at a time.
#![no_main]

use kvs_server::fuzzing::{self, Guard};
use kvs_server::limits::MAX_FAILED_AUTHS;
use libfuzzer_sys::fuzz_target;

/// More than the answers to an input of the longest length ever take, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let (guard, piece) = (if first < 128 { Guard::Open } else { Guard::Token }, usize::from(first % 128).max(1));
    let answered = fuzzing::converse(guard, bytes, piece);
    assert!(answered.len() <= MAX_ANSWER_BYTES);
    // What tells of time, of other connections or of this store's own numbers differs from run to run.
    let differs = [&b"info"[..], b"client", b"hello", b"scan", b"backup"];
    let lower = bytes.to_ascii_lowercase();
    let count = |word: &[u8]| lower.windows(word.len()).filter(|window| *window == word).count();
    // And who has failed too often is closed when it is noticed, which depends on what had been read until then.
    let is_expelled = count(b"auth") >= MAX_FAILED_AUTHS as usize;
    if !is_expelled && differs.iter().all(|word| count(word) == 0) {
        assert_eq!(answered, fuzzing::converse(guard, bytes, bytes.len()));
    }
});
