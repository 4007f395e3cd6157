//! docs/redis-compatibility.md tells the truth: every command in it is answered, and none is missing.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use kvs_protocol::limits::{DEFAULT_MAX_FRAME_BYTES, MAX_BATCH_CHANGES};
use kvs_protocol::resp::{COMMANDS, MAX_ARGUMENTS, MAX_PATTERN_BYTES};
use kvs_server::limits::{MAX_NUMBERED_CURSORS, MAX_PIPELINE_REQUESTS};
use support::Process;
use support::resp::{Client, error, is_error};
use tempfile::tempdir;

const DOCUMENT: &str = include_str!("../../docs/redis-compatibility.md");

/// The names in the table, in lower case.
fn documented() -> Vec<String> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split([' ', '`']).next().unwrap().to_lowercase()).collect()
}

#[test]
fn every_command_has_a_row_and_every_row_is_a_command() {
    let documented = documented();
    for command in COMMANDS {
        assert!(documented.iter().any(|name| name == command.name), "{} has no row", command.name);
    }
    assert_eq!(documented.len(), COMMANDS.len());
}

#[test]
fn what_is_said_to_be_no_command_is_none_and_the_rest_is_answered() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let mut client = Client::connect(server.addr);
    for command in COMMANDS.iter().filter(|command| command.name != "quit") {
        // As many words as it takes at least; what they say may be wrong, but the command is known.
        let words = usize::try_from(command.arity.abs()).unwrap();
        let mut sent = vec![command.name];
        sent.resize(words, "0");
        let reply = client.ask(&sent);
        assert!(!error(&reply).is_some_and(|text| text.contains("unknown command")), "{sent:?}: {reply:?}");
        let too_many = if command.arity > 0 { words + 1 } else { words - 1 };
        sent.resize(too_many, "0");
        if too_many > 0 {
            let reply = client.ask(&sent);
            assert!(
                error(&reply).is_some_and(|text| text.contains("wrong number of arguments")),
                "{sent:?}: {reply:?}"
            );
        }
    }
    let (_, listed) = DOCUMENT.split_once("is answered with `-ERR unknown command`, such as ").unwrap();
    let (listed, _) = listed.split_once(".\n").unwrap();
    let names: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    assert!(names.len() >= 10);
    for name in names {
        let reply = client.ask(&[name, "key", "value"]);
        assert!(is_error(&reply, &format!("ERR unknown command '{name}'")), "{reply:?}");
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    for (number, what) in [
        (MAX_BATCH_CHANGES, "10,000 pairs"),
        (MAX_PATTERN_BYTES, "128 bytes"),
        (MAX_NUMBERED_CURSORS, "1,024 newer ones"),
        (MAX_PIPELINE_REQUESTS, "1,024 of a connection"),
        (MAX_ARGUMENTS, "20,001 words"),
        (DEFAULT_MAX_FRAME_BYTES, "6,685,696 bytes"),
    ] {
        assert!(DOCUMENT.contains(what), "{what}");
        let digits: String = what.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, number.to_string(), "{what}");
    }
}
