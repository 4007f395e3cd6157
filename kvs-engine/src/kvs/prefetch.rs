//! Bringing what some keys need nearer, before they are looked up one after the other: first the index's slots of all,
//! then the records of all, so that each waits for memory while the others do. A compaction, which has the records,
//! needs the slots alone.
//!
//! What must hold: nothing is decided here. Whatever changes until a key is looked up costs the gain, no more.

use super::index::KeyHash;
use super::record;
use super::store::Core;
use crate::log::frame;
use crate::prefetch::{self, LINE_BYTES};

/// How many keys are brought nearer together: more would push each other out of the nearest cache.
pub(super) const KEYS: usize = 32;
/// How much of a long record is brought nearer, in bytes: the processor itself fetches what is read in order.
const RECORD_BYTES: usize = 512;

impl Core {
    /// Brings what these keys need nearer.
    pub(super) fn prefetch(&self, keys: &[&[u8]]) {
        for keys in keys.chunks(KEYS) {
            let mut hashes = [KeyHash::at(0, 0); KEYS];
            for (hash, key) in hashes.iter_mut().zip(keys) {
                *hash = self.index.hash(key);
                self.index.lock(*hash).prefetch(*hash);
            }
            for hash in &hashes[..keys.len()] {
                self.prefetch_record(*hash);
            }
        }
    }

    /// Brings nearer what the index has of these hashes.
    pub(super) fn prefetch_slots(&self, hashes: impl Iterator<Item = KeyHash>) {
        hashes.for_each(|hash| self.index.lock(hash).prefetch(hash));
    }

    /// Brings nearer what the index has of the keys of the first lines, and returns the bytes of those lines. They are
    /// not verified yet: what is wrong with one is found by who reads it.
    pub(super) fn prefetch_lines(&self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        for _ in 0..KEYS {
            let Some((line, behind)) = frame::announced_bytes(rest).and_then(|count| rest.split_at_checked(count))
            else {
                break;
            };
            if let Some(key) = record::key_of_set(&line[frame::PREFIX_BYTES..line.len() - 1]) {
                let hash = self.index.hash(&key);
                self.index.lock(hash).prefetch(hash);
            }
            rest = behind;
        }
        (lines.len() - rest.len()) as u64
    }

    fn prefetch_record(&self, hash: KeyHash) {
        let (place, view) = {
            let shard = self.index.lock(hash);
            let Some(place) = shard.candidates(hash).next() else { return };
            // Under the lock: a segment goes only after the index names it no more.
            (place, self.log.view())
        };
        let Some(bytes) = view.segment(place.slot()).mapped() else { return };
        let offset = usize::try_from(place.offset()).expect("an offset into memory");
        let length = place.line_bytes_at_most().unwrap_or(LINE_BYTES).min(RECORD_BYTES);
        (offset..offset + length).step_by(LINE_BYTES).for_each(|place| prefetch::element(bytes, place));
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::MemoryStorage;
    use crate::sync::Arc;
    use crate::{KvStore, KvsEngine, Mutation, Options};

    #[test]
    fn whatever_is_brought_nearer_is_as_it_was() {
        let options = Options { segment_bytes: 4 * 1024, ..Options::default() };
        let store = KvStore::open_storage(Arc::new(MemoryStorage::new()), options).unwrap();
        let keys: Vec<String> = (0..300).map(|number| format!("key {number}")).collect();
        // Long values in sealed segments, batches, and the last ones in the segment that takes appends.
        for (number, key) in keys.iter().enumerate().skip(1) {
            match number % 3 {
                0 => store.set(key.as_str(), "x".repeat(number * 10)).unwrap(),
                1 => store.set(key.as_str(), "y").unwrap(),
                _ => store.write_batch(vec![Mutation::Set { key: key.clone().into(), value: b"z".to_vec() }]).unwrap(),
            }
        }
        let asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        store.prefetch(&asked);
        store.prefetch(&[]);
        for (number, key) in keys.iter().enumerate() {
            let value = store.get(key.as_str()).unwrap();
            let expected = match number % 3 {
                _ if number == 0 => None,
                0 => Some("x".repeat(number * 10).into_bytes()),
                1 => Some(b"y".to_vec()),
                _ => Some(b"z".to_vec()),
            };
            assert_eq!(value, expected, "{key}");
        }
    }
}
