//! The power fails at any moment of a small story, and the disk keeps any part of what was not synced: every such
//! state opens, has all that was acknowledged, has nothing back that was removed, and has batches whole or not at all.
//!
//! A story is recorded once; then its calls are done again one by one, and after each of them states are made: nothing
//! kept, everything kept, one thing lost, one thing kept, and random choices. A part of the states is opened by a
//! process that loses its power as well.

mod support;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvs_engine::storage::{MemoryStorage, Storage};
use kvs_engine::{KvStore, KvsEngine};
use support::recording::{Note, Player, Promises, Recording, broken_promise};
use support::workload::{apply, ask, changes, contents};
use support::{Model, Random, content_of, figure, is_full, keep_for_a_person, open_with, tiny};

/// States that are looked at.
const STATES: u64 = 10_000;
const STATES_IN_FULL: u64 = 100_000;
/// Most states that are made after one call.
const STATES_PER_CALL: u64 = 12;
/// The short version looks behind one of so many calls, so that it sees several stories.
const CALLS_PER_LOOK: u64 = 5;
/// One of so many states is opened by a process that loses its power, too.
const SECOND_CRASHES: u64 = 8;
const WRITERS: usize = 3;
const STEPS: u64 = 30;

/// Several writers, each with keys of its own, and compactions between them; the store is closed, opened and used on.
fn story(seed: u64) -> Vec<Note> {
    let recording = Recording::new(MemoryStorage::new());
    let mut models = vec![Model::new(); WRITERS];
    for round in 0..2 {
        let store = KvStore::open_storage(Arc::new(recording.clone()), tiny()).expect("the disk is in order");
        std::thread::scope(|scope| {
            for (writer, model) in models.iter_mut().enumerate() {
                let (store, recording) = (&store, &recording);
                scope.spawn(move || {
                    let mut random = Random(seed * 1_000 + round * 10 + writer as u64);
                    for _ in 0..STEPS {
                        let changes = changes(writer, &mut random, model);
                        recording.note(Note::Asked(writer, changes.clone()));
                        ask(store, &changes).expect("the disk is in order");
                        recording.note(Note::Answered(writer));
                        apply(model, &changes);
                        if writer == 0 && random.below(8) == 0 {
                            store.compact().expect("the disk is in order");
                        }
                    }
                });
            }
        });
        // Without a close the second round begins as after a kill.
        if seed.is_multiple_of(2) {
            store.close().expect("the disk is in order");
        }
    }
    recording.notes()
}

/// How a state is chosen among all that a crash can leave.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Nothing,
    Everything,
    OneLost(u64),
    OneKept(u64),
    /// Each thing is kept with this chance in percent.
    Random(u64),
}

/// A folder after a crash, and how many things could have been lost.
fn crash(disk: &MemoryStorage, choice: Choice, random: &mut Random) -> (MemoryStorage, u64) {
    let mut asked = 0;
    let state = disk.after_power_loss(|| {
        asked += 1;
        match choice {
            Choice::Nothing => false,
            Choice::Everything => true,
            Choice::OneLost(number) => asked - 1 != number,
            Choice::OneKept(number) => asked - 1 == number,
            Choice::Random(percent) => random.below(100) < percent,
        }
    });
    (state, asked)
}

fn fingerprint(disk: &MemoryStorage) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in disk.list().expect("a folder in memory") {
        (&name, content_of(disk, &name)).hash(&mut hasher);
    }
    hasher.finish()
}

/// Opens a state and compares it with what was promised.
fn check(state: &MemoryStorage, promises: &Promises, story: &str) {
    let before = state.after_kill();
    let wrong = match open_with(state, &tiny()).and_then(|store| contents(&store, WRITERS)) {
        Ok(found) => broken_promise(promises, &found),
        Err(error) => Some(error.to_string()),
    };
    if let Some(wrong) = wrong {
        let folder = keep_for_a_person(&before, "crash-state");
        panic!("{story}: {wrong}\nthe folder as the crash left it: {}", folder.display());
    }
}

/// Opens a state, loses power at some call of that, and opens what is left.
fn check_second_crash(state: &MemoryStorage, promises: &Promises, random: &mut Random, story: &str) {
    let recording = Recording::new(state.after_kill());
    match KvStore::open_storage(Arc::new(recording.clone()), tiny()) {
        Ok(store) => drop(store),
        Err(error) => panic!("{story}: {error}"),
    }
    let notes = recording.notes();
    let mut player = Player::new(state.after_kill());
    let end = random.index(notes.len() + 1);
    for note in &notes[..end] {
        player.play(note);
    }
    let choice = match random.below(3) {
        0 => Choice::Nothing,
        1 => Choice::Everything,
        _ => Choice::Random(random.below(101)),
    };
    let (again, _) = crash(&player.disk, choice, random);
    check(&again, promises, &format!("{story}, then at call {end} of the recovery {choice:?}"));
}

#[test]
fn every_state_that_a_power_failure_leaves_has_what_was_acknowledged() {
    let wanted = if is_full() { STATES_IN_FULL } else { STATES };
    let (states, second, stories) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let recycled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while states.load(Ordering::Relaxed) < wanted {
                    let seed = stories.fetch_add(1, Ordering::Relaxed);
                    let counted = Counted { second: &second, recycled: &recycled };
                    states_of_a_story(seed, || states.fetch_add(1, Ordering::Relaxed) < wanted, &counted);
                }
            });
        }
    });
    let recycled = recycled.into_inner();
    assert!(recycled > 0, "no compaction wrote over a file that the one before had made useless");
    figure(&format!(
        "{wanted} states, {} crashes of a recovery, {recycled} files written again, {} stories",
        second.into_inner(),
        stories.into_inner()
    ));
}

/// What was met in all stories.
struct Counted<'a> {
    second: &'a AtomicU64,
    /// Files of a segment that became the one of another.
    recycled: &'a AtomicU64,
}

/// Makes states after each call of a story until `go_on` says that it is enough.
fn states_of_a_story(seed: u64, go_on: impl Fn() -> bool, counted: &Counted<'_>) {
    let notes = story(seed);
    let mut random = Random(seed);
    let mut player = Player::new(MemoryStorage::new());
    for (number, note) in notes.iter().enumerate() {
        if matches!(note, Note::Rename(from, _) if from.ends_with(".log")) {
            counted.recycled.fetch_add(1, Ordering::Relaxed);
        }
        if !player.play(note) || !is_full() && random.below(CALLS_PER_LOOK) > 0 {
            continue;
        }
        let promises = player.promises();
        let mut seen = HashSet::new();
        let (_, things) = crash(&player.disk, Choice::Everything, &mut random);
        for kind in 0..STATES_PER_CALL.min(2 + 2 * things) {
            let choice = match kind {
                0 => Choice::Nothing,
                1 => Choice::Everything,
                2..=4 => Choice::OneLost(random.below(things)),
                5..=7 => Choice::OneKept(random.below(things)),
                _ => Choice::Random(random.below(101)),
            };
            let (state, _) = crash(&player.disk, choice, &mut random);
            if !seen.insert(fingerprint(&state)) {
                continue;
            }
            let story = format!("story {seed}, call {number} ({}), {choice:?}", name_of(note));
            if random.below(SECOND_CRASHES) == 0 {
                check_second_crash(&state, &promises, &mut random, &story);
                counted.second.fetch_add(1, Ordering::Relaxed);
            }
            check(&state, &promises, &story);
            if !go_on() {
                return;
            }
        }
    }
}

/// A note without its bytes.
fn name_of(note: &Note) -> String {
    match note {
        Note::Write(file, offset, bytes) => format!("write of {} bytes at {offset} of file {file}", bytes.len()),
        Note::Asked(writer, _) => format!("writer {writer} asks"),
        other => format!("{other:?}"),
    }
}
