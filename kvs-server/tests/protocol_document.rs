//! PROTOCOL.md tells the truth: each of its examples is run against a server, and every error code has one.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::HashSet;

use kvs_protocol::{ErrorCode, Response, limits as wire};
use kvs_server::limits;
use support::{Process, Wire};
use tempfile::tempdir;

const DOCUMENT: &str = include_str!("../../PROTOCOL.md");

/// The fenced blocks of one language, each with the line on which it begins.
fn blocks(language: &str) -> Vec<(usize, Vec<&'static str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, usize, Vec<&str>)> = None;
    for (number, line) in DOCUMENT.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) => open = Some((found == language, number + 2, Vec::new())),
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

#[test]
fn every_exchange_happens_as_it_is_written() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let exchanges = blocks("exchange");
    assert!(exchanges.len() >= 10);
    for (number, lines) in exchanges {
        let mut client = Wire::connect(server.addr);
        for (offset, line) in lines.into_iter().enumerate() {
            let place = format!("PROTOCOL.md, line {}: {line}", number + offset);
            if let Some(request) = line.strip_prefix("> ") {
                client.send(format!("{request}\n"));
            } else if let Some(expected) = line.strip_prefix("< ") {
                let found = client.line().unwrap_or_else(|| panic!("{place}: closed"));
                assert_eq!(found.trim_end_matches('\r'), expected, "{place}");
            } else {
                assert_eq!(line, "closed", "{place}");
                assert_eq!(client.line(), None, "{place}");
            }
        }
    }
}

#[test]
fn every_answer_that_is_not_run_is_one_that_the_server_would_send() {
    for (number, lines) in blocks("response") {
        for line in lines {
            let line = line.strip_prefix("< ").unwrap_or_else(|| panic!("line {number}: {line}"));
            let mut written = Vec::new();
            Response::decode(line.as_bytes()).unwrap().encode(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"), "line {number}");
        }
    }
}

#[test]
fn every_error_code_has_an_example() {
    let mut shown = HashSet::new();
    for (_, lines) in blocks("exchange").into_iter().chain(blocks("response")) {
        for line in lines.iter().filter_map(|line| line.strip_prefix("< {").map(|rest| format!("{{{rest}"))) {
            if let Err(error) = Response::decode(line.as_bytes()).unwrap().body {
                shown.insert(error.code);
            }
        }
    }
    for code in ErrorCode::ALL {
        assert!(shown.contains(code), "{code} has no example");
        assert!(DOCUMENT.contains(&format!("\n`{code}`")), "{code} is not explained");
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let table = DOCUMENT.split_once("## Limits").unwrap().1;
    for (row, numbers) in [
        ("| key |", vec![wire::MAX_KEY_BYTES]),
        ("| value |", vec![wire::DEFAULT_MAX_VALUE_BYTES, wire::HIGHEST_MAX_VALUE_BYTES]),
        ("| batch |", vec![wire::MAX_BATCH_CHANGES]),
        ("| line |", vec![wire::DEFAULT_MAX_FRAME_BYTES]),
        ("| connections |", vec![limits::MAX_CONNECTIONS]),
        ("| requests of one connection", vec![limits::MAX_PIPELINE_REQUESTS, limits::MAX_PIPELINE_BYTES]),
        ("| answers of one connection", vec![limits::MAX_OUTPUT_BYTES]),
        ("| time to take answers", vec![usize::try_from(limits::WRITE_DEADLINE.as_secs()).unwrap()]),
        ("| time for a line |", vec![usize::try_from(limits::FRAME_DEADLINE.as_secs()).unwrap()]),
        ("| idle |", vec![usize::try_from(limits::IDLE_DEADLINE.as_secs()).unwrap()]),
        ("| large lines and answers", vec![limits::Limits::for_values(wire::DEFAULT_MAX_VALUE_BYTES).in_flight_bytes]),
    ] {
        let line = table.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("no row {row}"));
        for number in numbers {
            assert!(line.contains(&with_commas(number)), "{} is not in: {line}", with_commas(number));
        }
    }
}

/// A number as the document writes it: 10,000.
fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
