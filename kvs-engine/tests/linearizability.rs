//! Histories of many threads on few keys, across losses of power: one order of single steps explains every answer.
//!
//! What was answered before a crash took effect, a read included: what a read showed is there afterwards. What was
//! under way took effect before the crash or never. The checker stands in `contract/history.rs`, where the same engine
//! is checked without crashes.

mod support;

#[path = "contract/history.rs"]
#[allow(dead_code, reason = "the recorder there knows no crashes")]
mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use history::{Action, Event, is_explained};
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Condition, Error, KvStore, KvsEngine};
use support::slow::Slow;
use support::{Random, figure, is_full, tiny, wait_until};

/// Histories that are checked.
const HISTORIES: u64 = 120;
const HISTORIES_IN_FULL: u64 = 3_000;
/// Crashes in each, and what threads do between two of them.
const LIVES: u64 = 3;
const WORKERS: u64 = 5;
const ACTIONS: u64 = 6;
const KEYS: [&str; 2] = ["even", "odd"];

/// What a worker is about to ask for.
#[derive(Debug, Clone)]
enum Wish {
    Get,
    Set(Vec<u8>),
    SetIf(Condition, Vec<u8>),
    Remove,
    Take,
}

/// An action that was called, and its answer if there was one.
struct Call {
    key: &'static str,
    called: u64,
    wish: Wish,
    answer: Option<(u64, Action)>,
}

/// Everything that was called, by moments that are counted, not measured.
#[derive(Default)]
struct Journal {
    clock: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Journal {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn call(&self, store: &KvStore, key: &'static str, wish: Wish) {
        let place = {
            let mut calls = self.calls.lock().expect("nobody panics with it");
            calls.push(Call { key, called: self.tick(), wish: wish.clone(), answer: None });
            calls.len() - 1
        };
        let action = match wish {
            Wish::Get => Action::Got(store.get(key).expect("the disk is in order")),
            Wish::Set(value) => {
                store.set(key, value.clone()).expect("the disk is in order");
                Action::Set(value)
            }
            Wish::SetIf(condition, value) => {
                let stored = store.set_if(key, value.clone(), condition).expect("the disk is in order");
                Action::SetIf(condition, value, stored)
            }
            Wish::Take => Action::Took(store.take(key).expect("the disk is in order")),
            Wish::Remove => match store.remove(key) {
                Ok(()) => Action::Removed,
                Err(Error::KeyNotFound) => Action::NotFound,
                Err(error) => panic!("{error}"),
            },
        };
        let answered = self.tick();
        self.calls.lock().expect("nobody panics with it")[place].answer = Some((answered, action));
    }

    fn answers(&self) -> usize {
        self.calls.lock().expect("nobody panics with it").iter().filter(|call| call.answer.is_some()).count()
    }

    /// What the world remembers of the calls of a life that ended between two moments.
    fn events(&self, before: u64, after: u64) -> BTreeMap<&'static str, Vec<Event>> {
        let mut events: BTreeMap<&'static str, Vec<Event>> = BTreeMap::new();
        for Call { key, called, wish, answer } in self.calls.lock().expect("nobody panics with it").drain(..) {
            let event = match (answer, wish) {
                (Some((answered, action)), _) if answered < before => {
                    Event { called, answered, action, optional: false }
                }
                _ if called > after => continue,
                (_, Wish::Get) => continue,
                (_, Wish::Set(value)) => Event { called, answered: after, action: Action::Set(value), optional: true },
                // If it took effect at all, it was this one.
                (_, Wish::SetIf(condition, value)) => {
                    let action = Action::SetIf(condition, value, true);
                    Event { called, answered: after, action, optional: true }
                }
                (_, Wish::Remove | Wish::Take) => {
                    Event { called, answered: after, action: Action::Removed, optional: true }
                }
            };
            events.entry(key).or_default().push(event);
        }
        events
    }
}

/// One life of the store: workers at work until the power fails among them. Returns what the disk keeps.
fn live(disk: &MemoryStorage, journal: &Journal, random: &mut Random) -> (MemoryStorage, u64, u64) {
    let store = KvStore::open_storage(Arc::new(Slow(disk.clone())), tiny()).expect("a legal crash is never refused");
    for key in KEYS {
        journal.call(&store, key, Wish::Get);
    }
    let dead = AtomicBool::new(false);
    let last_answer = journal.answers() + random.index(usize::try_from(WORKERS * ACTIONS).expect("a small number"));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let mut random = Random(random.next());
            let (store, dead) = (&store, &dead);
            scope.spawn(move || {
                for action in 0..ACTIONS {
                    if dead.load(Ordering::SeqCst) {
                        break;
                    }
                    let value = format!("{worker}/{action}/{}", random.next()).into_bytes();
                    let wish = match random.below(8) {
                        0 | 1 => Wish::Get,
                        2 => Wish::Remove,
                        3 => Wish::Take,
                        4 => Wish::SetIf(Condition::Missing, value),
                        5 => Wish::SetIf(Condition::Present, value),
                        _ => Wish::Set(value),
                    };
                    journal.call(store, KEYS[random.index(KEYS.len())], wish);
                }
            });
        }
        wait_until("some answers", || journal.answers() >= last_answer);
        let before = journal.tick();
        let kept = random.below(101);
        let left = disk.after_power_loss(|| random.below(100) < kept);
        let after = journal.tick();
        dead.store(true, Ordering::SeqCst);
        (left, before, after)
    })
}

#[test]
fn histories_across_losses_of_power_are_linearizable() {
    let wanted = if is_full() { HISTORIES_IN_FULL } else { HISTORIES };
    for seed in 0..wanted {
        let mut random = Random(seed);
        let journal = Journal::default();
        let mut disk = MemoryStorage::new();
        let mut history: BTreeMap<&'static str, Vec<Event>> = BTreeMap::new();
        for _ in 0..LIVES {
            let (left, before, after) = live(&disk, &journal, &mut random);
            for (key, mut events) in journal.events(before, after) {
                history.entry(key).or_default().append(&mut events);
            }
            disk = left;
        }
        let store = KvStore::open_storage(Arc::new(disk), tiny()).expect("a legal crash is never refused");
        for key in KEYS {
            journal.call(&store, key, Wish::Get);
        }
        let end = journal.tick();
        for (key, mut events) in journal.events(end, end) {
            history.entry(key).or_default().append(&mut events);
        }
        for (key, events) in history {
            assert!(is_explained(&events), "history {seed}, key {key}: {events:#?}");
        }
    }
    figure(&format!("{wanted} histories"));
}
