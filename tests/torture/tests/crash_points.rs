//! The process dies at the entry of every system call that changes or syncs a file, one after the other, until the
//! workload comes to its end; and, from what such a death left, at every call of the recovery.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use kvs_torture::judge::{Heard, Scratch, hear_all, judge_backup, probe};
use kvs_torture::tracer::{Call, Fault, Plan};
use kvs_torture::{Oracle, Report, Script, Task, is_full, say};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
/// Workloads that run at a time: they mostly wait, for the disk and for the tracer.
const WORKERS: usize = 2;
const KEYS: usize = 8;
/// What the story consists of; each kind must be hit.
const KINDS: [&str; 9] = ["open", "set", "remove", "batch", "rotate", "compact", "checkpoint", "backup", "close"];

/// What was hit, over all workers.
#[derive(Default)]
struct Coverage {
    points: BTreeMap<String, u64>,
    calls: BTreeSet<Call>,
    /// Deaths in the middle of a write, and how many of them left a torn tail.
    halves: u64,
    torn: u64,
    double: u64,
    double_calls: BTreeSet<Call>,
    failures: Vec<String>,
}

/// What the process was at when it died: the log's own threads do one kind of work each.
fn kind_of(heard: &Heard, call: &Call) -> String {
    let phase = heard.reports.iter().rev().find_map(|(_, report)| match report {
        Report::Phase(name) => Some(name.clone()),
        _ => None,
    });
    match call.thread.as_str() {
        _ if call.file.starts_with("CHECKPOINT") => "checkpoint".to_owned(),
        "kvs-segments" => "rotate".to_owned(),
        "kvs-compact" => "compact".to_owned(),
        _ => phase.unwrap_or_else(|| "open".to_owned()),
    }
}

fn story(scratch: &Scratch, seed: u64) -> Task {
    Task {
        seed,
        keys: KEYS,
        // Every other story compacts by itself as well, whenever something is dead.
        threshold_bytes: if seed.is_multiple_of(2) { 1024 } else { u64::MAX },
        ..Task::new(&scratch.data(), Script::Story)
    }
}

/// One death; returns what it hit, or `None` when the story came to its end before.
fn die_once(seed: u64, call: u64, fault: Fault) -> Result<Option<(Scratch, Oracle, Heard)>, String> {
    let scratch = Scratch::in_memory().map_err(|error| error.to_string())?;
    let plan = Plan { call, fault };
    let task = story(&scratch, seed);
    let heard = scratch.trace(Path::new(WORKLOAD), &task, plan).map_err(|error| error.to_string())?;
    let mut oracle = Oracle::new(KEYS);
    hear_all(&mut oracle, task.run, &heard.reports)?;
    if heard.run.hit.is_some() {
        return Ok(Some((scratch, oracle, heard)));
    }
    let well =
        heard.run.code == Some(0) && heard.reports.last().map(|(_, last)| last.to_string()) == Some("end well".into());
    if well { Ok(None) } else { Err(format!("the story failed by itself: {:?} {}", heard.run, heard.errors)) }
}

/// From what one death left: dies at every call of the recovery. Gives the number of deaths.
fn die_twice(scratch: &Scratch, oracle: &Oracle, seed: u64, coverage: &Mutex<Coverage>) -> Result<(), String> {
    for call in 1.. {
        let scratch = scratch.copy().map_err(|error| error.to_string())?;
        let mut oracle = oracle.clone();
        let task = story(&scratch, seed).probe(2);
        let plan = Plan { call, fault: Fault::Kill };
        let heard = scratch.trace(Path::new(WORKLOAD), &task, plan).map_err(|error| error.to_string())?;
        let place = format!("then at call {call} of the recovery");
        hear_all(&mut oracle, task.run, &heard.reports).map_err(|wrong| format!("{place}: {wrong}"))?;
        let Some(hit) = heard.run.hit else { return Ok(()) };
        probe(Path::new(WORKLOAD), &task.probe(3), &mut oracle)
            .map_err(|wrong| format!("{place}, {:?}: {wrong}", hit.call))?;
        let mut coverage = coverage.lock().unwrap();
        coverage.double += 1;
        coverage.double_calls.insert(hit.call);
    }
    Ok(())
}

/// One death, judged, and all those of its recovery if they are asked for; returns the call that it hit, or `None` when
/// the story came to its end before.
fn die_at(seed: u64, call: u64, fault: Fault, twice: bool, coverage: &Mutex<Coverage>) -> Result<Option<Call>, String> {
    let Some((scratch, oracle, heard)) = die_once(seed, call, fault)? else { return Ok(None) };
    let hit = heard.run.hit.as_ref().map(|hit| hit.call.clone()).unwrap();
    let failed = |wrong| format!("{fault:?} at {hit:?}: {wrong}");
    if twice {
        die_twice(&scratch, &oracle, seed, coverage).map_err(failed)?;
    }
    let task = story(&scratch, seed);
    judge_backup(Path::new(WORKLOAD), &task, &heard, &oracle).map_err(failed)?;
    let torn = probe(Path::new(WORKLOAD), &task.probe(2), &mut oracle.clone()).map_err(failed)?;
    let mut coverage = coverage.lock().unwrap();
    if fault == Fault::KillHalfway {
        coverage.halves += 1;
        coverage.torn += u64::from(torn > 0);
    } else {
        *coverage.points.entry(kind_of(&heard, &hit)).or_default() += 1;
        coverage.calls.insert(hit.clone());
    }
    Ok(Some(hit))
}

#[test]
fn a_crash_at_every_system_call_loses_nothing() {
    let began = Instant::now();
    // Every so-many-th point, the recovery is crashed as well.
    let (seeds, double_every, least_points, least_double) =
        if is_full() { (9, 24, 1_500, 200) } else { (1, 60, 100, 50) };
    let coverage = Mutex::new(Coverage::default());
    for seed in 1..=seeds {
        let (next, ended) = (AtomicU64::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let call = next.fetch_add(1, Ordering::Relaxed);
                        let died = die_at(seed, call, Fault::Kill, call % double_every == 0, &coverage);
                        // Where the call is a write: dies once more, with half of its bytes in the file.
                        let outcome = died.and_then(|hit| match hit {
                            None => Ok(false),
                            Some(hit) if !["write", "pwrite64"].contains(&hit.name) => Ok(true),
                            Some(_) => die_at(seed, call, Fault::KillHalfway, false, &coverage).map(|_| true),
                        });
                        match outcome {
                            Ok(true) => {}
                            Ok(false) => ended.store(true, Ordering::Relaxed),
                            Err(wrong) => {
                                coverage.lock().unwrap().failures.push(format!("story {seed}, call {call}: {wrong}"));
                                ended.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
    }
    let coverage = coverage.into_inner().unwrap();
    let points: u64 = coverage.points.values().sum();
    let names: BTreeSet<&str> = coverage.calls.iter().chain(&coverage.double_calls).map(|call| call.name).collect();
    say(&format!(
        "{points} crash points in {seeds} stories {:?}, {} different calls of {names:?}; {} in the middle of a \
         write, of which {} left a torn tail; {} double crashes at {} different calls of the recovery; {:.1} s",
        coverage.points,
        coverage.calls.len(),
        coverage.halves,
        coverage.torn,
        coverage.double,
        coverage.double_calls.len(),
        began.elapsed().as_secs_f64()
    ));
    assert!(coverage.failures.is_empty(), "{}", coverage.failures.join("\n"));
    for kind in KINDS {
        assert!(coverage.points.contains_key(kind), "no crash hit the work {kind:?}");
    }
    assert!(points >= least_points, "{points} crash points, {least_points} are promised");
    assert!(coverage.torn > 20, "only {} torn tails were met", coverage.torn);
    assert!(coverage.double >= least_double, "{} double crashes, {least_double} are promised", coverage.double);
}
