//! Lines that take effect together: a line that announces how many follow, then those.
//!
//! Many mutations in one line would be atomic as well, but whoever reads one of them would have to read, check and
//! search the whole line.
//!
//! What must hold: a group lies in one segment; a log that ends before its last line ends before its first one.

const BEFORE_LINES: &[u8] = br#"{"group":{"lines":"#;
const AFTER_LINES: &[u8] = b"}}";

/// The payload that announces so many lines.
pub(crate) fn announcement(lines: usize) -> Vec<u8> {
    let mut payload = BEFORE_LINES.to_vec();
    payload.extend_from_slice(lines.to_string().as_bytes());
    payload.extend_from_slice(AFTER_LINES);
    payload
}

/// How many lines a payload announces; `None` when it is an ordinary one.
pub(crate) fn announced(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(BEFORE_LINES)?.strip_suffix(AFTER_LINES)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The group of which not every line was seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// Where its announcement begins.
    pub(crate) offset: usize,
    /// The announcement's number.
    pub(crate) sequence: u64,
    /// Lines that are still to come.
    left: u64,
}

impl Unfinished {
    /// What is unfinished after one more line.
    pub(crate) fn after(open: Option<Self>, offset: usize, sequence: u64, payload: &[u8]) -> Option<Self> {
        let next = match open {
            Some(open) => Self { left: open.left - 1, ..open },
            None => Self { offset, sequence, left: announced(payload)? },
        };
        (next.left > 0).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_says_how_many_lines_follow() {
        assert_eq!(announcement(3), br#"{"group":{"lines":3}}"#);
        assert_eq!(announced(&announcement(10_000)), Some(10_000));
        assert_eq!(announced(br#"{"set":{"key":"group","value":"lines"}}"#), None);
        assert_eq!(announced(br#"{"group":{"lines":-1}}"#), None);
    }

    #[test]
    fn a_group_is_unfinished_until_its_last_line() {
        let first = Unfinished::after(None, 100, 7, &announcement(2));
        assert_eq!(first.map(|group| (group.offset, group.sequence)), Some((100, 7)));
        let second = Unfinished::after(first, 150, 8, b"{}");
        assert!(second.is_some());
        assert_eq!(Unfinished::after(second, 200, 9, b"{}"), None);
        assert_eq!(Unfinished::after(None, 250, 10, b"{}"), None);
    }
}
