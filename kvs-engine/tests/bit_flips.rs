//! Every single bit of every file of a small store is flipped, and the store is opened: nobody is ever given wrong data,
//! and damage is reported with file, offset and sequence.
//!
//! After a clean end every flip in a record is corruption, reported by opening, by reading it, or by verifying the
//! store: a checkpoint spares the opening most records. A damaged checkpoint is not used, and the log is read instead. After kill -9 a whole line that does not fit is corruption
//! too; what stands in the zeros behind the log is cut, and counted. The reader of segments alone is shown every bit
//! of a log of 1 MiB in `src/log/every_bit.rs`.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvs_engine::storage::{MemoryStorage, Storage as _};
use kvs_engine::{Error, KvStore, KvsEngine, Mutation, Options};
use support::{Model, Random, content_of, data_files, figure, is_full, open_with, tiny, wait_until};

/// Threads that flip bits, each in a copy of its own.
const FLIPPERS: usize = 2;
/// Bytes of a line before its JSON.
const PREFIX_BYTES: usize = 40;
/// The short version looks at one of so many bits of the zeros behind the log; `src/log/every_bit.rs` looks at all.
const TAIL_STEP: usize = 61;

/// Compacts only when told to, so that a story always leaves the same files, a checkpoint among them.
fn options() -> Options {
    Options { compaction_threshold_bytes: u64::MAX, checkpoint_bytes: 1, ..tiny() }
}

/// A store with sealed segments, one that a compaction wrote, and one that was appended to, of about so many bytes.
fn example(bytes: u64) -> (MemoryStorage, KvStore, Model) {
    let disk = MemoryStorage::new();
    let store = open_with(&disk, &options()).unwrap();
    let mut random = Random(5);
    let mut model = Model::new();
    let mut compacted = false;
    while store.stats().appended_bytes < bytes {
        let key = format!("key-{}", random.below(12));
        match random.below(6) {
            0 if model.remove(&key).is_some() => store.remove(key.as_str()).unwrap(),
            1 => {
                let other = format!("key-{}", random.below(12));
                store
                    .write_batch(vec![
                        Mutation::Set { key: key.clone().into(), value: b"of a batch".to_vec() },
                        Mutation::Remove { key: other.clone().into() },
                    ])
                    .unwrap();
                model.insert(key, "of a batch".to_owned());
                model.remove(&other);
            }
            _ => {
                let value = random.text(60);
                store.set(key.as_str(), value.as_str()).unwrap();
                model.insert(key, value);
            }
        }
        if !compacted && store.stats().appended_bytes > bytes / 3 {
            store.compact().unwrap();
            compacted = true;
        }
    }
    assert!(compacted && model.len() > 4);
    (disk, store, model)
}

/// Where the lines of a file are.
fn lines_of(name: &str, content: &[u8]) -> Vec<Range<usize>> {
    if name == "CHECKPOINT" {
        // Bytes that are no text.
        return std::iter::once(0..content.len()).collect();
    }
    let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut lines = Vec::new();
    let mut start = 0;
    for newline in (0..end).filter(|offset| content[*offset] == b'\n') {
        lines.push(start..newline + 1);
        start = newline + 1;
    }
    assert_eq!(start, end, "a file ends with a newline, or with zeros behind one");
    lines
}

/// The number of a line's record.
fn sequence_of(line: &[u8]) -> u64 {
    u64::from_str_radix(std::str::from_utf8(&line[18..34]).unwrap(), 16).unwrap()
}

/// Where damage was reported.
struct Damage {
    file: PathBuf,
    offset: u64,
    sequence: u64,
}

impl Damage {
    fn of(error: Error, story: &str) -> Self {
        match error {
            Error::Corruption { file, offset, sequence, .. } => Self { file, offset, sequence },
            error => panic!("{story}: {error}"),
        }
    }

    /// What is said of the damage must lead a person to it.
    fn assert_is_in(&self, name: &str, line: &Range<usize>, content: &[u8], story: &str) {
        assert!(self.file.ends_with(name), "{story}: {} is blamed", self.file.display());
        if !name.ends_with(".log") {
            return;
        }
        assert_eq!(self.offset, line.start as u64, "{story}: where the line of the flip begins");
        if line.start > 0 {
            let number = sequence_of(&content[line.clone()]);
            // Of a damaged line the number can't be read: it is the next one after the line before, if there is one.
            assert!((0..=number).contains(&self.sequence), "{story}: {} instead of {number}", self.sequence);
        }
    }
}

/// Opens a damaged store, reads everything, and verifies it. Returns the damage that was reported; nothing wrong is
/// ever read.
fn reported(disk: &MemoryStorage, model: &Model, story: &str) -> Option<Damage> {
    let copy = disk.after_kill();
    let store = match open_with(&copy, &options()) {
        Ok(store) => store,
        Err(error) => return Some(Damage::of(error, story)),
    };
    let mut damage = None;
    for number in 0..12 {
        let key = format!("key-{number}");
        match store.get(key.as_str()) {
            Ok(value) => {
                assert_eq!(value.as_deref(), model.get(&key).map(String::as_bytes), "{story}: wrong data of {key}");
            }
            Err(error) => damage = Some(Damage::of(error, story)),
        }
    }
    let report = store.verify().unwrap();
    let found = report.findings.into_iter().find(|finding| finding.kind.is_damage());
    // Verifying sees all that reading sees, and says more.
    assert!(found.is_some() || damage.is_none(), "{story}: read, and not found by verifying");
    found.map(|found| Damage { file: found.file, offset: found.offset, sequence: found.sequence })
}

#[test]
fn after_a_clean_end_no_flipped_bit_is_accepted() {
    let (disk, store, model) = example(if is_full() { 16 * 1024 } else { 1_000 });
    store.close().unwrap();
    drop(store);
    assert!(reported(&disk, &model, "nothing flipped").is_none());
    let files: Vec<_> = data_files(&disk)
        .into_iter()
        .map(|name| {
            let content = content_of(&disk, &name);
            let lines = lines_of(&name, &content);
            assert_eq!(lines.last().expect("no file is empty").end, content.len(), "{name} is sealed");
            (name, content, lines)
        })
        .collect();
    let logs = files.iter().filter(|(name, ..)| name.ends_with(".log")).count();
    assert!(logs > 1 && files.iter().any(|(name, ..)| name == "CHECKPOINT") && files.len() == logs + 2);
    let flips = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for flipper in 0..FLIPPERS {
            let disk = disk.after_kill();
            let (files, model, flips) = (&files, &model, &flips);
            scope.spawn(move || {
                for (name, content, lines) in files {
                    for line in lines {
                        for bit in (line.start * 8 + flipper..line.end * 8).step_by(FLIPPERS) {
                            flip_and_look(&disk, name, bit, line, content, model);
                            flips.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    figure(&format!("{flips:?} flips, {logs} segments and {} other files", files.len() - logs));
    assert!(flips.into_inner() > 10_000);
    assert!(reported(&disk, &model, "nothing flipped").is_none());
}

fn flip_and_look(disk: &MemoryStorage, name: &str, bit: usize, line: &Range<usize>, content: &[u8], model: &Model) {
    let story = format!("{name}, bit {bit}");
    disk.flip_bit(name, bit as u64);
    match reported(disk, model, &story) {
        Some(damage) => damage.assert_is_in(name, line, content, &story),
        // It holds nothing that the log does not hold, and what was read is right.
        None => assert_eq!(name, "CHECKPOINT", "{story}: accepted"),
    }
    disk.flip_bit(name, bit as u64);
}

#[test]
fn after_a_kill_only_a_line_without_its_end_is_cut() {
    let (live, store, model) = example(if is_full() { 16 * 1024 } else { 1_000 });
    // What is prepared in the background has to be there: the disk is looked at once.
    wait_until("the next segment is prepared", || store.stats().segments > 1);
    let disk = live.after_kill();
    assert!(reported(&disk, &model, "nothing flipped").is_none());
    let (mut in_lines, mut behind) = (0, 0);
    // What a damaged checkpoint does was told above.
    for name in data_files(&disk).into_iter().filter(|name| name != "CHECKPOINT") {
        let content = content_of(&disk, &name);
        let lines = lines_of(&name, &content);
        for line in &lines {
            for bit in line.start * 8..line.end * 8 {
                flip_and_look(&disk, &name, bit, line, &content, &model);
                in_lines += 1;
            }
        }
        // A segment that is just being prepared has nothing yet, and is in no manifest.
        let Some(end) = lines.last().map(|line| line.end) else { continue };
        let step = if is_full() { 1 } else { TAIL_STEP };
        for bit in (end * 8..content.len() * 8).step_by(step) {
            disk.flip_bit(&name, bit as u64);
            let store = open_with(&disk.after_kill(), &options()).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
            assert!(store.stats().torn_bytes > 0, "{name}, bit {bit} behind the log was not reported");
            for (key, value) in &model {
                assert_eq!(store.get(key.as_str()).unwrap().as_deref(), Some(value.as_bytes()), "{name}, bit {bit}");
            }
            disk.flip_bit(&name, bit as u64);
            behind += 1;
        }
    }
    figure(&format!("{in_lines} flips in lines, {behind} behind them"));
    assert!(in_lines > 10_000 && behind > 300, "{in_lines} flips in lines, {behind} behind them");
}

/// The byte that tells a torn line from a damaged one: without its newline, and without anything behind it, the last
/// line was never whole.
#[test]
fn the_last_line_of_a_killed_process_is_torn_at_any_length_and_damaged_at_any_bit() {
    let disk = MemoryStorage::new();
    let store = open_with(&disk, &options()).unwrap();
    store.set("first", "is durable and said so").unwrap();
    let name = "00000001.log";
    let start = lines_of(name, &content_of(&disk.after_kill(), name)).last().unwrap().end;
    store.set("last", "a @ line with bytes of one bit").unwrap();
    let killed = disk.after_kill();
    let content = content_of(&killed, name);
    let end = lines_of(name, &content).last().unwrap().end;
    assert!(end - start > PREFIX_BYTES);
    for cut in start + 1..end {
        let torn = killed.after_kill();
        torn.open(name).unwrap().write_at(&vec![0; end - cut], cut as u64).unwrap();
        let store = open_with(&torn, &options()).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(store.stats().torn_bytes, (cut - start) as u64, "cut at {cut}");
        assert_eq!(store.get("last").unwrap(), None, "cut at {cut}");
        assert!(store.get("first").unwrap().is_some(), "cut at {cut}");
    }
    for bit in start * 8..end * 8 {
        killed.flip_bit(name, bit as u64);
        let error = open_with(&killed.after_kill(), &options()).expect_err("a whole line does not fit");
        let story = format!("bit {bit}");
        Damage::of(error, &story).assert_is_in(name, &(start..end), &content, &story);
        killed.flip_bit(name, bit as u64);
    }
}
