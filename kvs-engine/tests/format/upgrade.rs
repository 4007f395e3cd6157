//! Every format that was ever written opens, with all that is in it, and goes on.

use std::path::{Path, PathBuf};

use kvs_engine::{KvStore, KvsEngine as _};

use crate::fixture::{differences, from_lines, options};

/// A folder that a version wrote, and how its manifest names the format.
const FORMATS: &[(&str, u32)] = &[("format-1", 1), ("format-2", 2), ("checkpoint-3", 2)];

pub(crate) fn folder_of(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format)
}

/// A folder with a checkpoint, and how that names its version.
const CHECKPOINTS: &[(&str, u32)] = &[("format-2", 2), ("checkpoint-3", 3)];

/// A copy of a fixture that may be changed.
fn copy_of(format: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(folder_of(format)).expect("the fixture is there") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, copy.path().join(path.file_name().expect("a file"))).expect("a copy");
    }
    copy
}

#[test]
fn every_format_opens_with_all_that_is_in_it() {
    for (format, version) in FORMATS {
        let copy = copy_of(format);
        let manifest = std::fs::read_to_string(copy.path().join("MANIFEST")).expect("text");
        assert!(manifest.contains(&format!("\"version\":{version},")), "{format}: {manifest}");
        let text = std::fs::read_to_string(folder_of(&format!("{format}.jsonl"))).expect("text");
        let mut contents = from_lines(&text);
        assert!(contents.len() > 30, "{format} holds {} keys", contents.len());

        let store = KvStore::open_with(copy.path(), options()).expect("an old format opens");
        assert_eq!(differences(&store, &contents), Vec::<String>::new(), "{format}");
        store.set("written by", "this version").expect("and goes on");
        store.compact().expect("and can be compacted");
        store.close().expect("and closed");
        drop(store);
        contents.insert(b"written by".to_vec(), b"this version".to_vec());
        let again = KvStore::open_with(copy.path(), options()).expect("and opens again");
        assert_eq!(differences(&again, &contents), Vec::<String>::new(), "{format}, again");
    }
}

/// An old checkpoint is used, and not only thrown away.
#[test]
fn every_checkpoint_saves_reading_the_log() {
    for (format, version) in CHECKPOINTS {
        let copy = copy_of(format);
        let checkpoint = std::fs::read(copy.path().join("CHECKPOINT")).expect("the fixture has one");
        let head = String::from_utf8_lossy(&checkpoint[..100]).into_owned();
        assert!(head.contains(&format!("{{\"checkpoint\":{{\"version\":{version},")), "{format}: {head}");
        let replayed_bytes = |folder: &Path| {
            let store = KvStore::open_with(folder, options()).expect("an old format opens");
            let text = std::fs::read_to_string(folder_of(&format!("{format}.jsonl"))).expect("text");
            assert_eq!(differences(&store, &from_lines(&text)), Vec::<String>::new(), "{format}");
            store.stats().replayed_bytes
        };
        let with = replayed_bytes(copy.path());
        let without = copy_of(format);
        std::fs::remove_file(without.path().join("CHECKPOINT")).expect("it is there");
        let without = replayed_bytes(without.path());
        assert!(with < without, "{format}: {with} bytes were read with the checkpoint, {without} without");
    }
}

/// A later version is refused by name, whatever else is in its manifest.
#[test]
fn a_format_of_the_future_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let payload = br#"{"manifest":{"version":4000,"and":"what nobody knows yet"}}"#;
    let rest = format!(" {:08x} {:016x} {:04x} ", payload.len(), 1, 0).into_bytes();
    let rest = [&rest[..], payload].concat();
    let line = [format!("{:08x}", crc32c::crc32c(&rest)).as_bytes(), &rest, b"\n"].concat();
    std::fs::write(folder.path().join("MANIFEST"), line).expect("a writable folder");
    let error = KvStore::open(folder.path()).expect_err("nobody guesses");
    assert!(matches!(error, kvs_engine::Error::WrongFolder { .. }), "{error}");
    assert!(error.to_string().contains("format 4000"), "{error}");
}
