//! Records what concurrent callers did to a key and when, and decides whether one order of single steps explains it.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of
//! configurations that were seen before. Keys are checked one by one, as linearizability composes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a caller did and was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Set(Vec<u8>),
    Got(Option<Vec<u8>>),
    Removed,
    NotFound,
}

/// An action with the moments of call and answer.
#[derive(Debug, Clone)]
struct Event {
    called: u64,
    answered: u64,
    action: Action,
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
        self.events.lock().unwrap().entry(key).or_default().push(Event { called, answered, action });
    }

    /// Whether some order of the key's events, beginning with no value, explains every answer.
    pub(crate) fn is_linearizable(&self, key: &str) -> bool {
        let events = self.events.lock().unwrap();
        events.get(key).is_none_or(|events| search(events, 0, None, &mut HashSet::new()))
    }
}

/// Whether the events that are not in `done` can follow on a key that holds `value`.
fn search<'a>(
    events: &'a [Event],
    done: u64,
    value: Option<&'a [u8]>,
    seen: &mut HashSet<(u64, Option<&'a [u8]>)>,
) -> bool {
    assert!(events.len() < 64, "a history of one key fits a mask of 64 bits");
    if done == (1 << events.len()) - 1 {
        return true;
    }
    if !seen.insert((done, value)) {
        return false;
    }
    let open = || events.iter().enumerate().filter(|(index, _)| done >> index & 1 == 0);
    // An event can be next only if none that is open was answered before it was called.
    let first_answer = open().map(|(_, event)| event.answered).min().expect("some event is open");
    open().filter(|(_, event)| event.called < first_answer).any(|(index, event)| {
        let next = match &event.action {
            Action::Set(new) => Some(Some(&new[..])),
            Action::Got(got) => (got.as_deref() == value).then_some(value),
            Action::Removed => value.is_some().then_some(None),
            Action::NotFound => value.is_none().then_some(None),
        };
        next.is_some_and(|next| search(events, done | 1 << index, next, seen))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(called: u64, answered: u64, action: Action) -> Event {
        Event { called, answered, action }
    }

    fn explains(events: &[Event]) -> bool {
        search(events, 0, None, &mut HashSet::new())
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
    fn reads_that_go_back_in_time_are_found() {
        let back = [event(0, 9, set("a")), event(1, 2, got("a")), event(3, 4, Action::Got(None))];
        assert!(!explains(&back));
    }
}
