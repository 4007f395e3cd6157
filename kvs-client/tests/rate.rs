//! An import runs at the rate of the protocol: beside it, in the same run, a loop that only writes ready requests and
//! counts the ends of answers.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::{Server, figure, is_full};

/// Keys of the short version, whose rates are not compared: a debug build says nothing about them.
const FEW_KEYS: usize = 20_000;
/// Keys with `KVS_TORTURE=full`, which wants a release build.
const MANY_KEYS: usize = 1_000_000;
/// What an import must reach of the raw rate.
const LEAST_SHARE: f64 = 0.7;
const VALUE_BYTES: usize = 150;

/// The lines of a file to import, or of the requests that it becomes.
fn lines(keys: usize, before: &str, after: &str) -> String {
    let value = "v".repeat(VALUE_BYTES);
    let mut text = String::with_capacity(keys * (VALUE_BYTES + 64));
    for number in 0..keys {
        writeln!(text, "{before}{{\"key\":\"key {number:09}\",\"value\":\"{value}\"}}{after}").unwrap();
    }
    text
}

/// Writes ready requests without waiting and counts answers.
fn raw(server: &Server, keys: usize) -> Duration {
    let requests = lines(keys, "{\"set\":", "}");
    let begin = Instant::now();
    let stream = TcpStream::connect(server.addr).unwrap();
    let mut answers = stream.try_clone().unwrap();
    let counting = thread::spawn(move || {
        let (mut left, mut bytes) = (keys, vec![0; 256 * 1024]);
        while left > 0 {
            let count = answers.read(&mut bytes).unwrap();
            assert!(count > 0, "the server closed the connection");
            left -= memchr::memchr_iter(b'\n', &bytes[..count]).count();
        }
    });
    (&stream).write_all(requests.as_bytes()).unwrap();
    counting.join().unwrap();
    begin.elapsed()
}

#[test]
fn an_import_is_as_fast_as_the_protocol() {
    let keys = if is_full() { MANY_KEYS } else { FEW_KEYS };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.jsonl");
    fs::write(&file, lines(keys, "", "")).unwrap();
    let mut shares = Vec::new();
    // By turns, so that a machine that slows down slows both.
    for round in 0..if is_full() { 3 } else { 1 } {
        let fresh = |name: &str| Server::start(&folder.path().join(format!("{name} {round}")));
        let raw = raw(&fresh("raw"), keys);
        let server = fresh("import");
        let begin = Instant::now();
        assert_eq!(server.run(["import".as_ref(), file.as_os_str()]).code, Some(0));
        let import = begin.elapsed();
        let share = raw.as_secs_f64() / import.as_secs_f64();
        figure(&format!("{keys} keys: raw {raw:.2?}, import {import:.2?}, a share of {share:.2}"));
        shares.push(share);
    }
    shares.sort_unstable_by(f64::total_cmp);
    let median = shares[shares.len() / 2];
    assert!(!is_full() || median >= LEAST_SHARE, "an import reached {median:.2} of the raw rate");
}
