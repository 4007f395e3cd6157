//! A crash at every point of a cut: the next opening finds the log before it or after it, and never a mixture.

use std::sync::Arc;

use kvs_engine::Error;
use kvs_engine::log::{Entry, FramedLog};
use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage};

use crate::fixture::{contents, entries, fill, open, open_on, payload, try_open};
use crate::support::recording::{Note, Player, Recording};
use crate::support::{Random, is_full, keep_for_a_person};

/// One way to take entries away from a log of thirty.
type Cut = (&'static str, fn(&FramedLog) -> kvs_engine::Result<()>);

const CUTS: [Cut; 9] = [
    ("the last entry goes", |log| log.truncate_after(29)),
    ("the segment that takes appends is cut", |log| log.truncate_after(26)),
    ("a cut between two segments", |log| log.truncate_after(21)),
    ("an early segment is cut", |log| log.truncate_after(9)),
    ("everything is cut", |log| log.truncate_after(0)),
    ("two cuts", |log| log.truncate_after(29).and_then(|()| log.truncate_after(9))),
    ("a purge of whole segments", |log| log.purge_before(16)),
    ("a purge of everything", |log| log.purge_before(31)),
    ("a purge beyond the end", |log| log.purge_before(100)),
];

/// Folders that a crash may leave now: all is there, nothing un-synced is, and parts of it.
fn crashes(disk: &MemoryStorage, random: &mut Random) -> Vec<MemoryStorage> {
    let mut disks = vec![disk.after_kill(), disk.after_power_loss(|| false)];
    for _ in 0..if is_full() { 20 } else { 3 } {
        let kept = random.below(101);
        disks.push(disk.after_power_loss(|| random.below(100) < kept));
    }
    disks
}

/// The log goes on after a crash: another entry, another cut, another loss of power.
fn goes_on(disk: &MemoryStorage, log: FramedLog, found: &[Entry]) {
    let next = log.last_sequence() + 1;
    assert_eq!(log.append(&payload(9, next)).expect("the disk is in order"), next);
    let grown = [found, &entries(9, next, next)].concat();
    assert_eq!(contents(&open(&disk.after_power_loss(|| false))), grown);
    if next > log.first_sequence() {
        log.truncate_after(next - 2).expect("the disk is in order");
        let cut = contents(&open(&disk.after_power_loss(|| false)));
        assert_eq!(cut, found[..found.len() - 1]);
    }
}

#[test]
fn a_crash_at_any_point_of_a_cut_leaves_the_old_log_or_the_new_one() {
    let mut states = 0;
    for (story, cut) in CUTS {
        let recording = Recording::new(MemoryStorage::new());
        let log = open_on(Arc::new(recording.clone()));
        fill(&log, 1, 30);
        let old = contents(&log);
        let between = {
            // Of two cuts, the log between them is possible as well.
            let disk = MemoryStorage::new();
            let log = open(&disk);
            fill(&log, 1, 30);
            if story == "two cuts" {
                log.truncate_after(29).unwrap();
            }
            contents(&log)
        };
        recording.note(Note::Asked(0, Vec::new()));
        cut(&log).unwrap();
        recording.note(Note::Answered(0));
        let new = contents(&log);
        let next = log.last_sequence() + 1;
        let after = entries(2, next, next + 9);
        fill(&log, 2, next + 9);
        assert_ne!(old, new);

        let mut player = Player::new(MemoryStorage::new());
        let mut random = Random(7);
        let (mut asked, mut answered) = (false, false);
        for (number, note) in recording.notes().iter().enumerate() {
            asked |= matches!(note, Note::Asked(..));
            answered |= matches!(note, Note::Answered(_));
            if !player.play(note) || !asked {
                continue;
            }
            for disk in crashes(&player.disk, &mut random) {
                let copy = disk.after_kill();
                let broken = |what: &str| -> ! {
                    let folder = keep_for_a_person(&copy, "framed_log");
                    panic!("{story}, after note {number} ({note:?}): {what}; see {}", folder.display())
                };
                let log = try_open(&disk).unwrap_or_else(|error| broken(&error.to_string()));
                let found = contents(&log);
                let is_new = found.starts_with(&new) && after.starts_with(&found[new.len()..]);
                let is_empty_new = new.is_empty() && log.first_sequence() != next;
                let is_old = !answered && (found == old || found == between);
                if !is_old && (!is_new || is_empty_new) {
                    broken(&format!("found {:?}", found.iter().map(|entry| entry.sequence).collect::<Vec<_>>()));
                }
                goes_on(&disk, log, &found);
                states += 1;
            }
        }
    }
    assert!(states > 500, "only {states} states");
}

/// Every call of a cut fails, once or for ever: an error leaves the old log or the new one, and no error the new one.
#[test]
fn every_failing_call_of_a_cut_leaves_the_old_log_or_the_new_one() {
    const EIO: i32 = 5;
    const EINTR: i32 = 4;
    const ENOSPC: i32 = 28;
    let mut errors = 0;
    for (story, cut) in CUTS.into_iter().filter(|(story, _)| *story != "two cuts") {
        let run = |fault: Option<Fault>| {
            let disk = MemoryStorage::new();
            let log = open(&disk);
            fill(&log, 1, 30);
            let old = contents(&log);
            drop(log);
            let faulty = FaultyStorage::new(Arc::new(disk.clone()), fault);
            let Ok(log) = FramedLog::open_storage(Arc::new(faulty.clone()), crate::fixture::options()) else {
                return (disk, faulty.calls(), old.clone(), old, None);
            };
            let result = cut(&log);
            let new = if result.is_ok() { contents(&log) } else { Vec::new() };
            if let Err(error) = &result {
                let found = contents(&log);
                assert!(found == old || log.fatal().is_some(), "{story}, {fault:?}: {error}");
                assert_eq!(
                    log.fatal().is_some(),
                    matches!(error, Error::Poisoned { .. }),
                    "{story}, {fault:?}: {error}"
                );
            }
            (disk, faulty.calls(), old, new, Some(result))
        };
        let (_, calls, _, new, _) = run(None);
        for kind in [EIO, EINTR, ENOSPC].map(FaultKind::Errno).into_iter().chain([FaultKind::ShortWrite]) {
            for for_ever in [false, true] {
                if for_ever && kind == FaultKind::Errno(EINTR) {
                    continue; // Interrupted for ever is no fault that any system shows.
                }
                for call in 0..calls {
                    let fault = Fault { call, kind, for_ever };
                    let (disk, _, old, _, result) = run(Some(fault));
                    for disk in [disk.after_power_loss(|| false), disk.after_kill()] {
                        let log = try_open(&disk).unwrap_or_else(|error| panic!("{story}, {fault:?}: {error}"));
                        let found = contents(&log);
                        match &result {
                            Some(Ok(())) => assert_eq!(found, new, "{story}, {fault:?}"),
                            Some(Err(_)) => assert!(found == old || found == new, "{story}, {fault:?}"),
                            None => assert_eq!(found, old, "{story}, {fault:?}"),
                        }
                    }
                    errors += u64::from(matches!(result, Some(Err(_))));
                }
            }
        }
    }
    assert!(errors > 100, "only {errors} cuts failed");
}
