//! Requests that walk through the store, and those that look and write in one step, over JSON: on every pool, in order
//! with their neighbours.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeSet;

use kvs_engine::MemoryEngine;
use kvs_protocol::names::PoolStrategy;
use kvs_protocol::{Answer, Request, RequestId, Response, Verb, VerbName};
use support::{Embedded, Process, Wire, code_of};
use tempfile::tempdir;

fn answer(client: &mut Wire) -> Answer {
    let line = client.line().unwrap();
    Response::decode(line.as_bytes()).unwrap().body.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn walks_keep_their_place_in_a_pipeline() {
    for pool in PoolStrategy::ALL {
        let server = Embedded::start(MemoryEngine::new(), *pool);
        let mut client = Wire::connect(server.addr);
        let story = [
            (r#"{"set":{"key":"a","value":"1"}}"#, r#"{"ok":null}"#),
            (r#"{"count":{}}"#, r#"{"ok":1}"#),
            (r#"{"set":{"key":"b","value":"2"}}"#, r#"{"ok":null}"#),
            (r#"{"scan":{"prefix":"b"}}"#, r#"{"ok":{"entries":[{"key":"b","value":"2"}],"cursor":null}}"#),
            (r#"{"clear":{}}"#, r#"{"ok":null}"#),
            (r#"{"get":{"key":"a"}}"#, r#"{"ok":null}"#),
            (r#"{"set":{"key":"c","value":"3","if":"missing"}}"#, r#"{"ok":true}"#),
            (r#"{"take":{"key":"c"}}"#, r#"{"ok":"3"}"#),
            (r#"{"count":{}}"#, r#"{"ok":0}"#),
            (r#"{"length":{"key":"c"}}"#, r#"{"ok":null}"#),
        ];
        let sent: String = story.iter().map(|(request, _)| format!("{request}\n")).collect();
        for _ in 0..30 {
            client.send(&sent);
        }
        for round in 0..30 {
            for (request, expected) in story {
                assert_eq!(client.line().unwrap(), expected, "{pool}, round {round}: {request}");
            }
        }
        server.stop().unwrap();
    }
}

#[test]
fn a_scan_in_pages_finds_every_entry_once() {
    for engine in ["kvs", "sled"] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &["--engine", engine, "--sync", "os"]);
        let mut client = Wire::connect(server.addr);
        (0..2_000).for_each(|n| client.send(format!("{{\"set\":{{\"key\":\"key-{n}\",\"value\":\"{n}\"}}}}\n")));
        (0..2_000).for_each(|_| assert_eq!(answer(&mut client), Answer::Null));
        let (mut found, mut cursor) = (BTreeSet::new(), None);
        loop {
            let prefix = b"key-1".to_vec();
            let verb = Verb::Scan { prefix, cursor, limit: Some(100), values: true, numbered: false };
            let mut line = Vec::new();
            Request { verb, id: Some(RequestId::Number(1)) }.encode(&mut line);
            client.send(&line);
            let Answer::Page(page) = answer(&mut client) else { panic!("no page") };
            assert!(page.entries.len() <= 100);
            for entry in page.entries {
                assert_eq!(entry.key, [&b"key-"[..], &entry.value.unwrap()].concat());
                assert!(found.insert(entry.key), "{engine}: it came twice");
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(found.len(), 1_111, "{engine}: 1, 1x, 1xx and 1xxx");
        server.stop();
    }
}

#[test]
fn every_verb_is_answered_and_counted_under_a_name_of_its_own() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let mut client = Wire::connect(server.addr);
    for name in VerbName::ALL {
        let body = match name {
            VerbName::Set => r#"{"key":"k","value":"v"}"#,
            VerbName::Get | VerbName::Exists | VerbName::Length | VerbName::Take | VerbName::Remove => r#"{"key":"k"}"#,
            VerbName::Batch => "[]",
            VerbName::Auth => r#"{"token":"canary-token"}"#,
            VerbName::Ping | VerbName::Scan | VerbName::Count | VerbName::Clear | VerbName::Info => "{}",
            // It has many answers, and tests of its own.
            VerbName::Backup => continue,
        };
        let line = client.ask(&format!("{{\"{name}\":{body}}}"));
        assert!(!line.contains("unknown_verb") && !line.contains("canary"), "{name}: {line}");
        let metric = if *name == VerbName::Remove { "remove" } else { name.as_str() };
        assert!(server.admin("/metrics").1.contains(&format!("op=\"{metric}\"")), "{name}");
    }
    assert_eq!(code_of(&client.ask(r#"{"scan":{"limit":0}}"#)), "invalid_request");
    assert_eq!(code_of(&client.ask(r#"{"scan":{"cursor":"nonsense"}}"#)), "invalid_request");
    let log = server.stop();
    assert!(!log.contains("canary-token"), "a token is in the log");
}
