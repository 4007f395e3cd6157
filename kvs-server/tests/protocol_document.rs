//! PROTOCOL.md tells the truth: each of its examples is run against a server, and every error code has one.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::HashSet;

use kvs_protocol::{ErrorCode, Response, limits as wire};
use kvs_server::limits;
use support::document::{DOCUMENT, IN_TROUBLE, blocks, fits, shown_by_others};
use support::{Process, Wire};
use tempfile::tempdir;

#[test]
fn a_line_with_gaps_fits_what_it_stands_for() {
    for (expected, found, fit) in
        [("a", "a", true), ("a", "ab", false), ("a…c", "abc", true), ("a…b…d", "axbyd", true), ("a…", "b", false)]
    {
        assert_eq!(fits(expected, found), fit, "{expected} and {found}");
    }
}

/// Plays blocks against a server; in what is sent, `…` stands for this.
fn play(server: &Process, blocks: Vec<(usize, Vec<&str>)>, filler: &str, line_end: &str) {
    assert!(!blocks.is_empty());
    for (number, lines) in blocks {
        let mut client = Wire::connect(server.addr);
        for (offset, line) in lines.into_iter().enumerate() {
            let place = format!("PROTOCOL.md, line {}: {line}", number + offset);
            if let Some(request) = line.strip_prefix("> ") {
                client.send(format!("{}{line_end}", request.replace('…', filler)));
            } else if let Some(expected) = line.strip_prefix("< ") {
                let found = client.line().unwrap_or_else(|| panic!("{place}: closed"));
                let found = found.trim_end_matches('\r');
                assert!(fits(expected, found), "{place}\nfound {found}");
            } else {
                assert_eq!(line, "closed", "{place}");
                assert_eq!(client.line(), None, "{place}");
            }
        }
    }
}

#[test]
fn every_exchange_happens_as_it_is_written() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let exchanges = blocks("exchange");
    assert!(exchanges.len() >= 15);
    play(&server, exchanges, "…", "\n");
    play(&server, blocks("resp"), "…", "\r\n");
    play(&server, blocks("exchange value-limit"), &"x".repeat(wire::DEFAULT_MAX_VALUE_BYTES + 1), "\n");
    play(&server, blocks("exchange frame-limit"), &"x".repeat(wire::DEFAULT_MAX_FRAME_BYTES + 1), "\n");
    // A line that does not end.
    play(&server, blocks("exchange slow"), "", "");
}

#[test]
fn what_depends_on_the_server_happens_there_as_it_is_written() {
    let here = tempdir().unwrap();
    let grants = "tokens: [{name: a, role: read, token: token-that-may-read}]\n";
    std::fs::write(here.path().join("grants"), grants).unwrap();
    play(&Process::start(here.path(), &["--auth-tokens", "grants"]), blocks("exchange auth"), "…", "\n");
    let here = tempdir().unwrap();
    play(&Process::start(here.path(), &["--engine", "sled"]), blocks("exchange sled"), "…", "\n");
}

#[test]
fn every_answer_of_a_server_in_trouble_is_one_that_a_test_produces() {
    let shown = shown_by_others();
    let code = |line: &&str| Response::decode(line.as_bytes()).unwrap().body.unwrap_err().code;
    assert_eq!(shown.iter().map(code).collect::<Vec<_>>(), IN_TROUBLE);
    for line in shown {
        let mut written = Vec::new();
        Response::decode(line.as_bytes()).unwrap().encode(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"));
    }
    // Each of them is compared where it is produced.
    let tests = include_str!("faults.rs");
    for code in IN_TROUBLE {
        let comparison = format!(", ErrorCode::{code:?});");
        assert!(tests.contains(&comparison), "no test produces {code}");
    }
}

#[test]
fn every_error_code_has_an_example() {
    let mut shown = HashSet::new();
    let kinds = [
        "exchange",
        "exchange auth",
        "exchange sled",
        "exchange value-limit",
        "exchange frame-limit",
        "exchange slow",
        "response",
    ];
    for (_, lines) in kinds.into_iter().flat_map(blocks) {
        for line in lines.iter().filter_map(|line| line.strip_prefix("< {").map(|rest| format!("{{{rest}"))) {
            match Response::decode(line.as_bytes()) {
                Ok(response) => shown.extend(response.body.err().map(|error| error.code)),
                Err(error) => assert!(line.contains('…'), "{line}: {error}"),
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
        (
            "| before authentication",
            vec![limits::STRANGER_FRAME_BYTES, usize::try_from(limits::AUTH_DEADLINE.as_secs()).unwrap()],
        ),
        (
            "| failed attempts",
            vec![
                usize::try_from(limits::MAX_FAILED_AUTHS).unwrap(),
                usize::try_from(limits::FAILED_AUTH_DELAY.as_millis()).unwrap(),
            ],
        ),
        ("| TLS handshake |", vec![usize::try_from(limits::HANDSHAKE_DEADLINE.as_secs()).unwrap()]),
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
