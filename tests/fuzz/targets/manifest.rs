//! The manifest, alone and with the files that it lists.
//!
//! The first byte says whether the rest is the file or, if it is odd, the payload of its line.
#![no_main]

use kvs_engine::fuzzing;
use kvs_engine::storage::MemoryStorage;
use kvs_fuzz::folder::{header, put, segment_name};
use kvs_fuzz::store;
use libfuzzer_sys::fuzz_target;

/// Segments that are given a file, so that the store gets past them.
const FILES: u64 = 8;
/// Bytes of those files.
const FILE_BYTES: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let Some((&mended, file)) = input.split_first() else { return };
    let file = match mended & 1 {
        0 => file.to_vec(),
        _ if file.contains(&b'\n') => return,
        _ => fuzzing::line(generation(file).unwrap_or(1), 0, file),
    };
    let storage = MemoryStorage::new();
    put(&storage, "MANIFEST", &file);
    fuzzing::check_manifest(&storage);
    for id in 1..=FILES {
        let mut bytes = header(id);
        bytes.resize(FILE_BYTES, 0);
        put(&storage, &segment_name(id), &bytes);
    }
    store::check(&storage);
});

/// The generation that a payload names, which its line's sequence must repeat.
fn generation(payload: &[u8]) -> Option<u64> {
    let name = br#""generation":"#;
    let start = payload.windows(name.len()).position(|window| window == name)? + name.len();
    let digits: Vec<u8> = payload[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}
