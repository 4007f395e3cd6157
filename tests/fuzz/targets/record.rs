//! A line of the log, and the record in it.
//!
//! The first byte is the length of a key, which stands behind it; the rest is a line, or the payload of one.
#![no_main]

use kvs_engine::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzzing::check_line(input);
    let Some((&count, rest)) = input.split_first() else { return };
    let (key, payload) = rest.split_at(rest.len().min(usize::from(count)));
    fuzzing::check_record(payload, key);
    if !payload.contains(&b'\n') {
        fuzzing::check_line(&fuzzing::line(u64::from(count), 0, payload));
    }
});
