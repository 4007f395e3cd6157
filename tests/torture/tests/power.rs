//! The power fails: a file system is shut down under the running process, so that whatever was not synced is gone, its
//! journal's memory as well. What was acknowledged before is there when the file system is mounted again.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::path::Path;
use std::time::{Duration, Instant};

use kvs_torture::judge::probe;
use kvs_torture::{Evidence, FileSystem, LoopMount, Oracle, Process, Random, Script, Task, is_full, say};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
const WRITERS: u64 = 8;
const KEYS: usize = 300;
const IMAGE_MIB: u64 = 48;
/// How long a process may go on after the cut: what it tries fails, and it ends.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What cuts on one file system hit.
#[derive(Default)]
struct Hits {
    cuts: u64,
    under_way: u64,
    compactions: u64,
    rotations: u64,
    torn: u64,
}

fn cut_again_and_again(kind: FileSystem, cuts: u64) -> (Hits, u64) {
    let mut mount = LoopMount::new(kind, IMAGE_MIB).unwrap();
    let mut oracle = Oracle::new(KEYS);
    let mut random = Random::new(cuts);
    let mut hits = Hits::default();
    let folder = mount.folder().join("data");
    let task = Task {
        writers: WRITERS,
        keys: KEYS,
        operations: u64::MAX,
        segment_bytes: 24 * 1024,
        threshold_bytes: 16 * 1024,
        checkpoint_bytes: 8 * 1024,
        ..Task::new(&folder, Script::Mixed)
    };
    for cut in 1..=cuts {
        let context = format!("{}, cut {cut}", kind.name());
        let task = Task { run: cut, seed: cut, ..task.clone() };
        let mut process = Process::start(Path::new(WORKLOAD), &task).unwrap();
        oracle.begin(cut);
        let wanted = oracle.acknowledged + random.below(400);
        while oracle.acknowledged < wanted {
            let report = process.next_report().unwrap_or_else(|| panic!("{context}: it ended before the cut"));
            oracle.hear(&report).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
        }
        mount.cut_power().unwrap();
        // It may still say what was true before the cut; then every write fails, and it comes to its end.
        let deadline = Instant::now() + LAST_WORDS;
        let mut torn = false;
        while let Some(report) = process.next_within(deadline.saturating_duration_since(Instant::now())) {
            torn |= matches!(report, kvs_torture::Report::Opened(bytes) if bytes > 0);
            oracle.hear(&report).unwrap_or_else(|wrong| panic!("{context}: {wrong}"));
        }
        assert!(Instant::now() < deadline, "{context}: it went on for {LAST_WORDS:?} without a disk");
        let (code, errors) = process.finish().unwrap();
        assert!(code.is_some() && !errors.contains("panicked"), "{context}: {code:?} {errors}");
        hits.cuts += 1;
        hits.under_way += u64::from(oracle.under_way() > 0);
        mount.unmount().unwrap();
        mount.mount().unwrap();
        if folder.exists() {
            let evidence = Evidence::of(&folder).unwrap();
            hits.compactions += u64::from(evidence.compaction);
            hits.rotations += u64::from(evidence.rotation);
        }
        hits.torn += u64::from(torn);
    }
    probe(Path::new(WORKLOAD), &task.probe(cuts + 1), &mut oracle)
        .unwrap_or_else(|wrong| panic!("{}: {wrong}", kind.name()));
    (hits, oracle.acknowledged)
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let cuts = if is_full() { 500 } else { 10 };
    let began = Instant::now();
    let mut all = 0;
    for (place, kind) in FileSystem::ALL.into_iter().enumerate() {
        // What does not divide by three goes to the first ones.
        let share = cuts / 3 + u64::from((place as u64) < cuts % 3);
        let (hits, acknowledged) = cut_again_and_again(kind, share);
        say(&format!(
            "{}: {} cuts, {acknowledged} acknowledged writes; writes under way at {}, a compaction at {}, a rotation at \
             {}; a torn tail after {}",
            kind.name(),
            hits.cuts,
            hits.under_way,
            hits.compactions,
            hits.rotations,
            hits.torn
        ));
        assert!(hits.under_way * 2 >= hits.cuts, "most cuts must come while something is written");
        assert!(
            !is_full() || (hits.compactions >= 5 && hits.rotations >= 5),
            "too few cuts hit a compaction or a rotation"
        );
        all += hits.cuts;
    }
    say(&format!("{all} cuts of power, {:.1} s", began.elapsed().as_secs_f64()));
    assert!(all >= cuts);
}
