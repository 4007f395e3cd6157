//! Every strategy with every engine: the same stories, told over sockets.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use kvs_engine::{KvStore, KvsEngine, MemoryEngine};
use kvs_protocol::names::PoolStrategy;
use support::{Embedded, Wire, code_of};

/// Runs each story for every strategy with every engine, each in a test of its own.
macro_rules! stories {
    ($($story:ident),+ $(,)?) => {
        mod memory { $(#[test] fn $story() { super::each_strategy(super::MemoryEngine::new, super::$story); })+ }
        mod kvs { $(#[test] fn $story() {
            let folder = tempfile::tempdir().unwrap();
            let open = || super::KvStore::open(folder.path()).unwrap();
            super::each_strategy(open, super::$story);
        })+ }
        #[cfg(feature = "sled")]
        mod sled { $(#[test] fn $story() {
            let folder = tempfile::tempdir().unwrap();
            let open = || kvs_engine::SledEngine::open(folder.path()).unwrap();
            super::each_strategy(open, super::$story);
        })+ }
    };
}

/// One server a strategy, one after the other on the same data.
fn each_strategy<E: KvsEngine>(open: impl Fn() -> E, story: fn(&Embedded, &str)) {
    for strategy in PoolStrategy::ALL {
        let server = Embedded::start(open(), *strategy);
        story(&server, strategy.as_str());
        server.stop().unwrap_or_else(|error| panic!("{strategy}: {error}"));
    }
}

stories!(
    the_verbs_do_what_they_say,
    a_pipeline_reads_its_own_writes,
    one_of_many_removes_succeeds,
    readers_see_a_writer_go_forward_only,
    a_large_value_passes_beside_small_ones,
    a_client_that_says_no_more_gets_all_its_answers,
);

fn the_verbs_do_what_they_say(server: &Embedded, strategy: &str) {
    let mut client = Wire::connect(server.addr);
    for (line, expected) in [
        (r#"{"ping":{}}"#, r#"{"ok":"pong"}"#),
        (r#"{"get":{"key":"a"}}"#, r#"{"ok":null}"#),
        (r#"{"exists":{"key":"a"}}"#, r#"{"ok":false}"#),
        (r#"{"set":{"key":"a","value":"1"},"id":7}"#, r#"{"ok":null,"id":7}"#),
        (r#"{"get":{"key":"a"},"id":"x"}"#, r#"{"ok":"1","id":"x"}"#),
        (r#"{"exists":{"key":"a"}}"#, r#"{"ok":true}"#),
        (r#"{"set":{"key":"a","value64":"/w=="}}"#, r#"{"ok":null}"#),
        (r#"{"get":{"key64":"YQ=="}}"#, r#"{"ok64":"/w=="}"#),
        (r#"{"rm":{"key":"a"}}"#, r#"{"ok":null}"#),
        (r#"{"rm":{"key":"a"},"id":8}"#, r#"{"error":{"code":"key_not_found","message":"Key not found"},"id":8}"#),
        (r#"{"batch":[{"set":{"key":"b","value":"2"}},{"set":{"key":"c","value":"3"}}]}"#, r#"{"ok":null}"#),
        (r#"{"batch":[{"rm":{"key":"b"}},{"rm":{"key":"nobody"}}]}"#, r#"{"ok":null}"#),
        (r#"{"get":{"key":"b"}}"#, r#"{"ok":null}"#),
        (r#"{"get":{"key":"c"}}"#, r#"{"ok":"3"}"#),
        (r#"{"rm":{"key":"c"}}"#, r#"{"ok":null}"#),
        (r#"{"set":{"key":"","value":""}}"#, r#"{"ok":null}"#),
        (r#"{"get":{"key":""}}"#, r#"{"ok":""}"#),
        (r#"{"rm":{"key":""}}"#, r#"{"ok":null}"#),
    ] {
        assert_eq!(client.ask(line), expected, "{strategy}: {line}");
    }
}

/// Several connections, each with a key of its own, send set-get-rm-get-rm in one go and often.
fn a_pipeline_reads_its_own_writes(server: &Embedded, strategy: &str) {
    const ROUNDS: usize = 100;
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut client = Wire::connect(server.addr);
                let mut sending = client.stream.try_clone().unwrap();
                scope.spawn(move || {
                    use std::io::Write as _;
                    for round in 0..ROUNDS {
                        let key = format!("own-{number}");
                        let lines = format!(
                            "{{\"set\":{{\"key\":\"{key}\",\"value\":\"{round}\"}}}}\n{{\"get\":{{\"key\":\"{key}\"}}}}\n\
                             {{\"rm\":{{\"key\":\"{key}\"}}}}\n{{\"get\":{{\"key\":\"{key}\"}}}}\n{{\"rm\":{{\"key\":\"{key}\"}}}}\n"
                        );
                        sending.write_all(lines.as_bytes()).unwrap();
                    }
                });
                for round in 0..ROUNDS {
                    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy} {round}: set");
                    assert_eq!(client.line().unwrap(), format!("{{\"ok\":\"{round}\"}}"), "{strategy} {round}: get");
                    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy} {round}: rm");
                    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy} {round}: get after rm");
                    assert_eq!(code_of(&client.line().unwrap()), "key_not_found", "{strategy} {round}: second rm");
                }
            });
        }
    });
}

/// Many connections set, get and remove one key in pipelines: of the removes between two sets, at most one succeeds.
fn one_of_many_removes_succeeds(server: &Embedded, strategy: &str) {
    let mut first = Wire::connect(server.addr);
    let mut clients: Vec<Wire> = (0..6).map(|_| Wire::connect(server.addr)).collect();
    for round in 0..30 {
        first.ask(r#"{"set":{"key":"contested","value":"v"}}"#);
        for client in &mut clients {
            client.send("{\"rm\":{\"key\":\"contested\"}}\n{\"rm\":{\"key\":\"contested\"}}\n");
        }
        let mut done = 0;
        for client in &mut clients {
            for _ in 0..2 {
                done += usize::from(client.line().unwrap() == r#"{"ok":null}"#);
            }
        }
        assert_eq!(done, 1, "{strategy}: round {round}");
    }
    // Sets and removes mixed: each remove that succeeded took away what one set had put there.
    let (sets, removes) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for mut client in clients {
            let (sets, removes) = (&sets, &removes);
            scope.spawn(move || {
                for round in 0..50 {
                    client.send(format!(
                        "{{\"set\":{{\"key\":\"contested\",\"value\":\"{round}\"}}}}\n{{\"get\":{{\"key\":\"contested\"}}}}\n\
                         {{\"rm\":{{\"key\":\"contested\"}}}}\n"
                    ));
                    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#);
                    sets.fetch_add(1, Ordering::SeqCst);
                    client.line().unwrap();
                    removes.fetch_add(u64::from(client.line().unwrap() == r#"{"ok":null}"#), Ordering::SeqCst);
                }
            });
        }
    });
    let (sets, removes) = (sets.into_inner(), removes.into_inner());
    let left = first.ask(r#"{"exists":{"key":"contested"}}"#) == r#"{"ok":true}"#;
    assert!(removes >= 1 && removes + u64::from(left) <= sets, "{strategy}: {removes} of {sets}, left: {left}");
    first.ask(r#"{"rm":{"key":"contested"}}"#);
}

/// One writer counts up in a pipeline; what readers see never goes back.
fn readers_see_a_writer_go_forward_only(server: &Embedded, strategy: &str) {
    const COUNT: u64 = 1000;
    let done = AtomicBool::new(false);
    Wire::connect(server.addr).ask(r#"{"set":{"key":"counter","value":"0"}}"#);
    thread::scope(|scope| {
        for _ in 0..3 {
            let done = &done;
            scope.spawn(move || {
                let mut client = Wire::connect(server.addr);
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    client.send("{\"get\":{\"key\":\"counter\"}}\n".repeat(4));
                    for _ in 0..4 {
                        let line = client.line().unwrap();
                        let seen: u64 = line[7..line.len() - 2].parse().unwrap_or_else(|_| panic!("{line}"));
                        assert!(seen >= last, "{strategy}: {seen} after {last}");
                        last = seen;
                    }
                }
            });
        }
        let mut writer = Wire::connect(server.addr);
        for start in (1..=COUNT).step_by(50) {
            let lines: String = (start..start + 50)
                .map(|number| format!("{{\"set\":{{\"key\":\"counter\",\"value\":\"{number}\"}}}}\n"))
                .collect();
            writer.send(lines);
            for _ in 0..50 {
                assert_eq!(writer.line().unwrap(), r#"{"ok":null}"#);
            }
        }
        done.store(true, Ordering::SeqCst);
    });
}

fn a_large_value_passes_beside_small_ones(server: &Embedded, strategy: &str) {
    let large = "x".repeat(1024 * 1024);
    let mut client = Wire::connect(server.addr);
    // Ten answers of 1 MiB are more than a connection may hold at once: the requests wait for room, and come through.
    let mut lines = format!("{{\"set\":{{\"key\":\"large\",\"value\":\"{large}\"}}}}\n");
    for _ in 0..10 {
        lines.push_str("{\"get\":{\"key\":\"large\"}}\n{\"get\":{\"key\":\"nobody\"}}\n");
    }
    client.send(lines);
    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy}");
    let expected = format!("{{\"ok\":\"{large}\"}}");
    for _ in 0..10 {
        assert!(client.line().unwrap() == expected, "{strategy}: the large value came back changed");
        assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy}");
    }
    // The same value with every byte escaped six-fold is the longest line that is a legal request.
    let escaped = "\\u0078".repeat(1024 * 1024);
    assert_eq!(client.ask(&format!("{{\"set\":{{\"key\":\"large\",\"value\":\"{escaped}\"}}}}")), r#"{"ok":null}"#);
    assert!(client.ask(r#"{"get":{"key":"large"}}"#) == expected, "{strategy}: the escaped value came back changed");
    let too_large = format!("{{\"set\":{{\"key\":\"large\",\"value\":\"{large}y\"}},\"id\":1}}");
    let line = client.ask(&too_large);
    assert!(code_of(&line) == "too_large" && line.contains("limit of 1048576 bytes"), "{strategy}: {line}");
    assert_eq!(client.ask(r#"{"rm":{"key":"large"}}"#), r#"{"ok":null}"#, "{strategy}: the connection goes on");
}

fn a_client_that_says_no_more_gets_all_its_answers(server: &Embedded, strategy: &str) {
    let mut client = Wire::connect(server.addr);
    for number in 0..5000 {
        client
            .send(format!("{{\"set\":{{\"key\":\"last-{}\",\"value\":\"{number}\"}},\"id\":{number}}}\n", number % 10));
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for number in 0..5000 {
        assert_eq!(client.line().unwrap(), format!("{{\"ok\":null,\"id\":{number}}}"), "{strategy}");
    }
    assert_eq!(client.line(), None, "{strategy}: then the server closes too");
}
