//! The log as machines read it: every line of a server that has a hard time is JSON, and neither it nor any line that the
//! source has a place for has a field that docs/logs.md does not know.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use support::certificates::{Authority, Files};
use support::{Process, Wire, until};
use tempfile::tempdir;

/// The fields that the document knows.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/logs.md")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

/// The fields of a log, each line of which must be an object.
fn fields(log: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        found.extend(value.as_object().unwrap_or_else(|| panic!("{line}")).keys().cloned());
    }
    found
}

#[test]
fn every_line_of_a_rough_run_is_json_with_known_fields_and_without_keys_and_values() {
    let here = tempdir().unwrap();
    let data = here.path().join("data");
    let file = here.path().join("kvs.yaml");
    std::fs::write(&file, "log: {level: trace}\n").unwrap();
    let data = data.to_str().unwrap();
    let arguments = ["--config", "kvs.yaml", "--data-dir", data, "--limits-slow-request-ms", "1"];
    let server = Process::start(here.path(), &arguments);
    let mut client = Wire::connect(server.addr);
    let value = "canary-value".repeat(20_000);
    for number in 0..100 {
        client.ask(&format!(
            "{{\"set\":{{\"key\":\"canary-key-{number}\",\"value\":\"{value}\"}},\"id\":\"order-{number}\"}}"
        ));
        client.ask(r#"{"rm":{"key":"canary-nobody"}}"#);
    }
    for wrong in ["{\"canary-verb\":{}}\n", "canary-noise\n", "*1\r\n$3\r\nFOO\r\n", "{\"set\":{\"key\":\"canary-half"]
    {
        TcpStream::connect(server.addr).unwrap().write_all(wrong.as_bytes()).unwrap();
    }
    for text in ["log: {level: loud}\n", "log: {level: trace}\npool: rayon\n"] {
        let before = server.log().lines().count();
        std::fs::write(&file, text).unwrap();
        server.signal(Signal::HUP);
        until("it is read", || (server.log()[..].lines().count() > before).then_some(()));
    }
    until("a slow request is told", || server.log().contains("took_us").then_some(()));
    let mut log = server.log();
    server.stop();

    // Another one, whose clients speak TLS, one of them not.
    let authority = Authority::new();
    Files::write(here.path(), &authority, &authority.server());
    let server = Process::start(here.path(), &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    TcpStream::connect(server.addr).unwrap().write_all(b"canary without TLS\n").unwrap();
    until("the client is told of", || server.log().contains("disconnected on the TLS port").then_some(()));
    log.push_str(&server.log());
    server.stop();

    let (found, known) = (fields(&log), documented());
    let unknown: Vec<&String> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/logs.md does not know {unknown:?}");
    for expected in ["timestamp", "level", "message", "error", "failed", "id", "log_us", "addr", "data_dir"] {
        assert!(found.contains(expected), "the run has no line with {expected}: {found:?}");
    }
    assert!(!log.contains("canary"), "{}", log.lines().find(|line| line.contains("canary")).unwrap_or_default());
}

/// The names of the fields that a call such as `tracing::warn!(%error, segment = kept.id, "..")` gives to its line, from what
/// stands behind its parenthesis.
fn fields_of_call(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut part) = (0_usize, String::new());
    for character in text.chars() {
        match character {
            // The message: what follows fills its gaps.
            '"' if part.trim().is_empty() => break,
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                let name = part.split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                names.push(name.to_owned());
                part.clear();
                continue;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        part.push(character);
    }
    names
}

fn fields_of_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fields_of_sources(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for level in ["error", "warn", "info", "debug", "trace"] {
            for call in text.split(&format!("tracing::{level}!(")).skip(1) {
                found.extend(fields_of_call(call));
            }
        }
    }
}

#[test]
fn the_document_knows_the_fields_of_every_line_that_the_source_has_a_place_for() {
    let mut found = BTreeSet::new();
    for sources in ["src", "../kvs-engine/src"] {
        fields_of_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(sources), &mut found);
    }
    for expected in ["error", "segment", "took_us", "data_dir", "answer_us"] {
        assert!(found.contains(expected), "no line with {expected} was found: {found:?}");
    }
    let known = documented();
    let unknown: Vec<&String> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/logs.md does not know {unknown:?}");
    found.extend(["timestamp", "level", "target", "message"].map(str::to_owned));
    let gone: Vec<&String> = known.difference(&found).collect();
    assert!(gone.is_empty(), "docs/logs.md tells of {gone:?}, which no line has");
}

/// Flips a bit of the place in a folder's files that holds these bytes.
fn flip_a_bit(folder: &Path, bytes: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = std::fs::File::options().read(true).write(true).open(entry.unwrap().path()).unwrap();
        let mut content = Vec::new();
        (&file).read_to_end(&mut content).unwrap();
        if let Some(place) = content.windows(bytes.len()).position(|window| window == bytes) {
            return file.write_all_at(&[content[place] ^ 1], place as u64).unwrap();
        }
    }
    panic!("no file of {} holds the bytes", folder.display());
}

#[test]
fn a_request_that_failed_is_told_by_its_numbers_and_the_name_that_its_client_has_for_it() {
    let here = tempdir().unwrap();
    let data = here.path().join("data");
    let server = Process::start(here.path(), &["--data-dir", data.to_str().unwrap()]);
    let mut client = Wire::connect(server.addr);
    client.ask(r#"{"set":{"key":"canary-key","value":"canary-value"}}"#);
    // As a disk does that gives back other bytes than were written.
    flip_a_bit(&data, b"canary-value");
    let answer = client.ask(r#"{"get":{"key":"canary-key"},"id":"order-7"}"#);
    assert_eq!(support::code_of(&answer), "corruption", "{answer}");
    let line = until("it is told", || server.log().lines().find(|line| line.contains("order-7")).map(str::to_owned));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["op"], &line["code"]), (&"ERROR".into(), &"get".into(), &"corruption".into()));
    assert_eq!((&line["id"], &line["request"], &line["failed"]), (&"order-7".into(), &2.into(), &1.into()), "{line}");
    assert!(line["connection"].is_u64(), "{line}");
    assert!(line["error"].as_str().is_some_and(|error| error.contains(".log")), "it says where: {line}");
    assert!(!server.log().contains("canary"), "{}", server.log());
}
