//! The checkpoint of the index, over a store of two segments.
//!
//! | byte | meaning |
//! |---|---|
//! | 0 | 0: the rest is the file; else it is made of what follows, with lengths and checksums that fit; 3: of version 3, others: 2 |
//! | 1 | the checkpoint's sequence |
//! | 2… | up to a newline: what its last line says of segments, as JSON |
//! | then | 13 bytes for each entry: shard (up to 15: that of this key, and its hash), hash, place; all little-endian |
#![no_main]

use kvs_engine::fuzzing;
use kvs_fuzz::folder::{LOG, put, two_segments};
use kvs_fuzz::store;
use libfuzzer_sys::fuzz_target;

/// Shards of the index, each with a block of the file.
const SHARDS: usize = 256;
/// The key of the hash, as the file names it.
const HASH_KEY: [u8; 16] = [7; 16];
/// Bytes of an entry of the input.
const ENTRY_BYTES: usize = 13;

fuzz_target!(|input: &[u8]| {
    let Some((&made, rest)) = input.split_first() else { return };
    let file = if made == 0 { rest.to_vec() } else { made_of(rest, if made == 3 { 3 } else { 2 }) };
    let (storage, _) = two_segments();
    put(&storage, "CHECKPOINT", &file);
    store::check(&storage);
});

/// A checkpoint's file of the parts that an input gives.
fn made_of(input: &[u8], version: u32) -> Vec<u8> {
    let Some((&sequence, rest)) = input.split_first() else { return Vec::new() };
    let sequence = u64::from(sequence);
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (segments, entries) = (&rest[..end], rest.get(end + 1..).unwrap_or(&[]));
    let mut shards: Vec<Vec<(u32, u64)>> = vec![Vec::new(); SHARDS];
    let mut count = 0;
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let (&[shard], rest) = entry.split_first_chunk().expect("thirteen bytes");
        let (hash, place) = rest.split_first_chunk().expect("twelve bytes");
        let place = u64::from_le_bytes(place.try_into().expect("eight bytes"));
        let (shard, hash) = match shard {
            0..=15 => fuzzing::hash(HASH_KEY, shard.to_string().as_bytes()),
            shard => (usize::from(shard), u32::from_le_bytes(*hash)),
        };
        shards[shard].push((hash, place));
        count += 1;
    }
    let hash_key: String = HASH_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(r#"{{"checkpoint":{{"version":{version},"log":"{LOG}","hash_key":"{hash_key}"}}}}"#);
    let mut file = fuzzing::line(sequence, sequence, head.as_bytes());
    for mut entries in shards {
        entries.sort_unstable();
        file.extend(if version == 2 { block_of_version_2(&entries) } else { fuzzing::block(&entries) });
    }
    let mut foot = format!(r#"{{"covered":{{"entries":{count},"segments":"#).into_bytes();
    foot.extend(segments);
    foot.extend(b"}}");
    file.extend(fuzzing::line(sequence, sequence, &foot));
    file
}

/// The entries of a shard as version 2 wrote them.
fn block_of_version_2(entries: &[(u32, u64)]) -> Vec<u8> {
    let mut block = u32::try_from(entries.len()).expect("an input is short").to_le_bytes().to_vec();
    entries.iter().for_each(|(hash, _)| block.extend(hash.to_le_bytes()));
    entries.iter().for_each(|(_, place)| block.extend(place.to_le_bytes()));
    [&fuzzing::checksum(&block).to_le_bytes()[..], &block].concat()
}
