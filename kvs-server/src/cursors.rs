//! `Cursors`: cursors of scans as numbers, which is what the clients of Redis take them for.
//!
//! What must hold: an engine whose cursors are numbers needs no memory here; of the others the last
//! [`MAX_NUMBERED_CURSORS`] are known, and one that was forgotten is refused, never mistaken for another.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kvs_engine::Cursor;

use crate::limits::MAX_NUMBERED_CURSORS;

/// The cursors of one server.
#[derive(Default)]
pub(crate) struct Cursors {
    /// Held for a look or a push.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The number of the first cursor that is known, less one.
    forgotten: u64,
    cursors: VecDeque<Cursor>,
}

impl Cursors {
    /// The number of a cursor, never zero.
    pub(crate) fn number_of(&self, cursor: Cursor) -> u64 {
        if let Some(number) = cursor.to_number() {
            return number;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.cursors.len() == MAX_NUMBERED_CURSORS {
            known.cursors.pop_front();
            known.forgotten += 1;
        }
        known.cursors.push_back(cursor);
        known.forgotten + known.cursors.len() as u64
    }

    /// The cursor of a number: one that is known here, or one that the engine judges.
    pub(crate) fn cursor_of(&self, number: u64) -> Cursor {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = number.checked_sub(known.forgotten + 1).and_then(|place| usize::try_from(place).ok());
        let found = place.and_then(|place| known.cursors.get(place)).cloned();
        found.unwrap_or_else(|| Cursor::from_number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_that_are_no_numbers_get_one_until_they_are_forgotten() {
        let cursors = Cursors::default();
        let cursor = |number: usize| Cursor::from_bytes(format!("k{number}"));
        let numbers: Vec<u64> = (0..MAX_NUMBERED_CURSORS + 1).map(|number| cursors.number_of(cursor(number))).collect();
        assert!(!numbers.contains(&0));
        for (place, number) in numbers.iter().enumerate().skip(1) {
            assert_eq!(cursors.cursor_of(*number), cursor(place));
        }
        assert_ne!(cursors.cursor_of(numbers[0]), cursor(0), "it was forgotten, and the engine will refuse it");
        let native = Cursor::from_number(1 << 45 | 77);
        assert_eq!(cursors.cursor_of(cursors.number_of(native.clone())), native);
    }
}
