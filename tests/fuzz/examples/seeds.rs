//! Writes the seeds of the fuzz targets: what real stores leave in their folders, and what clients send. Run by `tests/bin/fuzz seeds`.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{KvStore, KvsEngine, Mutation, Options};
use kvs_fuzz::folder::{PREFIX_BYTES, two_segments};

fn main() -> io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: &str, head: &[u8], bytes: &[u8]| {
        let folder = seeds.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), [head, bytes].concat())
    };
    let living = MemoryStorage::new();
    let store = open(&living);
    fill(&store);
    for (name, folder) in
        [("killed", living.after_kill()), ("closed", closed(&store, &living)), ("compacted", compacted(&living))]
    {
        let manifest = read(&folder, "MANIFEST");
        write("manifest", name, &[1], &manifest[PREFIX_BYTES..manifest.len() - 1])?;
        write("manifest", &format!("{name}-file"), &[0], &manifest)?;
        let mut text = Vec::new();
        for file in folder.list()?.iter().filter(|file| file.ends_with(".log")) {
            let bytes = read(&folder, file);
            let lines =
                bytes.split(|byte| *byte == b'\n').skip(1).filter(|line| line.first().is_some_and(|byte| *byte != 0));
            text.extend(lines.flat_map(|line| [line, b"\n"].concat()));
        }
        let flags = if name == "compacted" { 0b0000_1111 } else { 0b0000_1100 };
        write("segment", name, &[flags, 0], &text)?;
        write("segment", &format!("{name}-two"), &[flags | 1, 128], &text)?;
        for line in text.split(|byte| *byte == b'\n').filter(|line| line.len() > PREFIX_BYTES) {
            let payload = &line[PREFIX_BYTES..];
            let kind = String::from_utf8_lossy(&payload[2..5]).into_owned();
            write("record", &format!("{kind}-{}", payload.len()), b"\x01a", payload)?;
        }
    }
    write("checkpoint", "one-entry", &[1, 8], &checkpoint_parts())?;
    write("checkpoint", "none", &[1, 0], b"[]\n")?;
    for (name, text) in REQUESTS {
        write("json", name, b"", text.as_bytes())?;
        write("connection", name, &[200], format!("{text}\n{{\"ping\":{{}}}}\n").as_bytes())?;
    }
    for (name, words) in COMMANDS {
        let mut bytes = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| bytes.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        write("resp", name, &[3], bytes.as_bytes())?;
        write("connection", &format!("resp-{name}"), &[200], bytes.as_bytes())?;
    }
    Ok(())
}

/// Requests and responses of JSON.
const REQUESTS: &[(&str, &str)] = &[
    ("get", r#"{"get":{"key":"k"},"id":7}"#),
    ("set", r#"{"set":{"key":"k","value":"a\u0000b"}}"#),
    ("set-if", r#"{"set":{"key64":"/w==","value":"v","if":"missing","old":true},"id":"b"}"#),
    ("batch", r#"{"batch":[{"set":{"key":"a","value64":"AAE="}},{"rm":{"key":"b"}}]}"#),
    ("scan", r#"{"scan":{"prefix":"a","cursor":"bm8","limit":10,"values":false}}"#),
    ("info", r#"{"info":{"section":"server"}}"#),
    ("clear", r#"{"clear":{}}"#),
    ("page", r#"{"ok":{"entries":[{"key":"a","value":"1"},{"key64":"/w=="}],"cursor":"x"},"id":1}"#),
    ("error", r#"{"error":{"code":"key_not_found","message":"Key not found"}}"#),
];

/// Commands of RESP2.
const COMMANDS: &[(&str, &[&str])] = &[
    ("get", &["GET", "k"]),
    ("set", &["SET", "k", "v", "NX", "GET"]),
    ("mset", &["MSET", "a", "1", "b", "2"]),
    ("del", &["DEL", "a", "b", "c"]),
    ("scan", &["SCAN", "0", "MATCH", "a[b-c]*?", "COUNT", "5"]),
    ("hello", &["HELLO", "2", "AUTH", "u", "p", "SETNAME", "n"]),
    ("command", &["COMMAND", "INFO", "get", "x"]),
];

/// A checkpoint of the target's store: two keys in the sealed segment.
fn checkpoint_parts() -> Vec<u8> {
    let (_, ends) = two_segments();
    let sealed_bytes = ends[ends.len() - 1];
    let segments = format!(r#"[{{"slot":0,"id":1,"sealed_bytes":{sealed_bytes}}},{{"slot":1,"id":2}}]"#);
    let mut parts = [segments.as_bytes(), b"\n"].concat();
    for key in [3_u8, 4] {
        let offset = ends[usize::from(key)] as u64;
        // As in `location.rs`: slot 0, the offset, no batch, ten times eight bytes.
        let place = offset << 14 | 10;
        parts.push(key);
        parts.extend([0; 4]);
        parts.extend(place.to_le_bytes());
    }
    parts
}

fn open(storage: &MemoryStorage) -> KvStore {
    let options = Options { segment_bytes: 4096, compaction_threshold_bytes: u64::MAX, ..Options::default() };
    KvStore::open_storage(Arc::new(storage.clone()), options).expect("the folder is sound")
}

/// A few records of every kind.
fn fill(store: &KvStore) {
    let set = |key: &[u8], value: &[u8]| Mutation::Set { key: key.to_vec(), value: value.to_vec() };
    let done = [
        store.set("a", "1"),
        store.set("b", "with \"quotes\" and \n lines"),
        store.set(b"\xff\x00".to_vec(), b"\xfe".to_vec()),
        store.set("a", "2"),
        store.remove("b"),
        store.write_batch(vec![set(b"c", b"3"), Mutation::Remove { key: b"a".to_vec() }, set(b"\xff", b"4")]),
        store.write_batch((0..3_u8).map(|number| set(&[b'g', number], &[b'v'; 300])).collect()),
    ];
    done.into_iter().collect::<Result<(), _>>().expect("memory takes it");
}

fn closed(store: &KvStore, storage: &MemoryStorage) -> MemoryStorage {
    store.close().expect("memory takes it");
    storage.after_kill()
}

fn compacted(storage: &MemoryStorage) -> MemoryStorage {
    let storage = storage.after_kill();
    let store = open(&storage);
    store.compact().expect("memory takes it");
    store.close().expect("memory takes it");
    storage
}

fn read(storage: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = storage.open(name).expect("it was listed");
    let mut bytes = vec![0; usize::try_from(file.length().expect("it is in memory")).expect("it is in memory")];
    let count = file.read_at(&mut bytes, 0).expect("it is in memory");
    bytes.truncate(count);
    bytes
}
