//! What a fixture holds, and how it is written: a store whose process was killed.
//!
//! What must hold: it has every kind of segment (compacted, sealed, still appended to, prepared) and every kind of
//! record (set, removal, batch in one line and in a group of lines; text, escapes, bytes that are no text), and a
//! checkpoint that is older than the log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{KvStore, KvsEngine, Mutation, Options};

/// How long to wait for the store's own threads.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys with their values.
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// The smallest segments, a checkpoint soon, and no compaction but the one that is asked for.
pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 4 * 1024,
        compaction_threshold_bytes: u64::MAX,
        checkpoint_bytes: 2 * 1024,
        ..Options::default()
    }
}

fn set(store: &KvStore, contents: &mut Contents, key: &[u8], value: &[u8]) {
    store.set(key, value).expect("a folder in memory");
    contents.insert(key.to_vec(), value.to_vec());
}

fn remove(store: &KvStore, contents: &mut Contents, key: &[u8]) {
    store.remove(key).expect("the key is there");
    contents.remove(key);
}

fn batch(store: &KvStore, contents: &mut Contents, mutations: Vec<Mutation>) {
    for mutation in &mutations {
        match mutation {
            Mutation::Set { key, value } => drop(contents.insert(key.clone(), value.clone())),
            Mutation::Remove { key } => drop(contents.remove(key)),
        }
    }
    store.write_batch(mutations).expect("a folder in memory");
}

/// Writes a store into memory and returns its folder as the death of the process leaves it, with what is in it.
pub(crate) fn write() -> (MemoryStorage, Contents) {
    let disk = MemoryStorage::new();
    let store = KvStore::open_storage(Arc::new(disk.clone()), options()).expect("an empty folder");
    let mut contents = Contents::new();
    let all_bytes: Vec<u8> = (0..=255).collect();
    for number in 0..40 {
        let value = format!("first value of {number} {}", "x".repeat(number));
        set(&store, &mut contents, format!("key-{number:02}").as_bytes(), value.as_bytes());
    }
    set(&store, &mut contents, b"", b"the empty key");
    set(&store, &mut contents, b"the empty value", b"");
    set(&store, &mut contents, b"escapes \" \\ \n \t \x01", b"\"}}\n{\"rm\":{\"key\":\"key-01\"}}\r\x1f\x7f");
    set(&store, &mut contents, "\u{e9}\u{20ac}\u{1f600}".as_bytes(), "\u{fffd}\u{2028}".as_bytes());
    set(&store, &mut contents, b"\xff\xfe", b"text under a key of bytes");
    set(&store, &mut contents, b"bytes under a key of text", &all_bytes);
    set(&store, &mut contents, &all_bytes, b"\x00\x80");
    for number in 0..20 {
        remove(&store, &mut contents, format!("key-{:02}", number * 2).as_bytes());
    }
    let changes = (30..36).map(|number| Mutation::Set {
        key: format!("key-{number}").into(),
        value: format!("from the first batch {number}").into(),
    });
    batch(&store, &mut contents, changes.chain([Mutation::Remove { key: b"key-39".to_vec() }]).collect());
    store.compact().expect("a folder in memory");
    let group = (0..30).map(|number| Mutation::Set { key: format!("group-{number}").into(), value: vec![b'z'; 60] });
    batch(&store, &mut contents, group.collect());
    // Enough for a segment that is sealed and never compacted.
    for number in 10..40 {
        let value = format!("second value of {number} {}", "y".repeat(40));
        set(&store, &mut contents, format!("key-{number:02}").as_bytes(), value.as_bytes());
    }
    remove(&store, &mut contents, b"key-01");
    set(&store, &mut contents, b"key-02", b"back again");
    let last = vec![
        Mutation::Set { key: b"\xff\xfe".to_vec(), value: b"\xc3".to_vec() },
        Mutation::Remove { key: b"key-03".to_vec() },
        Mutation::Set { key: b"twice".to_vec(), value: b"lost".to_vec() },
        Mutation::Set { key: b"twice".to_vec(), value: b"last".to_vec() },
    ];
    batch(&store, &mut contents, last);
    await_quiet(&disk);
    (disk.after_kill(), contents)
}

/// Waits until the store's own threads have sealed and prepared all that they will.
fn await_quiet(disk: &MemoryStorage) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let manifest = manifest_of(disk);
        let segments = manifest["segments"].as_array().expect("a list");
        let count = |wanted: fn(&serde_json::Value) -> bool| segments.iter().filter(|entry| wanted(entry)).count();
        let compacted = count(|entry| entry["sealed"]["compacted_at"].is_u64());
        let sealed = count(|entry| entry["sealed"].is_object()) - compacted;
        let open = count(|entry| entry.get("sealed").is_none());
        let has_checkpoint = disk.list().expect("in memory").iter().any(|name| name == "CHECKPOINT");
        if compacted >= 1 && sealed >= 1 && open == 2 && has_checkpoint {
            return;
        }
        assert!(Instant::now() < deadline, "the segments stay as they are: {manifest}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The manifest of a folder, as JSON.
pub(crate) fn manifest_of(disk: &MemoryStorage) -> serde_json::Value {
    let bytes = content_of(disk, "MANIFEST");
    let payload: serde_json::Value = serde_json::from_slice(&bytes[40..]).expect("JSON behind the prefix");
    payload["manifest"].clone()
}

/// All bytes of a file.
pub(crate) fn content_of(disk: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("the file exists");
    let mut bytes = vec![0; usize::try_from(file.length().expect("in memory")).expect("a small file")];
    assert_eq!(file.read_at(&mut bytes, 0).expect("in memory"), bytes.len());
    bytes
}

/// What a store holds, key by key.
pub(crate) fn differences(store: &KvStore, contents: &Contents) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in contents {
        let got = store.get(key.clone()).expect("readable");
        if got.as_ref() != Some(value) {
            found.push(format!("{:?} is {got:?}, not {value:?}", String::from_utf8_lossy(key)));
        }
    }
    let keys = store.stats().keys;
    if keys != contents.len() as u64 {
        found.push(format!("{keys} keys instead of {}", contents.len()));
    }
    found
}

/// Keys and values as lines of JSON, numbers for bytes, so that this needs no decoder of ours.
pub(crate) fn to_lines(contents: &Contents) -> String {
    contents.iter().map(|entry| serde_json::to_string(&entry).expect("numbers") + "\n").collect()
}

/// What [`to_lines`] wrote.
pub(crate) fn from_lines(text: &str) -> Contents {
    text.lines().map(|line| serde_json::from_str::<(Vec<u8>, Vec<u8>)>(line).expect("a pair")).collect()
}

#[test]
fn what_a_fixture_holds_comes_back_after_a_kill() {
    let (disk, contents) = write();
    let store = KvStore::open_storage(Arc::new(disk), options()).expect("a killed process is no damage");
    assert_eq!(differences(&store, &contents), Vec::<String>::new());
    assert_eq!(from_lines(&to_lines(&contents)), contents);
}

#[test]
#[ignore = "writes the fixture of a new format"]
fn write_the_fixture() {
    let folder =
        std::env::var_os("KVS_FIXTURE_FOLDER").expect("KVS_FIXTURE_FOLDER names a folder that is not there yet");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    std::fs::create_dir(&folder).expect("a fixture is never written again");
    let (disk, contents) = write();
    for name in disk.list().expect("in memory") {
        std::fs::write(folder.join(&name), content_of(&disk, &name)).expect("a writable folder");
    }
    let lines = folder.with_extension("jsonl");
    std::fs::write(lines, to_lines(&contents)).expect("a writable folder");
}
