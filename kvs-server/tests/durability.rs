//! What was acknowledged is there: after SIGTERM under load, and after SIGKILL under load.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use support::{PATIENCE, Process, Wire, until};
use tempfile::tempdir;

const CLIENTS: u64 = 6;
/// Requests that a client has under way.
const DEPTH: usize = 16;
/// Keys of a client; each is written over and over.
const KEYS: u64 = 40;

/// What one key may be: the last value that was acknowledged, or a later one that was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    sent: u64,
}

type Ledger = Mutex<HashMap<String, Known>>;

/// Writes growing numbers in pipelines until the connection ends; keeps book of what was sent and acknowledged.
fn write_until_closed(addr: SocketAddr, client: u64, next: &AtomicU64, ledger: &Ledger, acknowledged: &AtomicU64) {
    let Ok(stream) = TcpStream::connect(addr) else { return };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut writer, mut reader) = (stream.try_clone().unwrap(), BufReader::new(stream));
    loop {
        let mut lines = String::new();
        let mut batch = Vec::new();
        for _ in 0..DEPTH {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let key = format!("{client}-{}", number % KEYS);
            lines.push_str(&format!("{{\"set\":{{\"key\":\"{key}\",\"value\":\"{number}\"}}}}\n"));
            ledger.lock().unwrap().entry(key.clone()).or_default().sent = number;
            batch.push((key, number));
        }
        if writer.write_all(lines.as_bytes()).is_err() {
            return;
        }
        for (key, number) in batch {
            let mut line = String::new();
            if !matches!(reader.read_line(&mut line), Ok(1..)) {
                return;
            }
            if line == "{\"ok\":null}\n" {
                ledger.lock().unwrap().get_mut(&key).unwrap().acknowledged = number;
                acknowledged.fetch_add(1, Ordering::SeqCst);
            } else {
                // The server ends: typed, and nothing was promised.
                assert!(line.contains("\"shutting_down\""), "{line}");
            }
        }
    }
}

/// Reads every key back and compares it with the ledger.
fn verify(addr: SocketAddr, ledger: &Ledger, story: &str) {
    let mut client = Wire::connect(addr);
    for (key, known) in ledger.lock().unwrap().iter_mut() {
        let line = client.ask(&format!("{{\"get\":{{\"key\":\"{key}\"}}}}"));
        let found: u64 = match line.strip_prefix("{\"ok\":\"") {
            Some(rest) => rest.trim_end_matches("\"}").parse().unwrap(),
            None => {
                assert_eq!(line, r#"{"ok":null}"#);
                0
            }
        };
        assert!((known.acknowledged..=known.sent).contains(&found), "{story}: {key} is {found}, but {known:?}");
        // What was read is durable too, so the next round may not fall behind it.
        known.acknowledged = found;
    }
}

/// Ends a server under load, again and again, and looks each time whether all that was acknowledged is there.
fn rounds(folder: &Path, arguments: &[&str], signal: Signal, rounds: usize) {
    let (ledger, next, acknowledged) = (Ledger::default(), AtomicU64::new(1), AtomicU64::new(0));
    for round in 0..rounds {
        let story = format!("{arguments:?}, {signal:?}, round {round}");
        let server = Process::start(folder, arguments);
        verify(server.addr, &ledger, &story);
        let before = acknowledged.load(Ordering::SeqCst);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (ledger, next, acknowledged, addr) = (&ledger, &next, &acknowledged, server.addr);
                scope.spawn(move || write_until_closed(addr, client, next, ledger, acknowledged));
            }
            until("the load is under way", || {
                (acknowledged.load(Ordering::SeqCst) >= before + 300 * (1 + round as u64 % 3)).then_some(())
            });
            server.signal(signal);
        });
        let (status, log) = server.wait();
        assert_eq!(status.success(), signal == Signal::TERM, "{story}: {status}: {log}");
    }
    let server = Process::start(folder, arguments);
    verify(server.addr, &ledger, "at the end");
    server.stop();
}

#[test]
fn sigterm_under_load_loses_nothing_acknowledged() {
    for pool in ["inline", "sharedQueue", "rayon", "naive"] {
        rounds(tempdir().unwrap().path(), &["--pool", pool], Signal::TERM, 3);
    }
}

#[test]
fn sigkill_under_load_loses_nothing_acknowledged() {
    // Small segments would be better still; a low threshold makes compaction run meanwhile.
    let arguments = ["--compaction-threshold-bytes", "65536"];
    rounds(tempdir().unwrap().path(), &arguments, Signal::KILL, 8);
}

#[test]
fn sigterm_loses_nothing_when_syncs_are_left_to_the_interval() {
    rounds(tempdir().unwrap().path(), &["--sync", "interval"], Signal::TERM, 3);
}

#[cfg(feature = "sled")]
#[test]
fn sled_loses_nothing_acknowledged_either() {
    rounds(tempdir().unwrap().path(), &["--engine", "sled"], Signal::TERM, 2);
    rounds(tempdir().unwrap().path(), &["--engine", "sled"], Signal::KILL, 3);
}

#[test]
fn the_end_waits_for_what_is_in_flight_and_idle_clients_hold_nothing_up() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let idle: Vec<Wire> = (0..50).map(|_| Wire::connect(server.addr)).collect();
    let mut client = Wire::connect(server.addr);
    client.ask(r#"{"set":{"key":"k","value":"v"}}"#);
    let began = std::time::Instant::now();
    server.signal(Signal::TERM);
    // The connection ends with a close, not with a reset, and the admin port had said that the server is not ready.
    assert_eq!(client.line(), None);
    drop(idle);
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(began.elapsed() < PATIENCE);
}
