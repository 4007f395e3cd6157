//! Malformed, oversized, slow and greedy clients: a typed error or a closed connection, bounded memory, and the
//! server goes on.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kvs_protocol::limits::DEFAULT_MAX_FRAME_BYTES;
use kvs_server::limits::{FRAME_DEADLINE, MAX_OUTPUT_BYTES, WRITE_DEADLINE};
use support::resp::command as command_of;
use support::{PATIENCE, Process, Wire, code_of, command, until};
use tempfile::tempdir;

/// What a server may grow by, in bytes, while one kind of attack goes on.
const GROWTH_BYTES: usize = 128 * 1024 * 1024;

/// The server answers somebody else.
fn goes_on(server: &Process) {
    assert_eq!(Wire::connect(server.addr).ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
}

#[test]
fn a_line_that_is_no_json_gets_one_error_and_nothing_after_it_is_done() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    for garbage in
        ["{]\n", "{\"get\":\n", "{\"get\":{\"key\":\"k\"}} x\n", "{\"get\":{\"key\":\"\u{1}\"}}\n", "{\u{0}\n"]
    {
        let mut client = Wire::connect(server.addr);
        client.send(format!("{{\"ping\":{{}}}}\n{garbage}{{\"set\":{{\"key\":\"smuggled\",\"value\":\"v\"}}}}\n"));
        // The first line of garbage may be the first of the connection too: then there is no pong before it.
        assert_eq!(client.line().unwrap(), r#"{"ok":"pong"}"#);
        assert_eq!(code_of(&client.line().unwrap()), "malformed", "{garbage}");
        assert_eq!(client.line(), None, "{garbage}: the connection is closed");
    }
    assert_eq!(Wire::connect(server.addr).ask(r#"{"get":{"key":"smuggled"}}"#), r#"{"ok":null}"#);
}

#[test]
fn other_protocols_get_one_line_and_nothing_after_it_is_done() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let smuggled = "{\"set\":{\"key\":\"smuggled\",\"value\":\"v\"}}\n";
    let post = format!("POST / HTTP/1.1\r\nHost: kvs\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    for (bytes, word) in [
        (b"GET / HTTP/1.1\r\nHost: kvs\r\n\r\n".to_vec(), "not HTTP"),
        (post.into_bytes(), "not HTTP"),
        (b"\x16\x03\x01\x00\xa5\x01".to_vec(), "without TLS"),
        (b"\n".to_vec(), "each begins with `{`"),
        (b"[1]\n".to_vec(), "each begins with `{`"),
        (vec![0xff; 100], "each begins with `{`"),
    ] {
        let mut client = Wire::connect(server.addr);
        client.send(&bytes);
        client.send(smuggled);
        let line = client.line().unwrap();
        assert!(line.contains(word), "{:?}: {line}", String::from_utf8_lossy(&bytes));
        if !line.starts_with('-') {
            assert_eq!(code_of(&line), "wrong_protocol");
        }
        assert_eq!(client.line(), None, "one line, then the connection is closed");
    }
    assert_eq!(Wire::connect(server.addr).ask(r#"{"get":{"key":"smuggled"}}"#), r#"{"ok":null}"#);
}

#[test]
fn a_line_over_the_limit_is_refused_by_name_and_memory_stays() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let before = server.resident_bytes();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Wire::connect(server.addr);
                let mut sending = client.stream.try_clone().unwrap();
                let sender = scope.spawn(move || {
                    let piece = vec![b'x'; 64 * 1024];
                    let mut sent = sending.write(b"{\"get\":{\"key\":\"").unwrap();
                    // Far more than the limit, until the server has enough of it.
                    while sent < 10 * DEFAULT_MAX_FRAME_BYTES {
                        match sending.write(&piece) {
                            Ok(count) => sent += count,
                            Err(_) => break,
                        }
                    }
                    sent
                });
                let line = client.line().unwrap();
                match code_of(&line).as_str() {
                    "too_large" => {
                        assert!(line.contains(&format!("limit of {DEFAULT_MAX_FRAME_BYTES} bytes")), "{line}")
                    }
                    other => panic!("{other}: {line}"),
                }
                assert_eq!(client.line(), None);
                assert!(sender.join().unwrap() < 10 * DEFAULT_MAX_FRAME_BYTES, "the server did not read on");
            });
        }
    });
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grown by {grown} bytes");
    goes_on(&server);
    until("all bytes in flight are given back", || (server.metric("kvs_in_flight_bytes") == 0.0).then_some(()));
}

#[test]
fn many_long_lines_together_are_bounded_and_small_requests_pass() {
    const CLIENTS: usize = 40;
    const LINE_BYTES: usize = 6_000_000;
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let before = server.resident_bytes();
    // Each begins a legal line of 6 MB and does not end it: 240 MB, if the server took them all.
    let clients: Vec<Wire> = (0..CLIENTS).map(|_| Wire::connect(server.addr)).collect();
    let mut highest = before;
    thread::scope(|scope| {
        let senders: Vec<_> = clients
            .iter()
            .map(|client| {
                let mut sending = client.stream.try_clone().unwrap();
                scope.spawn(move || {
                    sending.write_all(b"{\"set\":{\"key\":\"k\",\"value\":\"").unwrap();
                    let line = vec![b'x'; LINE_BYTES];
                    // Whoever gets no room is closed.
                    let _ = sending.write_all(&line);
                })
            })
            .collect();
        while !senders.iter().all(thread::ScopedJoinHandle::is_finished) {
            highest = highest.max(server.resident_bytes());
            goes_on(&server);
        }
    });
    let busy = until("those without room are told", || {
        highest = highest.max(server.resident_bytes());
        let closed = server.metric("kvs_connections_closed_total{listener=\"client\",reason=\"busy\"}");
        (closed >= (CLIENTS / 2) as f64).then_some(closed)
    });
    assert!(busy < CLIENTS as f64, "some of them have room");
    let told = clients.iter().filter(|client| {
        client.stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut line = [0; 64];
        let count = (&client.stream).read(&mut line).unwrap_or_default();
        line[..count].starts_with(b"{\"error\":{\"code\":\"busy\"")
    });
    assert!(told.count() >= CLIENTS / 2);
    let grown = highest - before;
    assert!(grown < GROWTH_BYTES, "grown by {grown} bytes");
    drop(clients);
    until("all bytes in flight are given back", || (server.metric("kvs_in_flight_bytes") == 0.0).then_some(()));
    let value = "x".repeat(1_000_000);
    let answer = Wire::connect(server.addr).ask(&format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{value}\"}}}}"));
    assert_eq!(answer, r#"{"ok":null}"#, "then there is room again");
}

#[test]
fn a_slow_client_is_told_and_closed_while_others_are_served() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let began = Instant::now();
    // One that sends a byte now and then and never ends its line, one that says nothing after half a line.
    let mut trickling = Wire::connect(server.addr);
    let mut silent = Wire::connect(server.addr);
    trickling.send("{");
    silent.send("{\"ping\":{}}\n{\"get\":");
    assert_eq!(silent.line().unwrap(), r#"{"ok":"pong"}"#);
    let mut drip = trickling.stream.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while drip.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    for _ in 0..20 {
        goes_on(&server);
    }
    for mut client in [trickling, silent] {
        let line = client.line().unwrap();
        assert_eq!(code_of(&line), "timeout", "{line}");
        assert_eq!(client.line(), None);
        assert!(began.elapsed() >= FRAME_DEADLINE, "not before the deadline: {:?}", began.elapsed());
        client.stream.shutdown(Shutdown::Both).unwrap_or_default();
    }
    dripping.join().unwrap();
}

#[test]
fn a_client_that_never_reads_is_not_read_and_then_closed() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let value = "x".repeat(256 * 1024);
    Wire::connect(server.addr).ask(&format!("{{\"set\":{{\"key\":\"big\",\"value\":\"{value}\"}}}}"));
    let before = server.resident_bytes();
    let began = Instant::now();
    let request = "{\"get\":{\"key\":\"big\"}}\n".repeat(1000);
    let greedy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server.addr).unwrap();
            stream.set_nonblocking(true).unwrap();
            // 20 clients ask for 256 MB each; what the sockets take is sent, the answers are never read.
            let mut rest = request.as_bytes();
            while let Ok(count @ 1..) = stream.write(rest) {
                rest = &rest[count..];
                if rest.is_empty() {
                    break;
                }
            }
            stream
        })
        .collect();
    let mut highest = 0;
    until("the server has closed them all", || {
        highest = highest.max(server.resident_bytes());
        goes_on(&server);
        (server.metric("kvs_connections_closed_total{listener=\"client\",reason=\"unread\"}") >= 20.0).then_some(())
    });
    assert!(began.elapsed() >= WRITE_DEADLINE, "not before the deadline: {:?}", began.elapsed());
    // Each holds at most the output and one answer beyond it, twice while buffers grow.
    let bound = 20 * 4 * MAX_OUTPUT_BYTES;
    assert!(highest - before < bound, "grown by {} bytes, more than {bound}", highest - before);
    drop(greedy);
}

/// With two strategies: values wait for their connection in other places when another thread reads them.
#[test]
fn large_answers_that_nobody_reads_are_bounded_together() {
    for pool in ["inline", "sharedQueue"] {
        large_answers_are_bounded(pool);
    }
}

fn large_answers_are_bounded(pool: &str) {
    const CLIENTS: usize = 100;
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--pool", pool]);
    let value = "x".repeat(1_000_000);
    Wire::connect(server.addr).ask(&format!("{{\"set\":{{\"key\":\"big\",\"value\":\"{value}\"}}}}"));
    let before = server.resident_bytes();
    // 2 MB or more for each, if the server kept them all.
    let mut clients: Vec<Wire> = (0..CLIENTS)
        .map(|_| {
            let mut client = Wire::connect(server.addr);
            client.send("{\"get\":{\"key\":\"big\"},\"id\":7}\n".repeat(4));
            client
        })
        .collect();
    let mut highest = before;
    until("those without room are told", || {
        highest = highest.max(server.resident_bytes());
        let (_, text) = server.admin("/metrics");
        let series = "kvs_request_errors_total{code=\"busy\"} ";
        let refused: f64 = text.lines().find_map(|line| line.strip_prefix(series))?.parse().unwrap();
        (refused >= CLIENTS as f64).then_some(())
    });
    let grown = highest.max(server.resident_bytes()) - before;
    assert!(grown < GROWTH_BYTES, "{pool}: grown by {grown} bytes");
    goes_on(&server);
    for _ in 0..4 {
        let line = clients.last_mut().unwrap().line().unwrap();
        assert!(line.ends_with(",\"id\":7}"), "a refusal names its request too: {}", &line[line.len() - 100..]);
    }
    drop(clients);
    until("all bytes in flight are given back", || (server.metric("kvs_in_flight_bytes") == 0.0).then_some(()));
    assert_eq!(Wire::connect(server.addr).ask("{\"get\":{\"key\":\"big\"}}").len(), 1_000_009);
}

/// Sends the same request again and again over many connections, as much as the server takes, and reads nothing; gives
/// by how many bytes the server grew at most.
fn grown_by_the_deaf(server: &Process, clients: usize, request: &[u8]) -> usize {
    const ATTACK: Duration = Duration::from_secs(3);
    let before = server.resident_bytes();
    let requests = request.repeat((64 * 1024 / request.len()).max(1));
    let connect = |_| {
        let stream = TcpStream::connect(server.addr).unwrap();
        stream.set_nonblocking(true).unwrap();
        (stream, 0)
    };
    let mut deaf: Vec<(TcpStream, usize)> = (0..clients).map(connect).collect();
    let (began, mut highest) = (Instant::now(), before);
    while began.elapsed() < ATTACK && highest - before < 2 * GROWTH_BYTES {
        for (stream, sent) in &mut deaf {
            // A full buffer and a closed connection are both nothing to write to.
            *sent = (*sent + stream.write(&requests[*sent..]).unwrap_or(0)) % requests.len();
        }
        highest = highest.max(server.resident_bytes());
        thread::sleep(Duration::from_millis(5));
    }
    highest - before
}

#[test]
fn long_answers_to_short_requests_are_bounded_together() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let grown = grown_by_the_deaf(&server, 200, b"{\"info\":{}}\n");
    assert!(grown < GROWTH_BYTES, "grown by {grown} bytes");
    goes_on(&server);
}

#[test]
fn the_system_keeps_little_for_a_client_that_reads_nothing() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let value = "x".repeat(1_000_000);
    let mut deaf = Wire::connect(server.addr);
    deaf.ask(&format!("{{\"set\":{{\"key\":\"big\",\"value\":\"{value}\"}}}}"));
    deaf.send("{\"get\":{\"key\":\"big\"}}\n".repeat(8));
    let sent = || server.metric("kvs_network_sent_bytes_total{listener=\"client\"}");
    let mut before = -1.0;
    let kept = until("nothing more is taken", || {
        thread::sleep(Duration::from_millis(300));
        let now = sent();
        (std::mem::replace(&mut before, now) == now && now > 1_000.0).then_some(now)
    });
    assert!(kept < 1024.0 * 1024.0, "{kept} bytes are kept for it");
}

#[test]
fn strangers_that_read_nothing_are_not_read() {
    let here = tempdir().unwrap();
    let tokens = here.path().join("tokens");
    std::fs::write(&tokens, format!("tokens: [{{name: n, role: write, token: {}}}]\n", "t".repeat(16))).unwrap();
    let server = Process::start(here.path(), &["--auth-tokens", tokens.to_str().unwrap()]);
    let echo = command_of(&["ECHO", &"x".repeat(16_000)]);
    let grown = grown_by_the_deaf(&server, 300, &echo);
    assert!(grown < GROWTH_BYTES / 2, "grown by {grown} bytes");
    goes_on(&server);
}

#[test]
fn a_deep_pipeline_is_answered_in_order_with_bounded_memory() {
    const REQUESTS: usize = 200_000;
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let before = server.resident_bytes();
    let mut client = Wire::connect(server.addr);
    let mut sending = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        for start in (0..REQUESTS).step_by(1000) {
            let lines: String = (start..start + 1000).map(|id| format!("{{\"ping\":{{}},\"id\":{id}}}\n")).collect();
            sending.write_all(lines.as_bytes()).unwrap();
        }
    });
    for id in 0..REQUESTS {
        assert_eq!(client.line().unwrap(), format!("{{\"ok\":\"pong\",\"id\":{id}}}"));
    }
    sender.join().unwrap();
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "grown by {grown} bytes");
}

#[test]
fn random_bytes_never_end_the_server() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let before = server.resident_bytes();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // xorshift64: the same bytes in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..500 {
        let mut stream = TcpStream::connect(server.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = usize::try_from(next() % 300).unwrap();
        // Half of them begin as JSON, made of the pieces that requests are made of.
        let bytes: Vec<u8> = if round % 2 == 0 {
            const PIECES: [&str; 12] =
                ["{", "}", "\"get\"", "\"set\"", ":", ",", "\"key\"", "\"value64\"", "[", "\n", "\"\\u0000", "1e999"];
            let pieces = (0..length / 4).map(|_| PIECES[usize::try_from(next()).unwrap() % PIECES.len()]);
            std::iter::once("{").chain(pieces).collect::<String>().into_bytes()
        } else {
            (0..length).map(|_| next().to_le_bytes()[0]).collect()
        };
        // The server may close at any byte.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers);
        for line in answers.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")) {
            serde_json::from_slice::<serde_json::Value>(line).expect("each answer is JSON");
        }
    }
    goes_on(&server);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "grown by {grown} bytes");
    assert!(!server.log().contains("a fault of the server"), "{}", server.log());
}

#[test]
fn clients_never_take_the_descriptors_that_the_log_needs() {
    let here = tempdir().unwrap();
    // The shell lowers both limits, so that the server can't raise its own.
    let program = command();
    let mut shell = Command::new("sh");
    let script = "ulimit -n 64; exec \"$0\" --addr 127.0.0.1:0";
    shell.current_dir(here.path()).args(["-c", script]).arg(program.get_program());
    let server = Process::spawn(&mut shell);
    let mut client = Wire::connect(server.addr);
    assert_eq!(client.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    let held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    // 20 MB: the log begins new files meanwhile.
    let value = "x".repeat(1_000_000);
    for number in 0..20 {
        let line = format!("{{\"set\":{{\"key\":\"{number}\",\"value\":\"{value}\"}}}}");
        assert_eq!(client.ask(&line), r#"{"ok":null}"#, "{}", server.log());
    }
    drop(held);
    goes_on(&server);
}

#[test]
fn who_comes_when_there_is_no_room_waits_and_is_served_when_one_leaves() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--limits-connections", "2"]);
    let open = || server.metric("kvs_connections{listener=\"client\"}");
    let mut first = Wire::connect(server.addr);
    let mut second = Wire::connect(server.addr);
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    }
    // The system connects it and keeps what it says; the server does not know of it yet.
    let mut third = Wire::connect(server.addr);
    third.send("{\"ping\":{},\"id\":3}\n");
    third.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..20 {
        let found = third.stream.peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(found, Err(std::io::ErrorKind::WouldBlock), "nobody answers it");
        assert_eq!(open(), 2.0);
        assert_eq!(second.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    }
    third.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(third.line().unwrap(), r#"{"ok":"pong","id":3}"#);
    assert_eq!(open(), 2.0);
}

#[test]
fn idle_clients_cost_little() {
    const IDLE: usize = 2000;
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let before = server.resident_bytes();
    let mut idle: Vec<Wire> = (0..IDLE).map(|_| Wire::connect(server.addr)).collect();
    for client in &mut idle {
        assert_eq!(client.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    }
    let each = server.resident_bytes().saturating_sub(before) / IDLE;
    assert!(each < 24 * 1024, "{each} bytes for each idle client");
    assert_eq!(server.metric("kvs_connections{listener=\"client\"}"), 2000.0);
    drop(idle);
    until("they are gone", || (server.metric("kvs_connections{listener=\"client\"}") == 0.0).then_some(()));
}
