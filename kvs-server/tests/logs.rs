//! The log as machines read it: every line of a server that has a hard time is JSON, and has no field that docs/logs.md
//! does not know.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;

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
