//! A line of JSON, as a request and as a response: what is read is what would be written, and no refusal is long.
#![no_main]

use kvs_protocol::{Request, Response};
use libfuzzer_sys::fuzz_target;

/// The longest refusal, in bytes: it never repeats what was sent.
const MAX_REFUSAL_BYTES: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let mut written = Vec::new();
    match Request::decode(input) {
        Ok(request) => {
            request.encode(&mut written);
            let line = written.strip_suffix(b"\n").expect("a request ends its line");
            assert!(!line.contains(&b'\n'));
            assert_eq!(Request::decode(line).expect("what is written is read"), request);
        }
        Err(refusal) => {
            refusal.encode(&mut written);
            assert!(written.len() <= MAX_REFUSAL_BYTES, "{}", String::from_utf8_lossy(&written));
        }
    }
    if let Ok(response) = Response::decode(input) {
        let mut written = Vec::new();
        response.encode(&mut written);
        let line = written.strip_suffix(b"\n").expect("a response ends its line");
        assert_eq!(Response::decode(line).expect("what is written is read"), response);
    }
});
