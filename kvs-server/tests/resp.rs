//! RESP2 against a server: every command, every byte, every way to arrive; and what is no RESP2.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use kvs_engine::MemoryEngine;
use kvs_protocol::names::PoolStrategy;
use kvs_server::limits::{IDLE_DEADLINE, MAX_PIPELINE_REQUESTS};
use support::resp::{Client, Reply, bulk, command, is_error, ok};
use support::{Embedded, Process, Wire, until};
use tempfile::tempdir;

fn words<const N: usize>(words: [&str; N]) -> Vec<u8> {
    command(&words)
}

fn array<const N: usize>(items: [Reply; N]) -> Reply {
    Reply::Array(items.to_vec())
}

/// A story in which each command sees what those before it did.
fn story() -> Vec<(Vec<u8>, Reply)> {
    let number = Reply::Number;
    vec![
        (words(["FLUSHDB"]), ok()),
        (words(["DBSIZE"]), number(0)),
        (words(["SET", "k", "v"]), ok()),
        (words(["get", "k"]), bulk("v")),
        (words(["GET", "nobody"]), Reply::Nil),
        (words(["SET", "k", "w", "NX"]), Reply::Nil),
        (words(["SET", "k", "w", "xx"]), ok()),
        (words(["SET", "new", "w", "XX"]), Reply::Nil),
        (words(["SET", "new", "1", "NX"]), ok()),
        (words(["SET", "new", "2", "GET"]), bulk("1")),
        (words(["SET", "new", "3", "NX", "GET"]), bulk("2")),
        (words(["SET", "newer", "1", "GET", "NX"]), Reply::Nil),
        (words(["MGET", "k", "nobody", "new", "newer"]), array([bulk("w"), Reply::Nil, bulk("2"), bulk("1")])),
        (words(["STRLEN", "k"]), number(1)),
        (words(["STRLEN", "nobody"]), number(0)),
        (words(["EXISTS", "k", "nobody", "k"]), number(2)),
        (words(["GETDEL", "k"]), bulk("w")),
        (words(["GETDEL", "k"]), Reply::Nil),
        (words(["MSET", "a", "1", "b", "2", "a", "3"]), ok()),
        (words(["MGET", "a", "b"]), array([bulk("3"), bulk("2")])),
        (words(["DBSIZE"]), number(4)),
        (words(["DEL", "a", "nobody", "b", "a"]), number(2)),
        (words(["DEL", "nobody"]), number(0)),
        (words(["SET", "", ""]), ok()),
        (words(["GET", ""]), bulk("")),
        (words(["STRLEN", ""]), number(0)),
        (words(["PING"]), Reply::Word("PONG".into())),
        (words(["PING", "hi\r\n"]), bulk("hi\r\n")),
        (words(["ECHO", "\u{1f600}"]), bulk("\u{1f600}")),
        (words(["SELECT", "0"]), ok()),
        (words(["CLIENT", "SETNAME", "tester"]), ok()),
        (words(["CLIENT", "GETNAME"]), bulk("tester")),
        (words(["CLIENT", "SETINFO", "LIB-NAME", "test"]), ok()),
        (words(["RESET"]), Reply::Word("RESET".into())),
        (words(["CLIENT", "GETNAME"]), Reply::Nil),
        (words(["CONFIG", "GET", "s*ve"]), array([bulk("save"), bulk("")])),
        (words(["CONFIG", "GET", "nothing"]), array([])),
        (words(["FLUSHDB", "ASYNC"]), ok()),
        (words(["DBSIZE"]), number(0)),
        (words(["SCAN", "0"]), array([bulk("0"), array([])])),
    ]
}

#[test]
fn a_story_is_told_the_same_way_whoever_serves_it_and_however_it_arrives() {
    for pool in PoolStrategy::ALL {
        let server = Embedded::start(MemoryEngine::new(), *pool);
        let mut client = Client::connect(server.addr);
        for (sent, expected) in story() {
            client.send(&sent);
            assert_eq!(client.reply().unwrap(), expected, "{pool}: {}", sent.escape_ascii());
        }
        // All at once, and in pieces that cut every length and every word.
        let whole: Vec<u8> = story().into_iter().flat_map(|(sent, _)| sent).collect();
        for piece in [whole.len(), 1, 7] {
            whole.chunks(piece).for_each(|bytes| client.send(bytes));
            for (sent, expected) in story() {
                assert_eq!(client.reply().unwrap(), expected, "{pool}, in {piece}: {}", sent.escape_ascii());
            }
        }
        server.stop().unwrap();
    }
}

#[test]
fn the_story_is_the_same_on_every_engine_and_outlives_the_server() {
    for engine in ["kvs", "sled"] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &["--engine", engine]);
        let mut client = Client::connect(server.addr);
        for (sent, expected) in story() {
            client.send(&sent);
            assert_eq!(client.reply().unwrap(), expected, "{engine}: {}", sent.escape_ascii());
        }
        assert_eq!(client.ask(&["SET", "kept", "by RESP"]), ok());
        assert_eq!(client.ask(&["SET", "gone", "v"]), ok());
        assert_eq!(client.ask(&["GETDEL", "gone"]), bulk("v"));
        server.kill();
        let server = Process::start(here.path(), &["--engine", engine]);
        let mut client = Client::connect(server.addr);
        assert_eq!(client.ask(&["MGET", "kept", "gone"]), array([bulk("by RESP"), Reply::Nil]), "{engine}");
        assert_eq!(Wire::connect(server.addr).ask(r#"{"get":{"key":"kept"}}"#), r#"{"ok":"by RESP"}"#, "{engine}");
        server.stop();
    }
}

#[test]
fn all_bytes_come_back() {
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let mut client = Client::connect(server.addr);
    let all: Vec<u8> = (0..=255).collect();
    for byte in 0..=255_u8 {
        let key = [b"key".as_slice(), &[byte, b'\r', b'\n']].concat();
        assert_eq!(client.ask(&[b"SET".as_slice(), &key, &all]), ok());
        assert_eq!(client.ask(&[b"GET".as_slice(), &key]), bulk(&all));
    }
    let large = vec![b'x'; 1024 * 1024];
    assert_eq!(client.ask(&[b"SET".as_slice(), b"large", &large]), ok());
    assert_eq!(client.ask(&["GET", "large"]), bulk(&large));
    let reply = client.ask(&[b"SET".as_slice(), b"large", &[&large[..], b"x"].concat()]);
    assert!(is_error(&reply, "ERR value of 1048577 bytes is larger than the limit of 1048576"), "{reply:?}");
    assert_eq!(client.ask(&["STRLEN", "large"]), Reply::Number(1_048_576), "the connection goes on");
    server.stop().unwrap();
}

#[test]
fn commands_of_thousands_of_keys_keep_their_order_and_their_bounds() {
    const KEYS: usize = 5_000;
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let mut client = Client::connect(server.addr);
    let pairs: Vec<String> = (0..KEYS).flat_map(|number| [format!("key-{number}"), format!("{number}")]).collect();
    let keys: Vec<&str> = pairs.iter().step_by(2).map(String::as_str).collect();
    let with = |name: &str, rest: &[&str]| command(&[&[name], rest].concat());
    client.send(with("MSET", &pairs.iter().map(String::as_str).collect::<Vec<_>>()));
    client.send(with("MGET", &keys));
    client.send(with("EXISTS", &keys));
    client.send(with("DEL", &keys));
    client.send(with("EXISTS", &keys));
    assert_eq!(client.reply(), Some(ok()));
    let Some(Reply::Array(values)) = client.reply() else { panic!("no array") };
    assert!(values.iter().enumerate().all(|(number, value)| *value == bulk(number.to_string())));
    assert_eq!(values.len(), KEYS);
    for expected in [KEYS, KEYS, 0] {
        assert_eq!(client.reply(), Some(Reply::Number(i64::try_from(expected).unwrap())));
    }
    server.stop().unwrap();
}

#[test]
fn a_command_of_more_keys_than_are_read_ahead_has_its_answer_at_once() {
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let mut client = Client::connect(server.addr);
    let began = Instant::now();
    // All but the last key of these are answered with nothing, so that no answer's way out leads on to the next keys.
    for keys in [MAX_PIPELINE_REQUESTS, MAX_PIPELINE_REQUESTS + 1, 2 * MAX_PIPELINE_REQUESTS + 1] {
        for name in ["DEL", "EXISTS"] {
            let reply = client.ask(&[vec![name], vec!["k"; keys]].concat());
            assert_eq!(reply, Reply::Number(0), "{name} of {keys} keys");
        }
    }
    // Nor does it matter that the client sends nothing more.
    client.send(command(&[vec!["DEL"], vec!["k"; 2 * MAX_PIPELINE_REQUESTS]].concat()));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply(), Some(Reply::Number(0)));
    assert!(began.elapsed() < IDLE_DEADLINE / 10, "{:?}", began.elapsed());
    server.stop().unwrap();
}

#[test]
fn a_scan_finds_every_key_once_on_both_engines() {
    for engine in ["kvs", "sled"] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &["--engine", engine, "--sync", "os"]);
        let mut client = Client::connect(server.addr);
        for number in 0..500 {
            client.send(command(&["SET", &format!("user:{number}"), "v"]));
            client.send(command(&["SET", &format!("order:{number}"), "v"]));
        }
        (0..1000).for_each(|_| assert_eq!(client.reply(), Some(ok())));
        let everything = |number: usize| format!("user:{number}");
        for (options, expected) in [
            (vec!["MATCH", "user:*", "COUNT", "37"], (0..500).map(everything).collect::<BTreeSet<_>>()),
            (vec!["MATCH", "user:1?", "COUNT", "1000"], (10..20).map(everything).collect()),
            (
                vec!["MATCH", "*:49[0-4]"],
                (490..495).flat_map(|n| [format!("user:{n}"), format!("order:{n}")]).collect(),
            ),
            (vec!["TYPE", "list"], BTreeSet::new()),
        ] {
            let mut found = BTreeSet::new();
            let mut cursor = "0".to_owned();
            loop {
                // Another connection each time, as a pool of connections does.
                let mut client = Client::connect(server.addr);
                let Reply::Array(page) = client.ask(&[&["SCAN", &cursor], &options[..]].concat()) else {
                    panic!("no page")
                };
                let [Reply::Bulk(next), Reply::Array(keys)] = &page[..] else { panic!("{page:?}") };
                for key in keys {
                    let Reply::Bulk(key) = key else { panic!("{key:?}") };
                    assert!(found.insert(String::from_utf8(key.clone()).unwrap()), "{engine}: {key:?} came twice");
                }
                cursor = String::from_utf8(next.clone()).unwrap();
                assert!(cursor.parse::<u64>().is_ok(), "clients take cursors for numbers: {cursor}");
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(found, expected, "{engine}: {options:?}");
        }
        for wrong in ["x", "-1", "99999999999999999999"] {
            assert!(is_error(&client.ask(&["SCAN", wrong]), "ERR invalid cursor"), "{wrong}");
        }
        assert!(is_error(&client.ask(&["SCAN", "12345"]), "ERR this cursor is not one"), "{engine}");
        assert!(is_error(&client.ask(&["SCAN", "0", "COUNT", "0"]), "ERR syntax error"));
        assert!(is_error(&client.ask(&["SCAN", "0", "MATCH", &"*a".repeat(65)]), "ERR pattern of 130 bytes"));
        server.stop();
    }
}

#[test]
fn errors_say_what_clients_of_redis_look_for() {
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let mut client = Client::connect(server.addr);
    for (sent, beginning) in [
        (&["INCR", "n"][..], "ERR unknown command 'INCR', with args beginning with: 'n'"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["get", "a", "b"], "ERR wrong number of arguments for 'get' command"),
        (&["MSET", "a", "1", "b"], "ERR wrong number of arguments for 'mset' command"),
        (&["SET", "k", "v", "EX", "10"], "ERR syntax error"),
        (&["SET", "k", "v", "NX", "XX"], "ERR syntax error"),
        (&["HELLO", "4"], "NOPROTO unsupported protocol version"),
        (&["HELLO", "1"], "NOPROTO unsupported protocol version"),
        (&["HELLO", "two"], "ERR Protocol version is not an integer"),
        (&["SELECT", "1"], "ERR DB index is out of range"),
        (&["CLIENT", "KILL", "all"], "ERR unknown subcommand"),
        (&["CONFIG", "SET", "save", ""], "ERR unknown subcommand"),
        (&["FLUSHDB", "NOW"], "ERR syntax error"),
        (&["AUTH", "secret"], "ERR this server asks for no authentication"),
    ] {
        let reply = client.ask(sent);
        assert!(is_error(&reply, beginning), "{sent:?}: {reply:?}");
    }
    let long = client.ask(&[&"x".repeat(100_000), "y"]);
    assert!(support::resp::error(&long).unwrap().len() < 300, "what was sent is not repeated in full");
    assert_eq!(client.ask(&["GET", "k"]), Reply::Nil, "nothing of it was done, and the connection goes on");
    server.stop().unwrap();
}

#[test]
fn greetings_are_what_client_libraries_read() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let (mut client, mut other) = (Client::connect(server.addr), Client::connect(server.addr));
    let Reply::Array(hello) = client.ask(&["HELLO", "2", "SETNAME", "me"]) else { panic!("no greeting") };
    let field = |name: &str| hello.chunks(2).find(|pair| pair[0] == bulk(name)).unwrap()[1].clone();
    assert_eq!((field("proto"), field("mode"), field("role")), (Reply::Number(2), bulk("standalone"), bulk("master")));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]), bulk("me"));
    assert_eq!(client.ask(&["CLIENT", "ID"]), field("id"));
    assert_ne!(other.ask(&["CLIENT", "ID"]), field("id"));
    client.ask(&["SET", "k", "v"]);
    let Reply::Bulk(info) = client.ask(&["INFO"]) else { panic!("no text") };
    let info = String::from_utf8(info).unwrap();
    for line in
        ["# Server", "redis_version:7.0.0", "engine:kvs", "sync:always", "loading:0", "db0:keys=1,expires=0,avg_ttl=0"]
    {
        assert!(info.split("\r\n").any(|found| found == line), "{line} is not in {info}");
    }
    let Reply::Bulk(section) = client.ask(&["INFO", "persistence"]) else { panic!("no text") };
    assert!(section.starts_with(b"# Persistence\r\nloading:0"), "{}", section.escape_ascii());
    let Reply::Array(commands) = client.ask(&["COMMAND"]) else { panic!("no table") };
    assert_eq!(client.ask(&["COMMAND", "COUNT"]), Reply::Number(i64::try_from(commands.len()).unwrap()));
    let Reply::Array(info) = client.ask(&["COMMAND", "INFO", "get", "nobody"]) else { panic!("no table") };
    assert_eq!(info[1], Reply::Nil);
    assert_eq!(client.ask(&["QUIT"]), ok());
    assert_eq!(client.reply(), None, "the server closes");
    server.stop();
}

#[test]
fn version_3_differs_in_what_is_missing_and_in_maps() {
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let mut client = Client::connect(server.addr);
    let Reply::Map(hello) = client.ask(&["HELLO", "3", "SETNAME", "me"]) else { panic!("no greeting") };
    let field = |name: &str| hello.chunks(2).find(|pair| pair[0] == bulk(name)).unwrap()[1].clone();
    assert_eq!((field("proto"), field("role"), field("modules")), (Reply::Number(3), bulk("master"), array([])));
    // What version 2 answers, with one word for all that is missing.
    let renamed = |expected: Reply| match expected {
        Reply::Nil => Reply::Null,
        Reply::Array(items) => {
            Reply::Array(items.into_iter().map(|item| if item == Reply::Nil { Reply::Null } else { item }).collect())
        }
        other => other,
    };
    let (is_map, ends_version) = (|sent: &[u8]| sent.windows(6).any(|part| part == b"CONFIG"), words(["RESET"]));
    for (sent, expected) in story().into_iter().filter(|(sent, _)| *sent != ends_version) {
        client.send(&sent);
        let reply = client.reply().unwrap();
        match (reply, renamed(expected)) {
            (Reply::Map(pairs), Reply::Array(items)) if is_map(&sent) => assert_eq!(pairs, items),
            // The name is not reset here.
            (Reply::Bulk(name), Reply::Null) if name == b"tester" => {}
            (reply, expected) => assert_eq!(reply, expected, "{}", sent.escape_ascii()),
        }
    }
    let Reply::Array(info) = client.ask(&["COMMAND", "INFO", "get", "nobody"]) else { panic!("no table") };
    assert_eq!(info[1], Reply::Null);
    let Reply::Map(docs) = client.ask(&["COMMAND", "DOCS", "get"]) else { panic!("no map") };
    assert_eq!(docs[0], bulk("get"));
    assert!(matches!(&docs[1], Reply::Map(fields) if fields[0] == bulk("summary")), "{docs:?}");
    assert!(is_error(&client.ask(&["GET"]), "ERR wrong number"));
    // Back to version 2, in either way.
    assert_eq!(client.ask(&["GET", "nobody"]), Reply::Null);
    assert!(matches!(client.ask(&["HELLO", "2"]), Reply::Array(fields) if fields.len() == 14));
    assert_eq!(client.ask(&["GET", "nobody"]), Reply::Nil);
    client.ask(&["HELLO", "3"]);
    assert_eq!(client.ask(&["RESET"]), Reply::Word("RESET".into()));
    assert_eq!(client.ask(&["GET", "nobody"]), Reply::Nil);
    server.stop().unwrap();
}

#[test]
fn the_first_bad_byte_ends_the_connection_and_nothing_after_it_is_done() {
    let server = Embedded::start(MemoryEngine::new(), PoolStrategy::Inline);
    let smuggled = words(["SET", "smuggled", "v"]);
    for (garbage, beginning) in [
        (&b"*x\r\n"[..], "ERR Protocol error: invalid multibulk length"),
        (b"*99999\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$4\r\nPINGPING\r\n", "ERR Protocol error: a word of the announced length does not end there"),
        (b"*2\r\n$3\r\nGET\r\n$999999999\r\n", "ERR Protocol error: a command is longer than the limit"),
        (b"{\"ping\":{}}\n", "ERR Protocol error: expected '*', got '{'"),
        (b"POST / HTTP/1.1\r\n", "ERR Protocol error: expected '*', got 'P'"),
    ] {
        let mut client = Client::connect(server.addr);
        client.send([&words(["PING"]), garbage, &smuggled].concat());
        assert_eq!(client.reply(), Some(Reply::Word("PONG".into())));
        let reply = client.reply().unwrap();
        assert!(is_error(&reply, beginning), "{}: {reply:?}", garbage.escape_ascii());
        assert_eq!(client.reply(), None, "{}", garbage.escape_ascii());
    }
    let mut client = Client::connect(server.addr);
    client.send(b"*2\r\n$3\r\nDEL\r\n$4\r\nke");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(is_error(&client.reply().unwrap(), "ERR Protocol error: the connection ended inside a command"));
    assert_eq!(client.reply(), None);
    let mut client = Client::connect(server.addr);
    client.send(b"*0\r\n*-1\r\n\r\n");
    assert_eq!(client.ask(&["EXISTS", "smuggled"]), Reply::Number(0), "a command without words asks for nothing");
    server.stop().unwrap();
}

#[test]
fn who_asks_much_and_reads_nothing_holds_little() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--sync", "os"]);
    let value = "v".repeat(1_000_000);
    assert_eq!(Client::connect(server.addr).ask(&["SET", "large", &value]), ok());
    let before = server.resident_bytes();
    let greedy: [Vec<u8>; 3] = [
        // Answers that are as large as their requests, larger ones of one short command, and ones that are made here.
        command(&["ECHO", &value]),
        command(&[&["MGET"][..], &["large"; 1000]].concat()),
        command(&["COMMAND"]).repeat(1000),
    ];
    for asked in greedy {
        let clients: Vec<Client> = (0..4).map(|_| Client::connect(server.addr)).collect();
        for client in &clients {
            client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            for _ in 0..100 {
                // Whoever is not read any more can't send any more.
                if (&client.stream).write_all(&asked).is_err() {
                    break;
                }
            }
        }
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 128 * 1024 * 1024, "{} bytes a time: grown by {grown}", asked.len());
        assert_eq!(Client::connect(server.addr).ask(&["PING"]), Reply::Word("PONG".into()), "others are served");
    }
    until("all bytes in flight are given back", || (server.metric("kvs_in_flight_bytes") == 0.0).then_some(()));
    server.stop();
}
