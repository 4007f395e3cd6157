//! What the fuzz targets of `tests/fuzz` need beyond the public interface. Built with `--cfg fuzzing` only.

#![expect(clippy::missing_panics_doc, reason = "to panic is what a check of a fuzz target is for")]

use crate::kvs::checkpoint;
use crate::kvs::index::{HashKey, Index};
use crate::kvs::record;
use crate::log::frame;
use crate::log::manifest::Manifest;
use crate::operation::Mutation;
use crate::storage::Storage;

/// A line in the log's frame.
#[must_use]
pub fn line(sequence: u64, durable_sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    frame::append_line(&mut line, sequence, durable_sequence, payload);
    line
}

/// A record as this program writes it, from one that another one may have written; `None` when it is no record.
#[must_use]
pub fn canonical(payload: &[u8]) -> Option<Vec<u8>> {
    let (elements, batch) = record::decode(payload).ok()?;
    let written: Vec<Vec<u8>> = elements.iter().map(|element| record::encode(&element.mutation)).collect();
    Some(if batch { record::join_batch(&written) } else { written.into_iter().next()? })
}

/// The shard of a key in an index with this secret, and its hash within.
#[must_use]
pub fn hash(secret: [u8; 16], key: &[u8]) -> (usize, u32) {
    let hash = Index::new(HashKey(secret)).hash(key);
    (hash.shard, hash.bits)
}

/// The block of a checkpoint with these entries, hash and place as they are in memory, in the order of their hashes.
#[must_use]
pub fn block(entries: &[(u32, u64)]) -> Vec<u8> {
    checkpoint::block_of(entries)
}

/// The checksum of lines and blocks.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// What is read as a line is what would be written as that line.
pub fn check_line(bytes: &[u8]) {
    let announced = frame::announced_bytes(bytes);
    if let Ok(read) = frame::read_line(bytes) {
        assert_eq!(announced, Some(read.bytes()));
        let lag = u64::from(read.lag);
        if lag <= read.sequence && read.lag != frame::LAG_UNKNOWN {
            assert_eq!(line(read.sequence, read.sequence - lag, read.payload), bytes[..read.bytes()]);
        }
    }
}

/// What is read as a record and written is read as the same; and what was written is read without a parser as with one.
pub fn check_record(payload: &[u8], key: &[u8]) {
    let _ = (record::is_about(payload, key), record::last_word(payload, key));
    let Ok((elements, batch)) = record::decode(payload) else { return };
    let Some(written) = canonical(payload) else { return };
    let (again, batch_again) = record::decode(&written).expect("what is written is read");
    let mutations: Vec<&Mutation> = elements.iter().map(|element| &element.mutation).collect();
    assert_eq!(again.iter().map(|element| &element.mutation).collect::<Vec<_>>(), mutations);
    assert_eq!(batch, batch_again);
    for key in mutations.iter().map(|mutation| mutation.key()).chain([key]) {
        let last = mutations.iter().rev().find(|mutation| mutation.key() == key);
        let word = last.map(|mutation| match mutation {
            Mutation::Set { value, .. } => Some(value.clone()),
            Mutation::Remove { .. } => None,
        });
        assert_eq!(record::is_about(&written, key).expect("what is written is read"), word.is_some());
        assert_eq!(record::last_word(&written, key).expect("what is written is read"), word);
    }
}

/// The manifest of a folder, if it has one that is accepted, comes back when it is written again.
pub fn check_manifest(storage: &dyn Storage) {
    let Ok(Some(manifest)) = Manifest::read(storage) else { return };
    manifest.write(storage).expect("memory takes it");
    assert_eq!(Manifest::read(storage).expect("what is written is read"), Some(manifest));
}
