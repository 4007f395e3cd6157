//! System calls fail: every call that changes or syncs a file, with each error, once and for ever, and short writes.
//! Nothing is acknowledged after a failed sync, the engine says that it is poisoned, a server ends within a second, and
//! whatever was acknowledged before is there when the folder is opened again.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use kvs_torture::judge::{Heard, Scratch, hear_all, judge_backup, probe};
use kvs_torture::tracer::{self, Errno, Fault, Hit, Plan, Program, Run};
use kvs_torture::{Oracle, Report, Script, Task, is_full, say};

const WORKLOAD: &str = env!("CARGO_BIN_EXE_workload");
/// Workloads that run at a time: where space is missing, they mostly wait.
const WORKERS: usize = 6;
const KEYS: usize = 8;
/// How soon a server must end after a failed sync.
const SERVER_ENDS_WITHIN: Duration = Duration::from_secs(1);
/// What a client writes to a server, one by one.
const SERVER_SETS: u64 = 30;
/// EINTR for ever is left out: whoever may try again does, and no kernel interrupts one call for ever.
const FAULTS: [Fault; 7] = [
    Fault::Once(Errno::EIO),
    Fault::ForEver(Errno::EIO),
    Fault::Once(Errno::ENOSPC),
    Fault::ForEver(Errno::ENOSPC),
    Fault::Once(Errno::EINTR),
    Fault::ShortWrite,
    Fault::ShortWrites,
];

/// What the faults led to, over all workers.
#[derive(Default)]
struct Outcomes {
    ends: BTreeMap<String, u64>,
    failed_syncs: u64,
    injections: u64,
    failures: Vec<String>,
}

/// Whether a fault is a sync that failed. An interrupted one has said nothing about the bytes: it is made again.
fn is_failed_sync(fault: Fault, hit: &Hit) -> bool {
    let fails = match fault {
        Fault::Once(errno) | Fault::ForEver(errno) => errno != Errno::EINTR,
        Fault::Kill | Fault::KillHalfway | Fault::ShortWrite | Fault::ShortWrites => false,
    };
    fails && ["fdatasync", "fsync", "sync_file_range", "syncfs"].contains(&hit.call.name)
}

/// What a run must not show, whatever failed.
fn judge(heard: &Heard, fault: Fault) -> Result<(), String> {
    let hit = heard.run.hit.as_ref();
    if heard.run.hung {
        return Err("it hangs".to_owned());
    }
    if heard.run.code.is_none() || heard.errors.contains("panicked") {
        return Err(format!("it died: {}", heard.errors));
    }
    // Which work the failed call belonged to: the log's threads prepare and seal while the first thread writes.
    let mut poisoned = false;
    let mut phase = "";
    let mut phase_of_hit = "";
    for (end, report) in &heard.reports {
        match report {
            Report::Phase(name) => phase = name,
            Report::Opened(_) => poisoned = false,
            Report::Failed(_, word) if word == "poisoned" => poisoned = true,
            Report::Trouble(text) if text.contains("poisoned") => poisoned = true,
            Report::Done(number) if poisoned => return Err(format!("{number} was acknowledged by a poisoned store")),
            _ => {}
        }
        if hit.is_some_and(|hit| *end <= hit.output_bytes) {
            phase_of_hit = phase;
        }
    }
    let writes = ["set", "remove", "batch", "rotate", "flush", "probe"].contains(&phase_of_hit);
    let Some(hit) = hit.filter(|hit| is_failed_sync(fault, hit) && hit.call.thread == "workload" && writes) else {
        return Ok(());
    };
    // The one thread that writes has led the group and waited for this sync.
    let mut after = heard.reports.iter().filter(|(end, _)| *end > hit.output_bytes).map(|(_, report)| report);
    let answer = after.next();
    match answer {
        Some(Report::Failed(_, word)) if word == "poisoned" => Ok(()),
        Some(Report::Trouble(text)) if phase_of_hit == "flush" && text.contains("poisoned") => Ok(()),
        other => Err(format!("the sync of {} failed, and the answer is {other:?}", hit.call.file)),
    }
}

/// One fault; returns whether the story came as far as the call.
fn fail_once(call: u64, fault: Fault, seed: u64, outcomes: &Mutex<Outcomes>) -> Result<bool, String> {
    let scratch = Scratch::in_memory().map_err(|error| error.to_string())?;
    // Segments of the smallest size, and a compaction whenever something is dead.
    let task = Task { seed, keys: KEYS, threshold_bytes: 1024, ..Task::new(&scratch.data(), Script::Story) };
    let heard = scratch.trace(Path::new(WORKLOAD), &task, Plan { call, fault }).map_err(|error| error.to_string())?;
    let Some(hit) = &heard.run.hit else { return Ok(false) };
    let context = |wrong| format!("{:?} {fault:?}: {wrong}", hit.call);
    let mut oracle = Oracle::new(KEYS);
    hear_all(&mut oracle, task.run, &heard.reports).map_err(context)?;
    judge(&heard, fault).map_err(context)?;
    judge_backup(Path::new(WORKLOAD), &task, &heard, &oracle).map_err(context)?;
    probe(Path::new(WORKLOAD), &task.probe(2), &mut oracle).map_err(context)?;
    let mut outcomes = outcomes.lock().unwrap();
    let end = match heard.reports.last() {
        Some((_, Report::End(how))) => how.clone(),
        other => return Err(format!("{:?} {fault:?}: the last word is {other:?}", hit.call)),
    };
    outcomes.injections += 1;
    outcomes.failed_syncs += u64::from(is_failed_sync(fault, hit));
    *outcomes.ends.entry(end).or_default() += 1;
    Ok(true)
}

#[test]
fn every_failed_system_call_is_survived_and_none_is_papered_over() {
    let began = Instant::now();
    // The short version gives each call two of the faults, in turn; the long one gives it all of them.
    let (seeds, faults_each) = if is_full() { (3, FAULTS.len() as u64) } else { (1, 2) };
    let least = if is_full() { 5_000 } else { 300 };
    let outcomes = Mutex::new(Outcomes::default());
    for seed in 1..=seeds {
        let (next, ended) = (AtomicU64::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let call = next.fetch_add(1, Ordering::Relaxed);
                        for turn in 0..faults_each {
                            let chosen = usize::try_from(call * faults_each + turn).unwrap() % FAULTS.len();
                            match fail_once(call, FAULTS[chosen], seed, &outcomes) {
                                Ok(true) => {}
                                Ok(false) => ended.store(true, Ordering::Relaxed),
                                Err(wrong) => {
                                    let wrong = format!("story {seed}, call {call}: {wrong}");
                                    outcomes.lock().unwrap().failures.push(wrong);
                                }
                            }
                        }
                    }
                });
            }
        });
    }
    let outcomes = outcomes.into_inner().unwrap();
    say(&format!(
        "{} injected faults, {} of them failed syncs; the workloads ended {:?}; {:.1} s",
        outcomes.injections,
        outcomes.failed_syncs,
        outcomes.ends,
        began.elapsed().as_secs_f64()
    ));
    assert!(outcomes.failures.is_empty(), "{}", outcomes.failures.join("\n"));
    assert!(outcomes.injections >= least, "{} injections, {least} are promised", outcomes.injections);
    assert!(outcomes.failed_syncs * 10 >= outcomes.injections, "too few of them are syncs");
}

/// A server whose system calls are meddled with, and a client that writes to it one by one until it goes or all is
/// written; then the server is told to stop. Returns how it went and whether the client's last word was a promise that
/// came after the fault.
fn fail_server(program: &Path, call: u64) -> Result<ServerEnd, String> {
    let scratch = tempfile::TempDir::with_prefix("kvs-torture-").map_err(|error| error.to_string())?;
    let (data, errors) = (scratch.path().join("data"), scratch.path().join("errors"));
    let (started, pid) = channel();
    let program = Program {
        file: program,
        arguments: ["--addr", "127.0.0.1:0", "--data-dir"]
            .map(OsString::from)
            .into_iter()
            .chain([data.clone().into()])
            .collect(),
        folder: &data,
        output: &scratch.path().join("output"),
        errors: &errors,
        time_limit: Duration::from_secs(60),
        started: Some(started),
    };
    let stopped_at = Mutex::new(None);
    std::thread::scope(|scope| {
        let (errors_path, stopped) = (&errors, &stopped_at);
        let client = scope.spawn(move || {
            let pid = pid.recv().ok()?;
            let promises = write_until_it_goes(errors_path);
            *stopped.lock().unwrap() = Some(Instant::now());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            promises
        });
        let run =
            tracer::run(&program, Plan { call, fault: Fault::Once(Errno::EIO) }).map_err(|error| error.to_string())?;
        let last_promise = client.join().unwrap();
        let errors = std::fs::read_to_string(&errors).unwrap_or_default();
        if run.hung || errors.contains("panicked") {
            return Err(format!("it hung or panicked: {errors}"));
        }
        let while_serving =
            stopped_at.lock().unwrap().is_some_and(|stopped| run.hit.as_ref().is_some_and(|hit| hit.at < stopped));
        Ok(ServerEnd { run, last_promise, while_serving })
    })
}

/// How a server's run went.
struct ServerEnd {
    run: Run,
    /// When the client got its last acknowledgement.
    last_promise: Option<Instant>,
    /// The fault came before the server was told to stop.
    while_serving: bool,
}

/// Writes keys to the server that says in this file where it listens; gives the time of the last acknowledgement.
fn write_until_it_goes(errors: &Path) -> Option<Instant> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let addr = loop {
        let log = std::fs::read_to_string(errors).unwrap_or_default();
        let line = log.lines().find(|line| line.contains("is listening"));
        let event = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if let Some(addr) = event.and_then(|event| Some(event["addr"].as_str()?.to_owned())) {
            break addr;
        }
        // A server that could not start has said so as its last word.
        if Instant::now() > deadline || log.contains("kvs-server: ") {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut stream = std::net::TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut answers = BufReader::new(stream.try_clone().ok()?);
    let mut last_promise = None;
    for number in 0..SERVER_SETS {
        let request = format!("{{\"set\":{{\"key\":\"{number}\",\"value\":\"{number}\"}}}}\n");
        let mut answer = String::new();
        let gone = stream.write_all(request.as_bytes()).is_err() || !matches!(answers.read_line(&mut answer), Ok(1..));
        if gone {
            // Told to stop only after it had the time to end by itself.
            std::thread::sleep(SERVER_ENDS_WITHIN);
            return last_promise;
        }
        if answer == "{\"ok\":null}\n" {
            last_promise = Some(Instant::now());
        }
    }
    last_promise
}

#[test]
fn a_server_whose_sync_fails_ends_within_a_second() {
    let began = Instant::now();
    let program = Path::new(WORKLOAD).with_file_name("kvs-server");
    assert!(program.exists(), "{} is missing; build it first: cargo build -p kvs-server", program.display());
    // The short version meets every seventh call, from the first one on, then from the second one on, and so forth: which
    // calls are syncs depends on the threads, and enough of them must have failed.
    let (step, least) = if is_full() { (1, 30) } else { (7, 4) };
    let (mut injections, mut syncs, mut slowest) = (0, 0, Duration::ZERO);
    let mut first = 1;
    let mut call = first;
    while first == 1 || (first <= step && syncs < least) {
        let end = fail_server(&program, call).unwrap_or_else(|wrong| panic!("call {call}: {wrong}"));
        let Some(hit) = end.run.hit else {
            assert_eq!(end.run.code, Some(0), "without a fault it ends in good order");
            first += 1;
            call = first;
            continue;
        };
        call += step;
        injections += 1;
        if !["fdatasync", "fsync"].contains(&hit.call.name) {
            continue;
        }
        syncs += 1;
        let took = end.run.ended.duration_since(hit.at);
        assert!(
            end.run.code.is_some_and(|code| code != 0),
            "{:?} failed and the exit code is {:?}",
            hit.call,
            end.run.code
        );
        assert!(!end.while_serving || took <= SERVER_ENDS_WITHIN, "{:?} failed and it went on for {took:?}", hit.call);
        slowest = slowest.max(took);
        // The log's own threads sync beside the group that was at the disk already.
        let own = hit.call.thread != "kvs-segments";
        let late = end.last_promise.is_some_and(|at| at > hit.at);
        assert!(!(own && late), "{:?} failed, and a write was acknowledged after it", hit.call);
    }
    say(&format!(
        "{injections} faults in a server, {syncs} of them failed syncs, after which it ended within {} ms; {:.1} s",
        slowest.as_millis(),
        began.elapsed().as_secs_f64()
    ));
    assert!(syncs >= least, "too few syncs failed: {syncs}");
}
