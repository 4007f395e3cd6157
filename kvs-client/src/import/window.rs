//! `Window`: the lines between being read and being answered, in order.
//!
//! ```text
//! [ answered, to be sent again | sent, awaiting an answer | not sent on this connection ]
//! 0 ............... answered ........................ sent ......................... len
//! ```
//! Lines that were answered leave at the front. Only after a `busy` do they stay, from that line on: all of them are
//! sent again in order, as a later line may set the same key.

use std::collections::VecDeque;

use kvs_protocol::Request;

/// Lines in the window: two pipelines of the server, so that it always finds more to read.
const MAX_LINES: usize = 2048;
/// Bytes of keys and values in the window; the line that passes this is still taken.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// One line as a request.
pub(super) struct Entry {
    /// The number of the line in the input, from 1.
    pub(super) line: u64,
    /// The number of its last line; a record of CSV may take several.
    pub(super) end_line: u64,
    /// Where it ends in the input, in bytes.
    pub(super) end_bytes: u64,
    pub(super) request: Request,
    /// Bytes of its key and value.
    pub(super) bytes: usize,
}

/// The lines under way.
#[derive(Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    answered: usize,
    sent: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_LINES || self.bytes >= MAX_BYTES
    }

    /// Whether an answer is on its way.
    pub(super) fn is_awaiting(&self) -> bool {
        self.sent > self.answered
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.entries.push_back(entry);
    }

    /// The next line to send.
    pub(super) fn next_unsent(&self) -> Option<&Entry> {
        self.entries.get(self.sent)
    }

    /// The next line was sent.
    pub(super) fn mark_sent(&mut self) {
        self.sent += 1;
    }

    /// All lines are to be sent again.
    pub(super) fn unsend(&mut self) {
        self.answered = 0;
        self.sent = 0;
    }

    /// The next answer says done; returns the line if it left the window, because none before it is to be sent again.
    pub(super) fn confirm(&mut self) -> Option<Entry> {
        if self.answered > 0 {
            self.answered += 1;
            return None;
        }
        Some(self.take_answered())
    }

    /// The next answer says that the line is to be sent again.
    pub(super) fn postpone(&mut self) {
        self.answered += 1;
    }

    /// The next answer refuses the line for good: it leaves the window, and its number is returned.
    pub(super) fn refuse(&mut self) -> u64 {
        self.take_answered().line
    }

    fn take_answered(&mut self) -> Entry {
        let entry = self.entries.remove(self.answered).expect("an answer belongs to a line that was sent");
        self.sent -= 1;
        self.bytes -= entry.bytes;
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvs_protocol::Verb;

    fn entry(line: u64, bytes: usize) -> Entry {
        Entry { line, end_line: line, end_bytes: line, request: Verb::Ping.into(), bytes }
    }

    fn window(lines: u64) -> Window {
        let mut window = Window::default();
        for line in 1..=lines {
            window.push(entry(line, 10));
        }
        window
    }

    fn lines(window: &Window) -> Vec<u64> {
        window.entries.iter().map(|entry| entry.line).collect()
    }

    #[test]
    fn answered_lines_leave_at_the_front() {
        let mut window = window(4);
        (0..3).for_each(|_| window.mark_sent());
        assert!(window.confirm().is_some());
        assert!(window.confirm().is_some());
        assert_eq!(lines(&window), [3, 4]);
        assert!(window.is_awaiting());
        assert_eq!(window.next_unsent().unwrap().line, 4);
        assert!(window.confirm().is_some());
        assert!(!window.is_awaiting());
        assert_eq!(window.bytes, 10);
    }

    #[test]
    fn after_a_busy_line_all_are_sent_again_but_the_refused() {
        let mut window = window(5);
        (0..5).for_each(|_| window.mark_sent());
        assert!(window.confirm().is_some());
        window.postpone();
        assert!(window.confirm().is_none(), "line 3 is done but must follow line 2 once more");
        assert_eq!(window.refuse(), 4);
        window.postpone();
        assert!(!window.is_awaiting());
        window.unsend();
        assert_eq!(lines(&window), [2, 3, 5]);
        assert_eq!(window.next_unsent().unwrap().line, 2);
    }

    #[test]
    fn the_window_is_bounded_in_lines_and_bytes() {
        assert!(!window(MAX_LINES as u64 - 1).is_full());
        assert!(window(MAX_LINES as u64).is_full());
        let mut window = window(1);
        window.push(entry(2, MAX_BYTES));
        assert!(window.is_full());
    }
}
