//! Stories of who looks into a segment while compactions take it away and write its file again.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::engine::KvsEngine;
use crate::kvs::KvStore;
use crate::log::segment::Segment;
use crate::options::Options;
use crate::storage::read_all;
use crate::sync::Arc;

const KEYS: u32 = 200;

/// No compaction but those that are asked for.
fn options() -> Options {
    Options { segment_bytes: 4 * 1024, compaction_threshold_bytes: u64::MAX, ..Options::default() }
}

fn value(number: u32, round: u32) -> String {
    format!("value {round} of {number} {}", "x".repeat(60))
}

fn fill(store: &KvStore, keys: impl Iterator<Item = u32>, round: u32) {
    keys.for_each(|number| store.set(format!("key-{number}"), value(number, round)).unwrap());
}

/// A sealed segment with all its bytes.
struct Held {
    segment: Arc<Segment>,
    bytes: Vec<u8>,
}

/// Looks into all sealed segments, as readers do.
fn hold(store: &KvStore) -> Vec<Held> {
    let mut segments = store.core().log.segments();
    segments.retain(|segment| segment.sealed.get().is_some());
    let held = |segment: Arc<Segment>| Held { bytes: segment.mapped().unwrap().to_vec(), segment };
    segments.into_iter().map(held).collect()
}

#[test]
fn a_file_that_is_read_or_mapped_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open_with(folder.path(), options()).unwrap();
    fill(&store, 0..KEYS, 0);
    let held = hold(&store);
    assert!(held.len() > 3, "a compaction of several steps");
    for round in 1..4 {
        fill(&store, (0..KEYS).step_by(2), round);
        store.compact().unwrap();
        for Held { segment, bytes } in &held {
            // The file first: to look at mapped bytes of a file that was cut ends the process.
            let length = segment.file.length().unwrap();
            assert_eq!(length, bytes.len() as u64, "round {round}: the file of {segment:?} was cut or grew");
            let read = read_all(segment.file.as_ref(), length).unwrap();
            assert!(read == *bytes, "round {round}: the file of {segment:?} was written again");
            assert!(segment.mapped().unwrap() == bytes, "round {round}: the mapping of {segment:?} shows other bytes");
        }
    }
}

/// The files of segments: name, number in the file system, and the open file, so that the number is not given again.
fn files(folder: &Path) -> Vec<(OsString, u64, File)> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let segments = names.filter(|path| path.extension().is_some_and(|end| end == "log"));
    let open = |path: PathBuf| {
        let file = File::open(&path).unwrap();
        (path.into_os_string(), file.metadata().unwrap().ino(), file)
    };
    segments.map(open).collect()
}

#[test]
fn a_file_that_nobody_reads_any_more_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open_with(folder.path(), options()).unwrap();
    fill(&store, 0..KEYS, 0);
    let mut again = 0;
    for round in 1..4 {
        // Those between stay, so that there is something to write.
        fill(&store, (0..KEYS).step_by(2), round);
        drop(hold(&store));
        let before = files(folder.path());
        store.compact().unwrap();
        let was_another = |(name, number, _): &&(_, _, _)| {
            before.iter().any(|(old_name, old_number, _)| old_number == number && old_name != name)
        };
        again += files(folder.path()).iter().filter(was_another).count();
        for number in 0..KEYS {
            let wanted = value(number, if number % 2 == 0 { round } else { 0 });
            assert_eq!(store.get(format!("key-{number}")).unwrap().unwrap(), wanted.into_bytes(), "round {round}");
        }
    }
    assert!(again > 0, "no output of a compaction is a file that was read and mapped before");
}
