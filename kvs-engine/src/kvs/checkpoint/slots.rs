//! Stories of slots: what a checkpoint calls a segment by, and segments that it does not know.

use std::sync::Arc;

use super::{CHECKPOINT_NAME, Covered, Unusable, Writer, read};
use crate::engine::KvsEngine;
use crate::kvs::KvStore;
use crate::kvs::index::{HashKey, Index, SHARDS};
use crate::kvs::location::{Location, MAX_SLOTS};
use crate::kvs::record;
use crate::log::coverage::Folder;
use crate::log::frame;
use crate::log::manifest::{FORMAT_VERSION, Holds, MAX_NUMBER, Manifest, Sealed, SegmentEntry};
use crate::log::segment::{MAX_FILE_BYTES, header_line, name_of};
use crate::operation::Mutation;
use crate::options::Options;
use crate::storage::{MemoryStorage, Storage, write_all_at};

const LOG: &str = "00112233445566778899aabbccddeeff";

fn put(storage: &MemoryStorage, name: &str, bytes: &[u8]) {
    write_all_at(storage.create(name).unwrap().as_ref(), bytes, 0).unwrap();
}

/// A segment of one record, which sets a key to its own name.
fn segment(storage: &MemoryStorage, id: u64, sequence: u64, key: &str) -> (u64, u64) {
    let mut bytes = header_line(LOG, id);
    let offset = bytes.len() as u64;
    let set = Mutation::Set { key: key.into(), value: key.into() };
    frame::append_line(&mut bytes, sequence, sequence - 1, &record::encode(&set));
    put(storage, &name_of(id), &bytes);
    (offset, bytes.len() as u64)
}

/// A folder whose checkpoint knows segment 2 by a slot, and not segment 1, which was listed later.
fn folder(slot: u32) -> MemoryStorage {
    let storage = MemoryStorage::new();
    segment(&storage, 1, 2, "new");
    let (offset, bytes) = segment(&storage, 2, 1, "old");
    let sealed = Some(Sealed { bytes, records: 1, first: 1, last: 1, compacted_at: Some(1) });
    let manifest = Manifest {
        version: FORMAT_VERSION,
        log: LOG.into(),
        holds: Holds::Records,
        generation: 9,
        durable: 2,
        sealed_through: 1,
        segments: vec![SegmentEntry { id: 1, sealed: None }, SegmentEntry { id: 2, sealed }],
    };
    manifest.write(&storage).unwrap();
    let index = Index::new(HashKey([7; 16]));
    let hash = index.hash(b"old");
    index.lock(hash).insert(hash, Location::new(slot, offset, false, bytes - offset));
    let file = storage.create(CHECKPOINT_NAME).unwrap();
    let mut writer = Writer::begin(file.as_ref(), 1, LOG, index.hash_key()).unwrap();
    index.for_each_shard(|shard| {
        writer.block(&shard.entries_from(0).collect::<Vec<_>>()).unwrap();
    });
    writer.finish(vec![Covered { slot, id: 2, sealed_bytes: Some(bytes), kept_bytes: 0 }]).unwrap();
    storage
}

#[test]
fn a_segment_that_is_not_known_gets_no_slot_of_one_that_is() {
    let storage = folder(0);
    let unusable = read(&storage, &Folder::read(&storage).unwrap()).err();
    assert!(unusable.is_none(), "this is about a checkpoint that is used: {unusable:?}");
    let store = KvStore::open_storage(Arc::new(storage), Options::default()).unwrap();
    for key in ["old", "new"] {
        assert_eq!(store.get(key).unwrap(), Some(key.into()));
    }
}

#[test]
fn a_slot_that_no_segment_can_have_costs_no_memory() {
    let storage = folder(MAX_SLOTS - 1);
    assert!(read(&storage, &Folder::read(&storage).unwrap()).is_ok());
    let storage = folder(0);
    let file = storage.create("other").unwrap();
    let mut writer = Writer::begin(file.as_ref(), 1, LOG, HashKey([7; 16])).unwrap();
    for _ in 0..SHARDS {
        writer.block(&[]).unwrap();
    }
    writer.finish(vec![Covered { slot: u32::MAX, id: 2, sealed_bytes: None, kept_bytes: 0 }]).unwrap();
    storage.rename("other", CHECKPOINT_NAME).unwrap();
    let unusable = read(&storage, &Folder::read(&storage).unwrap()).err();
    assert!(matches!(unusable, Some(Unusable::Damaged(_))), "{unusable:?}");
}

#[test]
fn a_segment_that_is_listed_twice_makes_a_checkpoint_useless() {
    let storage = folder(0);
    let bytes = storage.open(&name_of(2)).unwrap().length().unwrap();
    let index = Index::new(HashKey([7; 16]));
    let hash = index.hash(b"new");
    index.lock(hash).insert(hash, Location::new(0, bytes / 2, false, 100));
    let file = storage.create("other").unwrap();
    let mut writer = Writer::begin(file.as_ref(), 1, LOG, index.hash_key()).unwrap();
    index.for_each_shard(|shard| {
        writer.block(&shard.entries_from(0).collect::<Vec<_>>()).unwrap();
    });
    let listed = |slot| Covered { slot, id: 2, sealed_bytes: Some(bytes), kept_bytes: 0 };
    writer.finish(vec![listed(0), listed(1)]).unwrap();
    storage.rename("other", CHECKPOINT_NAME).unwrap();
    // An entry of the first slot would name a segment that nobody has.
    let store = KvStore::open_storage(Arc::new(storage), Options::default()).unwrap();
    assert_eq!(store.get("new").unwrap(), Some("new".into()));
}

/// A checkpoint whose checksums fit and whose numbers nobody writes: the store opens without it, goes on, and opens again.
#[test]
fn numbers_that_nobody_writes_make_a_checkpoint_useless() {
    let known = |id, kept_bytes| Covered { slot: 1, id, sealed_bytes: None, kept_bytes };
    for known in [known(u64::MAX, 0), known(MAX_NUMBER + 1, 0), known(2, u64::MAX), known(2, MAX_FILE_BYTES + 1)] {
        let storage = folder(0);
        let file = storage.create("other").unwrap();
        let mut writer = Writer::begin(file.as_ref(), 1, LOG, HashKey([7; 16])).unwrap();
        for _ in 0..SHARDS {
            writer.block(&[]).unwrap();
        }
        writer.finish(vec![known]).unwrap();
        storage.rename("other", CHECKPOINT_NAME).unwrap();
        let open = || KvStore::open_storage(Arc::new(storage.clone()), Options::default()).unwrap();
        let store = open();
        store.set("new", "newer").unwrap();
        store.compact().unwrap();
        store.close().unwrap();
        let unusable = read(&storage, &Folder::read(&storage).unwrap()).err();
        assert!(!matches!(unusable, Some(Unusable::Damaged(_))), "{known:?} is still there: {unusable:?}");
        let store = open();
        assert_eq!(store.get("old").unwrap(), Some("old".into()), "{known:?}");
        assert_eq!(store.get("new").unwrap(), Some("newer".into()), "{known:?}");
    }
}
