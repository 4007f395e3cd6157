//! What the suites about crashes, damage and failing calls share. Each uses a part of it.

#![allow(dead_code, reason = "each suite is a program of its own and uses a part")]

pub(crate) mod recording;
pub(crate) mod slow;
pub(crate) mod workload;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvs_engine::storage::{MemoryStorage, Storage, StorageFile};
use kvs_engine::{KvStore, Options};

/// How long a story waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys and values, as a store should have them.
pub(crate) type Model = BTreeMap<String, String>;

/// A small generator of numbers, so that a story can be told again from its seed (Steele, Lea, Flood: SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index into something of this length.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    /// Text of up to so many bytes, with spaces and with characters of which one bit is set.
    pub(crate) fn text(&mut self, longest_bytes: u64) -> String {
        const CHARACTERS: &[u8] = b"abcdefgh 01234567@ABC  ";
        let length = self.below(longest_bytes + 1);
        (0..length).map(|_| char::from(CHARACTERS[self.index(CHARACTERS.len())])).collect()
    }
}

/// Whether the long version of a suite is wanted (`KVS_TORTURE=full`).
pub(crate) fn is_full() -> bool {
    std::env::var("KVS_TORTURE").is_ok_and(|value| value == "full")
}

/// Says what a suite has done: to standard error, past the test runner, when the long version runs.
pub(crate) fn figure(text: &str) {
    if is_full() {
        let _ = writeln!(std::io::stderr(), "    {text}");
    }
}

/// Small segments, eager compaction and frequent checkpoints, so that a short story has them all.
pub(crate) fn tiny() -> Options {
    Options {
        segment_bytes: 4 * 1024,
        compaction_threshold_bytes: 3 * 1024,
        compaction_dead_percent: 20,
        compaction_bytes_per_second: u64::MAX,
        checkpoint_bytes: 2 * 1024,
        ..Options::default()
    }
}

/// Opens the store of a folder in memory.
pub(crate) fn open_with(disk: &MemoryStorage, options: &Options) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(disk.clone()), options.clone())
}

/// Polls until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All bytes of a file.
pub(crate) fn content_of(disk: &MemoryStorage, name: &str) -> Vec<u8> {
    read(disk.open(name).expect("the file exists").as_ref())
}

fn read(file: &dyn StorageFile) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(file.length().expect("a file in memory")).expect("a small file")];
    let count = file.read_at(&mut content, 0).expect("a file in memory");
    content.truncate(count);
    content
}

/// The files of a folder by name, those left out that hold no data.
pub(crate) fn data_files(disk: &MemoryStorage) -> Vec<String> {
    let mut names = disk.list().expect("a folder in memory");
    names.retain(|name| !name.starts_with("RESERVE") && name != "LOCK");
    names.sort();
    names
}

/// Writes the files of a folder where a person can look at them, and says where.
pub(crate) fn keep_for_a_person(disk: &MemoryStorage, story: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(story);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder for what went wrong");
    for name in disk.list().expect("a folder in memory") {
        std::fs::write(folder.join(&name), content_of(disk, &name)).expect("a copy of a small file");
    }
    folder
}
