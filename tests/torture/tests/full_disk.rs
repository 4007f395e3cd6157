//! The disk fills up: reads go on, writes are refused with a typed error, removals and compaction work from the reserve,
//! a killed process opens its folder again, and service resumes by itself when space returns.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::path::Path;
use std::time::{Duration, Instant};

use kvs_engine::{Error, KvStore, KvsEngine as _, Options};
use kvs_torture::judge::probe;
use kvs_torture::{FileSystem, LoopMount, Oracle, Process, Report, Script, Task, is_full, say};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
const IMAGE_MIB: u64 = 24;
const SEGMENT_BYTES: u64 = 64 * 1024;
/// What is left to the store on a larger file system, in bytes.
const ROOM_BYTES: u64 = 3 << 19;
const VALUE_BYTES: usize = 3_000;
/// How soon service resumes after space has returned: the store looks once a second.
const RESUME: Duration = Duration::from_secs(10);

fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, compaction_threshold_bytes: u64::MAX, ..Options::default() }
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number}.").into_bytes();
    value.resize(VALUE_BYTES, b'v');
    value
}

/// Takes all but so many bytes of a file system.
fn ballast(folder: &Path, left_bytes: u64) -> std::path::PathBuf {
    let path = folder.join("ballast");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let free = rustix::fs::statvfs(folder).unwrap();
    let mut wanted = (free.f_bavail * free.f_frsize).saturating_sub(left_bytes);
    let mut step = wanted;
    // The file system needs a part for itself, and says so only when it is asked for too much.
    while step >= 4096 && wanted > 0 {
        let end = file.metadata().unwrap().len();
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), end, step.min(wanted)) {
            Ok(()) => wanted -= step.min(wanted),
            Err(rustix::io::Errno::NOSPC) => step /= 2,
            Err(error) => panic!("making the disk full: {error}"),
        }
    }
    path
}

/// Writes new keys from a number on until there is no space; gives the first number that was refused.
fn fill(store: &KvStore, from: u64) -> u64 {
    for number in from.. {
        match store.set(key(number), value(number)) {
            Ok(()) => {}
            Err(Error::NoSpace) => return number,
            Err(other) => panic!("a full disk is answered with NoSpace, not: {other}"),
        }
    }
    unreachable!("every disk fills up")
}

/// Waits until a write is accepted.
fn resumes(store: &KvStore, number: u64) -> Duration {
    let began = Instant::now();
    loop {
        match store.set(key(number), value(number)) {
            Ok(()) => return began.elapsed(),
            Err(Error::NoSpace) => {}
            Err(other) => panic!("while the disk is full, only NoSpace is an answer, not: {other}"),
        }
        assert!(began.elapsed() < RESUME, "there is space again, and writes are refused for {RESUME:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn check(store: &KvStore, present: std::ops::Range<u64>, removed: &dyn Fn(u64) -> bool) {
    for number in present {
        let found = store.get(key(number)).expect("reads go on");
        let wanted = (!removed(number)).then(|| value(number));
        assert_eq!(found, wanted, "key {number}");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let kinds: &[FileSystem] = if is_full() { &FileSystem::ALL } else { &[FileSystem::Ext4Ordered] };
    for kind in kinds {
        let began = Instant::now();
        let mount = LoopMount::new(*kind, IMAGE_MIB).unwrap();
        let weight = ballast(&mount.folder(), ROOM_BYTES);
        let folder = mount.folder().join("data");
        let store = KvStore::open_with(&folder, options()).unwrap();

        let full_at = fill(&store, 0);
        assert!(full_at > 150, "only {full_at} writes fitted");
        assert!(store.stats().read_only, "it says that it is read-only");
        check(&store, 0..full_at, &|_| false);
        assert!(matches!(store.set(key(0), value(1)), Err(Error::NoSpace)), "overwriting needs space as well");

        // Removals are accepted, and compaction makes room of them with what was kept for it.
        let removed = |number: u64| number.is_multiple_of(2);
        for number in (0..full_at).filter(|number| removed(*number)) {
            store.remove(key(number)).unwrap_or_else(|error| panic!("removal {number} on a full disk: {error}"));
        }
        store.compact().expect("compaction works from its reserve");
        let after_compaction = resumes(&store, full_at);
        check(&store, 0..full_at, &removed);

        // Full once more, all of it live; now somebody else makes room.
        let full_again = fill(&store, full_at);
        ballast(&mount.folder(), 0);
        assert!(matches!(store.set(key(full_again), value(0)), Err(Error::NoSpace)));
        check(&store, 0..full_again, &|number| number < full_at && removed(number));
        std::fs::remove_file(&weight).unwrap();
        let after_room = resumes(&store, full_again);
        // A look for space is answered by the next segment, a moment after the first write was.
        let deadline = Instant::now() + RESUME;
        while store.stats().read_only {
            assert!(Instant::now() < deadline, "it takes writes, and says that it is read-only");
            std::thread::sleep(Duration::from_millis(20));
        }
        store.close().unwrap();
        drop(store);
        let store = KvStore::open_with(&folder, options()).unwrap();
        check(&store, 0..full_again, &|number| number < full_at && removed(number));
        drop(store);
        say(&format!(
            "{}: full after {full_at} writes; service resumed {} ms after a compaction and {} ms after space was made; {:.1} s",
            kind.name(),
            after_compaction.as_millis(),
            after_room.as_millis(),
            began.elapsed().as_secs_f64()
        ));
    }
}

#[test]
fn a_process_that_is_killed_on_a_full_disk_opens_its_folder_again() {
    let kills = if is_full() { 100 } else { 6 };
    let began = Instant::now();
    let mount = LoopMount::new(FileSystem::Ext4Ordered, IMAGE_MIB).unwrap();
    ballast(&mount.folder(), 240 * 1024);
    let folder = mount.folder().join("data");
    let keys = 1_200;
    let mut oracle = Oracle::new(keys);
    let (mut refused, mut refused_kills) = (0_u64, 0_u64);
    let task = Task {
        writers: 8,
        keys,
        operations: u64::MAX,
        segment_bytes: 16 * 1024,
        threshold_bytes: 8 * 1024,
        checkpoint_bytes: 8 * 1024,
        ..Task::new(&folder, Script::Mixed)
    };
    for kill in 1..=kills {
        let task = Task { run: kill, seed: kill, ..task.clone() };
        let mut process = Process::start(Path::new(WORKLOAD), &task).unwrap();
        oracle.begin(kill);
        let (mut refused_now, mut done) = (0, 0);
        // Until it has met the end of the disk, or has lived on compaction for a while.
        while refused_now < 20 && done < 3_000 {
            let report = process.next_report().unwrap_or_else(|| panic!("kill {kill}: it ended by itself"));
            assert!(!matches!(report, Report::Failed(..) | Report::Trouble(_)), "kill {kill}: {report:?}");
            refused_now += u64::from(matches!(&report, Report::Refused(_, word) if word == "no-space"));
            done += u64::from(matches!(report, Report::Done(_)));
            oracle.hear(&report).unwrap_or_else(|wrong| panic!("kill {kill}: {wrong}"));
        }
        process.kill();
        while let Some(report) = process.next_report() {
            oracle.hear(&report).unwrap_or_else(|wrong| panic!("kill {kill}: {wrong}"));
        }
        refused += refused_now;
        refused_kills += u64::from(refused_now > 0);
    }
    std::fs::remove_file(mount.folder().join("ballast")).unwrap();
    probe(Path::new(WORKLOAD), &task.probe(kills + 1), &mut oracle).unwrap();
    say(&format!(
        "{kills} kills on a full disk, {refused_kills} of them while writes were refused ({refused} were), {} acknowledged; {:.1} s",
        oracle.acknowledged,
        began.elapsed().as_secs_f64()
    ));
    assert!(refused_kills * 2 >= kills, "the disk was seldom full");
}
