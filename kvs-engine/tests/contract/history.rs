//! Records what concurrent callers did to a key and when, and decides whether one order of single steps explains it.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! configurations that were seen before. Keys are checked one by one, as linearizability composes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kvs_engine::Condition;

/// What a caller did and was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Set(Vec<u8>),
    Got(Option<Vec<u8>>),
    Removed,
    NotFound,
    /// Read and removed, or found nothing.
    Took(Option<Vec<u8>>),
    /// Set with a condition: whether it was stored.
    SetIf(Condition, Vec<u8>, bool),
    /// Set with a condition: the value that was there.
    Swapped(Condition, Vec<u8>, Option<Vec<u8>>),
}

/// An action with the moments of call and answer.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) called: u64,
    pub(crate) answered: u64,
    pub(crate) action: Action,
    /// Nobody was answered, because the store crashed at the moment `answered`: it took effect before that, or never.
    pub(crate) optional: bool,
}

/// The events of all keys.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Moments are counted, not measured: each call and each answer takes the next number.
    clock: AtomicU64,
    events: Mutex<HashMap<&'static str, Vec<Event>>>,
}

impl Recorder {
    /// Does something and notes when it was called and answered.
    pub(crate) fn record(&self, key: &'static str, action: impl FnOnce() -> Action) {
        let called = self.clock.fetch_add(1, Ordering::SeqCst);
        let action = action();
        let answered = self.clock.fetch_add(1, Ordering::SeqCst);
        self.events.lock().expect("nobody panics with it").entry(key).or_default().push(Event {
            called,
            answered,
            action,
            optional: false,
        });
    }

    /// Whether some order of the key's events, beginning with no value, explains every answer.
    pub(crate) fn is_linearizable(&self, key: &str) -> bool {
        let events = self.events.lock().expect("nobody panics with it");
        events.get(key).is_none_or(|events| is_explained(events))
    }
}

/// Whether some order of the events of one key, beginning with no value, explains every answer.
pub(crate) fn is_explained(events: &[Event]) -> bool {
    search(events, 0, None, &mut HashSet::new())
}

/// Whether the events that are not in `done` can follow on a key that holds `value`.
fn search<'a>(
    events: &'a [Event],
    done: u128,
    value: Option<&'a [u8]>,
    seen: &mut HashSet<(u128, Option<&'a [u8]>)>,
) -> bool {
    assert!(events.len() < 128, "a history of one key fits a mask of 128 bits");
    let open = || events.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
    // An event can be next only if none that is open was answered before it was called.
    let Some(first_answer) = open().filter(|(_, event)| !event.optional).map(|(_, event)| event.answered).min() else {
        return true;
    };
    if !seen.insert((done, value)) {
        return false;
    }
    open().filter(|(_, event)| event.called < first_answer).any(|(index, event)| {
        let next = match &event.action {
            Action::Set(new) => Some(Some(&new[..])),
            Action::Got(got) => (got.as_deref() == value).then_some(value),
            Action::Removed => value.is_some().then_some(None),
            Action::NotFound => value.is_none().then_some(None),
            Action::Took(taken) => (taken.as_deref() == value).then_some(None),
            Action::SetIf(condition, new, stored) => {
                (condition.holds(value.is_some()) == *stored).then_some(if *stored { Some(&new[..]) } else { value })
            }
            Action::Swapped(condition, new, old) => (old.as_deref() == value)
                .then_some(if condition.holds(value.is_some()) { Some(&new[..]) } else { value }),
        };
        // What was under way when the store crashed takes no effect once somebody called after the crash.
        let too_late = open().filter(|(_, other)| other.optional && other.answered < event.called);
        let done = too_late.fold(done | 1 << index, |done, (index, _)| done | 1 << index);
        next.is_some_and(|next| search(events, done, next, seen))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(called: u64, answered: u64, action: Action) -> Event {
        Event { called, answered, action, optional: false }
    }

    fn explains(events: &[Event]) -> bool {
        is_explained(events)
    }

    /// Under way when the store crashed.
    fn lost(called: u64, crashed: u64, action: Action) -> Event {
        Event { optional: true, ..event(called, crashed, action) }
    }

    fn set(value: &str) -> Action {
        Action::Set(value.into())
    }

    fn got(value: &str) -> Action {
        Action::Got(Some(value.into()))
    }

    #[test]
    fn overlapping_calls_may_take_either_order() {
        let overlapping = [event(0, 3, set("a")), event(1, 2, Action::Got(None)), event(4, 5, got("a"))];
        assert!(explains(&overlapping));
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(!explains(&[event(0, 1, set("a")), event(2, 3, set("b")), event(4, 5, got("a"))]));
        assert!(!explains(&[event(0, 1, set("a")), event(2, 3, Action::Got(None))]));
    }

    #[test]
    fn two_removals_of_one_set_are_found() {
        let twice = [event(0, 1, set("a")), event(2, 5, Action::Removed), event(3, 4, Action::Removed)];
        assert!(!explains(&twice));
        let once = [event(0, 1, set("a")), event(2, 5, Action::Removed), event(3, 4, Action::NotFound)];
        assert!(explains(&once));
    }

    #[test]
    fn two_winners_of_a_missing_key_and_two_takers_of_a_value_are_found() {
        let nx = |value: &str, stored| Action::SetIf(Condition::Missing, value.into(), stored);
        assert!(explains(&[event(0, 3, nx("a", true)), event(1, 2, nx("b", false))]));
        assert!(!explains(&[event(0, 3, nx("a", true)), event(1, 2, nx("b", true))]));
        let took = |value: Option<&str>| Action::Took(value.map(Into::into));
        assert!(explains(&[event(0, 1, set("a")), event(2, 5, took(Some("a"))), event(3, 4, took(None))]));
        assert!(!explains(&[event(0, 1, set("a")), event(2, 5, took(Some("a"))), event(3, 4, took(Some("a")))]));
        let swap = |value: &str, old: &str| Action::Swapped(Condition::Always, value.into(), Some(old.into()));
        assert!(explains(&[event(0, 1, set("a")), event(2, 5, swap("b", "a")), event(3, 4, swap("c", "b"))]));
        assert!(!explains(&[event(0, 1, set("a")), event(2, 5, swap("b", "a")), event(3, 4, swap("c", "a"))]));
    }

    #[test]
    fn reads_that_go_back_in_time_are_found() {
        let back = [event(0, 9, set("a")), event(1, 2, got("a")), event(3, 4, Action::Got(None))];
        assert!(!explains(&back));
    }

    #[test]
    fn what_was_under_way_at_a_crash_is_there_or_not_and_does_not_change_its_mind() {
        let set_and_lost = [event(0, 1, set("a")), lost(2, 5, set("b"))];
        let then = |action| [&set_and_lost[..], &[event(6, 7, action)]].concat();
        assert!(explains(&then(got("a"))) && explains(&then(got("b"))));
        assert!(!explains(&then(Action::Got(None))));
        let mut late = then(got("a"));
        late.push(event(8, 9, got("b")));
        assert!(!explains(&late), "it came back later");
    }

    #[test]
    fn what_was_shown_before_a_crash_is_there_after_it() {
        let shown = [lost(0, 5, set("a")), event(1, 2, got("a")), event(6, 7, Action::Got(None))];
        assert!(!explains(&shown));
    }
}
