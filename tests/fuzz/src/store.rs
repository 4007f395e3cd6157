//! What must hold of a store that opened a folder of hostile files.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Error, KvStore, KvsEngine, Options, Scan};

/// The smallest segments that there are: an input fills some.
const SEGMENT_BYTES: u64 = 4 * 1024;

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(storage: &MemoryStorage) -> Result<KvStore, Error> {
    let options = Options { segment_bytes: SEGMENT_BYTES, compaction_threshold_bytes: u64::MAX, ..Options::default() };
    KvStore::open_storage(Arc::new(storage.clone()), options)
}

/// Everything in a store. Records that no program of ours wrote, though their checksums fit, may make it fail.
fn content(store: &KvStore) -> Result<Content, Error> {
    let mut content = Content::new();
    let mut scan = Scan::default();
    loop {
        let page = store.scan(&scan)?;
        for entry in page.entries {
            let value = entry.value.expect("values were asked for");
            assert!(content.insert(entry.key, value).is_none(), "a scan shows a key twice");
        }
        match page.next {
            None => return Ok(content),
            next => scan.after = next,
        }
    }
}

/// Opens a folder of any files and uses the store.
pub fn check(storage: &MemoryStorage) {
    let Ok(store) = open(storage) else { return };
    let keys = content(&store).unwrap_or_default();
    for key in keys.keys() {
        let _ = store.get(key.clone());
    }
    let _ = store.set("key", "value");
    let _ = store.compact();
    let _ = store.close();
    drop(store);
    let _ = open(storage).map(|store| store.close());
}

/// Opens a folder whose records are as this program writes them: if that works, everything must.
pub fn check_canonical(storage: &MemoryStorage, kill: bool) {
    let Ok(store) = open(storage) else { return };
    let mut expected = content(&store).expect("what was opened is read");
    for (key, value) in &expected {
        assert_eq!(store.get(key.clone()).expect("what was opened is read").as_ref(), Some(value));
    }
    let write = |store: &KvStore, expected: &mut Content| {
        if let Some((key, _)) = expected.pop_first() {
            store.remove(key).expect("it is there");
        }
        let value = expected.len().to_string().into_bytes();
        store.set("key", value.clone()).expect("there is room");
        expected.insert(b"key".to_vec(), value);
    };
    write(&store, &mut expected);
    let (storage, store) = if kill {
        let storage = storage.after_kill();
        (storage.clone(), open(&storage).expect("a killed process leaves a sound folder"))
    } else {
        store.close().expect("memory takes it");
        drop(store);
        (storage.clone(), open(storage).expect("a closed store can be opened"))
    };
    assert_eq!(content(&store).expect("what was opened is read"), expected);
    write(&store, &mut expected);
    store.compact().expect("what was opened can be compacted");
    assert_eq!(content(&store).expect("what was compacted is read"), expected);
    store.close().expect("memory takes it");
    drop(store);
    let store = open(&storage).expect("a closed store can be opened");
    assert_eq!(content(&store).expect("what was compacted is read"), expected);
}
