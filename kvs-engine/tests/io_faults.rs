//! Every call to the disk fails, once and for ever, with every error that a disk has: nothing that was acknowledged is
//! lost, nothing is acknowledged after a failed sync, nobody is given wrong data, and the error says who must act.
//!
//! One story is told again and again; each time the next call fails, until the story ends without meeting the fault.

#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage, Storage as _};
use kvs_engine::{Error, KvStore, KvsEngine};
use support::workload::{Change, apply, ask, changes, contents, keys_of};
use support::{Model, Random, figure, is_full, open_with, tiny, wait_until};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;
/// Operations of a story.
const STEPS: u64 = 24;
const STEPS_IN_FULL: u64 = 60;
/// Stories that are told at a time: some wait for space to return, which the log looks for once a second.
const TELLERS: usize = 12;

/// What a story ended with.
struct Ending {
    disk: MemoryStorage,
    /// The calls that failed.
    failed: Vec<String>,
    calls: u64,
    /// What was acknowledged, and what may be there on top of that.
    model: Model,
    maybe: Option<Vec<Change>>,
    /// Whether the store said that nothing more is acknowledged.
    poisoned: bool,
}

/// Whether one of these calls was the sync of something that the store was built on: of the folder, or of a file that
/// it has kept.
fn lost_sync(failed: &[String], disk: &MemoryStorage) -> bool {
    let names = disk.list().unwrap();
    failed.iter().any(|call| match call.strip_prefix("sync ") {
        // A file that is written beside what is in force, and that is removed when it could not be made durable.
        Some(name) => name.ends_with(".log") && names.iter().any(|found| found == name),
        None => call.starts_with("sync_folder"),
    })
}

/// Opens a store, uses it, closes it; some call fails.
fn tell(seed: u64, steps: u64, fault: Option<Fault>) -> Ending {
    let disk = MemoryStorage::new();
    let faulty = FaultyStorage::with_reads(Arc::new(disk.clone()), fault);
    let mut ending = Ending { disk, failed: Vec::new(), calls: 0, model: Model::new(), maybe: None, poisoned: false };
    let mut random = Random(seed);
    for _ in 0..2 {
        if let Ok(store) = KvStore::open_storage(Arc::new(faulty.clone()), tiny()) {
            // What failed before is over: the folder was opened again.
            let before = faulty.failed().len();
            for step in 0..steps / 2 {
                take_a_step(&store, &faulty, &mut random, &mut ending, step);
            }
            check_reads(&store, &ending);
            let once = fault.is_some_and(|fault| !fault.for_ever);
            if once {
                let story = format!("seed {seed}, {fault:?}, {:?}: the store is poisoned", faulty.failed());
                wait_until(&story, || store.fatal().is_some() || !lost_sync(&faulty.failed()[before..], &ending.disk));
            }
            ending.poisoned |= store.fatal().is_some();
            if once && !ending.poisoned {
                // The fault is over: whatever it was, a store that is not poisoned takes writes again by itself.
                wait_until(&format!("{fault:?}: writing resumes, {:?}", faulty.failed()), || {
                    let change = vec![("0/0".to_owned(), Some("it goes on".to_owned()))];
                    let done = ask(&store, &change);
                    if done.is_ok() {
                        apply(&mut ending.model, &change);
                    }
                    // The call may come only now.
                    ending.maybe = ending.maybe.take().or_else(|| is_poisoned(&done).then_some(change));
                    ending.poisoned |= is_poisoned(&done);
                    done.is_ok() || ending.poisoned
                });
            }
            let _ = store.close();
        }
        if ending.poisoned {
            // The process must end; it is not the one that opens the folder again.
            break;
        }
    }
    ending.failed = faulty.failed();
    ending.calls = faulty.calls();
    ending
}

fn is_poisoned<T>(result: &kvs_engine::Result<T>) -> bool {
    matches!(result, Err(Error::Poisoned { .. }))
}

fn take_a_step(store: &KvStore, faulty: &FaultyStorage, random: &mut Random, ending: &mut Ending, step: u64) {
    let changes = changes(0, random, &ending.model);
    let done = ask(store, &changes);
    match &done {
        Ok(()) => {
            assert!(!ending.poisoned, "acknowledged by a poisoned store");
            apply(&mut ending.model, &changes);
        }
        // Whether it reached the disk is unknown, of the first one; every later one was refused.
        Err(Error::Poisoned { .. }) => {
            if !ending.poisoned {
                ending.maybe = Some(changes);
            }
            ending.poisoned = true;
            assert!(store.fatal().is_some(), "the server asks for that, and exits");
        }
        Err(Error::NoSpace | Error::Io { .. }) => {}
        Err(error) => panic!("{error}, after {:?}", faulty.failed()),
    }
    if step % 8 == 5
        && let Err(error) = store.compact()
    {
        ending.poisoned |= matches!(error, Error::Poisoned { .. });
        assert!(!matches!(error, Error::Corruption { .. } | Error::KeyNotFound), "{error}");
    }
    if step.is_multiple_of(5) {
        check_reads(store, ending);
    }
}

/// A read gives what was acknowledged, or an error that does not call the disk damaged.
fn check_reads(store: &KvStore, ending: &Ending) {
    for key in keys_of(0) {
        match store.get(key.as_str()) {
            // What is in doubt is not shown.
            Ok(value) => assert_eq!(value.as_deref(), ending.model.get(&key).map(String::as_bytes), "{key}"),
            Err(Error::Io { .. } | Error::Poisoned { .. }) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
}

/// Whatever of the un-synced the next process finds, all that was acknowledged is there.
fn check_ending(ending: &Ending, story: &str) {
    let mut random = Random(ending.calls);
    let disks = [
        ("power lost, nothing kept", ending.disk.after_power_loss(|| false)),
        ("power lost, a part kept", ending.disk.after_power_loss(|| random.below(2) == 0)),
        ("killed", ending.disk.after_kill()),
    ];
    for (how, disk) in disks {
        let found = open_with(&disk, &tiny()).and_then(|store| contents(&store, 1));
        let found = found.unwrap_or_else(|error| panic!("{story}, {how}: {error}"));
        let mut all = ending.model.clone();
        apply(&mut all, ending.maybe.as_deref().unwrap_or_default());
        assert!(found == ending.model || found == all, "{story}, {how}: {found:#?} instead of {:#?}", ending.model);
    }
}

#[test]
fn every_failing_call_is_an_error_and_loses_nothing() {
    let (steps, seeds) = if is_full() { (STEPS_IN_FULL, 1..4) } else { (STEPS, 1..2) };
    let mut faults = Vec::new();
    for seed in seeds {
        let ending = tell(seed, steps, None);
        assert!(ending.failed.is_empty() && !ending.poisoned && ending.maybe.is_none());
        check_ending(&ending, "nothing fails");
        for kind in [FaultKind::Errno(EIO), FaultKind::Errno(ENOSPC), FaultKind::Errno(EINTR), FaultKind::ShortWrite] {
            for call in 0..ending.calls {
                faults.extend([false, true].map(|for_ever| (seed, Fault { call, kind, for_ever })));
            }
        }
    }
    let (next, injected) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..TELLERS {
            scope.spawn(|| {
                while let Some((seed, fault)) =
                    faults.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap())
                {
                    let ending = tell(*seed, steps, Some(*fault));
                    let story = format!("story {seed}, {fault:?}, {:?}", ending.failed.first());
                    if fault.kind == FaultKind::ShortWrite {
                        assert!(!ending.poisoned, "{story}: a short call is no error");
                    }
                    check_ending(&ending, &story);
                    injected.fetch_add(u64::from(!ending.failed.is_empty()), Ordering::Relaxed);
                }
            });
        }
    });
    let injected = injected.into_inner();
    figure(&format!("{injected} faults injected"));
    let least = if is_full() { 5_000 } else { 1_000 };
    assert!(injected >= least, "only {injected} faults were met");
}

/// A sync fails once, and every later one goes well and proves nothing: the operating system has forgotten what it did
/// not write. Nobody is told that it is durable.
#[test]
fn a_sync_that_failed_is_never_believed_when_it_is_tried_again() {
    let mut sync = 0;
    loop {
        let disk = MemoryStorage::new();
        let mut model = Model::new();
        let mut maybe = Vec::new();
        let mut random = Random(3);
        disk.fail_sync_after(sync);
        if let Ok(store) = open_with(&disk, &tiny()) {
            for step in 0..STEPS {
                let changes = changes(0, &mut random, &model);
                match ask(&store, &changes) {
                    Ok(()) => {
                        assert!(maybe.is_empty(), "sync {sync}: acknowledged by a poisoned store");
                        apply(&mut model, &changes);
                    }
                    Err(Error::Poisoned { .. }) if maybe.is_empty() => maybe = changes,
                    Err(Error::Poisoned { .. }) => {}
                    Err(error) => panic!("sync {sync}: {error}"),
                }
                if step % 8 == 5 {
                    let _ = store.compact();
                }
            }
        }
        let mut all = model.clone();
        apply(&mut all, &maybe);
        for seed in 0..4 {
            let mut random = Random(seed);
            let lost = disk.after_power_loss(|| seed > 0 && random.below(2) == 0);
            let found = open_with(&lost, &tiny()).and_then(|store| contents(&store, 1));
            let found = found.unwrap_or_else(|error| panic!("sync {sync}: {error}"));
            assert!(found == model || found == all, "sync {sync}: {found:#?} instead of {model:#?}");
        }
        if disk.awaits_failing_sync() {
            break;
        }
        sync += 1;
    }
    figure(&format!("{sync} syncs failed"));
    assert!(sync > 40, "the story makes only {sync} syncs");
}
