//! PROTOCOL.md as the tests read it: its blocks, and what a server answers beside what it shows.

use kvs_protocol::{ErrorCode, Response};

pub const DOCUMENT: &str = include_str!("../../../PROTOCOL.md");

/// The fenced blocks of one kind, each with the line on which it begins.
pub fn blocks(kind: &str) -> Vec<(usize, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, usize, Vec<&str>)> = None;
    for (number, line) in DOCUMENT.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) => open = Some((found == kind, number + 2, Vec::new())),
            (Some(_), Some("")) => {
                let (wanted, number, lines) = open.take().unwrap();
                if wanted {
                    blocks.push((number, lines));
                }
            }
            (Some((_, _, lines)), _) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not ended");
    blocks
}

/// Whether a line is what the document shows, in which `…` stands for anything.
pub fn fits(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What a server answered is this error, in the words that the document shows for it.
pub fn assert_documented(answer: &str, code: ErrorCode) {
    let error_of = |line: &str| Response::decode(line.as_bytes()).unwrap().body.expect_err("an error is documented");
    let found = error_of(answer);
    assert_eq!(found.code, code, "{answer}");
    let shown = shown_by_others();
    let expected = shown.iter().map(|line| error_of(line)).find(|error| error.code == found.code);
    let expected = expected.unwrap_or_else(|| panic!("PROTOCOL.md has no `response` for {answer}"));
    assert!(fits(&expected.message, &found.message), "PROTOCOL.md says {:?}: {answer}", expected.message);
}

/// The answers that other tests than the document's own produce.
pub fn shown_by_others() -> Vec<&'static str> {
    let lines = blocks("response").into_iter().flat_map(|(_, lines)| lines);
    lines.map(|line| line.strip_prefix("< ").unwrap_or_else(|| panic!("no answer: {line}"))).collect()
}

/// The codes of errors that only a server in trouble gives, each of which a test produces and compares.
pub const IN_TROUBLE: [ErrorCode; 6] = [
    ErrorCode::Busy,
    ErrorCode::NoSpace,
    ErrorCode::ShuttingDown,
    ErrorCode::Poisoned,
    ErrorCode::Corruption,
    ErrorCode::Internal,
];
