//! The process is killed with SIGKILL at any moment, again and again on one folder: no acknowledged write is lost, none
//! that was replaced comes back, and the store always opens.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::path::Path;
use std::time::{Duration, Instant};

use kvs_torture::judge::{Scratch, probe};
use kvs_torture::{Evidence, Oracle, Process, Random, Report, Script, Task, is_full, say};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
const WRITERS: u64 = 8;
const KEYS: usize = 400;
/// How long after the wanted number of acknowledgements the kill comes at most, in microseconds: some syncs later.
const LATEST_KILL_US: u64 = 3_000;
/// How long after its start a process is killed that is to die while it opens the folder, in microseconds, at most.
const LATEST_EARLY_KILL_US: u64 = 12_000;

/// What has to be reached.
struct Goals {
    cycles: u64,
    acknowledged: u64,
    compactions: u64,
    rotations: u64,
    checkpoints: u64,
    openings: u64,
}

const SMALL: Goals =
    Goals { cycles: 100, acknowledged: 10_000, compactions: 10, rotations: 10, checkpoints: 3, openings: 5 };
const FULL: Goals =
    Goals { cycles: 2_000, acknowledged: 1_000_000, compactions: 200, rotations: 200, checkpoints: 60, openings: 100 };

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let goals = if is_full() { FULL } else { SMALL };
    let scratch = Scratch::on_disk().unwrap();
    let began = Instant::now();
    let mut random = Random::new(4_711);
    let mut oracle = Oracle::new(KEYS);
    let (mut cycles, mut compactions, mut rotations, mut manifests, mut checkpoints, mut openings) = (0, 0, 0, 0, 0, 0);
    // Each cycle brings its share of the acknowledgements.
    let share = goals.acknowledged * 3 / 2 / goals.cycles;
    while cycles < goals.cycles || oracle.acknowledged < goals.acknowledged {
        cycles += 1;
        let task = Task {
            run: cycles,
            seed: cycles,
            writers: WRITERS,
            keys: KEYS,
            operations: u64::MAX,
            segment_bytes: 32 * 1024,
            threshold_bytes: 16 * 1024,
            checkpoint_bytes: 16 * 1024,
            ..Task::new(&scratch.data(), Script::Mixed)
        };
        let mut process = Process::start(Path::new(WORKLOAD), &task).unwrap();
        oracle.begin(cycles);
        // One in eight dies while it opens, or soon after.
        let early = random.below(8) == 0;
        let wanted = oracle.acknowledged + if early { 0 } else { share / 2 + random.below(share) };
        let latest_us = if early { LATEST_EARLY_KILL_US } else { LATEST_KILL_US };
        let mut heard_all = false;
        let mut hear = |report: &Report, oracle: &mut Oracle| {
            heard_all |= *report == Report::Dumped;
            oracle.hear(report).unwrap_or_else(|wrong| panic!("cycle {cycles}: {wrong}"));
            assert!(!matches!(report, Report::End(_) | Report::Trouble(_)), "cycle {cycles}: {report:?}");
        };
        while oracle.acknowledged < wanted {
            let Some(report) = process.next_report() else { break };
            hear(&report, &mut oracle);
        }
        let deadline = Instant::now() + Duration::from_micros(random.below(latest_us));
        while let Some(report) = process.next_within(deadline.saturating_duration_since(Instant::now())) {
            hear(&report, &mut oracle);
        }
        process.kill();
        while let Some(report) = process.next_report() {
            hear(&report, &mut oracle);
        }
        let (code, errors) = process.finish().unwrap();
        assert_eq!(code, None, "cycle {cycles}: it ended before it was killed: {errors}");
        openings += u64::from(!heard_all);
        let evidence = Evidence::of(&scratch.data()).unwrap();
        compactions += u64::from(evidence.compaction);
        rotations += u64::from(evidence.rotation);
        manifests += u64::from(evidence.manifest);
        checkpoints += u64::from(evidence.checkpoint);
    }
    let last = Task { keys: KEYS, ..Task::new(&scratch.data(), Script::Probe) };
    probe(Path::new(WORKLOAD), &last.probe(cycles + 1), &mut oracle).unwrap();
    say(&format!(
        "{cycles} kills, {} acknowledged writes by {WRITERS} writers; killed during a compaction {compactions}, a \
         rotation {rotations}, a change of the manifest {manifests}, a \
         checkpoint {checkpoints}, an opening {openings}; {:.1} s",
        oracle.acknowledged,
        began.elapsed().as_secs_f64()
    ));
    assert!(compactions >= goals.compactions, "{compactions} kills hit a compaction, {} must", goals.compactions);
    assert!(rotations >= goals.rotations, "{rotations} kills hit a rotation, {} must", goals.rotations);
    assert!(checkpoints >= goals.checkpoints, "{checkpoints} kills hit a checkpoint, {} must", goals.checkpoints);
    assert!(openings >= goals.openings, "{openings} kills hit an opening, {} must", goals.openings);
}
