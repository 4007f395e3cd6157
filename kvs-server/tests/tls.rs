//! TLS as clients meet it: which versions, whose certificates, and what happens when files change.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kvs_protocol::{ClientTls, ConnectOptions, ErrorCode};
use rustix::process::Signal;
use support::certificates::{Authority, Files};
use support::secure::{Talk, client_config, config_of, secured};
use support::{Over, Process, Wire, is_full, say, until};
use tempfile::tempdir;

const PING: &str = r#"{"ping":{}}"#;
const PONG: &str = r#"{"ok":"pong"}"#;

fn start(folder: &std::path::Path, flags: &[String]) -> Process {
    Process::start(folder, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn both_versions_are_spoken_and_a_foreign_authority_is_not_believed() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client = Talk::secure(server.addr, &config_of(&authority, None, &[version])).unwrap();
        assert_eq!(client.ask(PING).unwrap(), PONG, "{version:?}");
    }
    let stranger = client_config(&Authority::new(), None);
    let error = secured(server.addr, &stranger).err().unwrap().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    let expiry = server.metric("kvs_tls_certificate_expiry_timestamp_seconds");
    assert!(expiry > 4e9, "made to last until the year 4096: {expiry}");
    until("it is counted", || (server.metric("kvs_tls_handshakes_total{result=\"error\"}") == 1.0).then_some(()));
    assert_eq!(server.metric("kvs_tls_handshakes_total{result=\"ok\"}"), 2.0);
}

#[test]
fn large_values_and_long_pipelines_go_through_tls_whole() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    let config = client_config(&authority, None);
    let mut client = Talk::secure(server.addr, &config).unwrap();
    let value = "v".repeat(1024 * 1024);
    assert_eq!(client.ask(&format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{value}\"}}}}")).unwrap(), r#"{"ok":null}"#);
    // More answers than the buffers of both sides hold, taken only after all is asked.
    client.send("{\"get\":{\"key\":\"k\"}}\n".repeat(16));
    for _ in 0..16 {
        assert_eq!(client.line().unwrap().len(), value.len() + r#"{"ok":""}"#.len());
    }
    client.send("{\"ping\":{}}\n".repeat(5000));
    for _ in 0..5000 {
        assert_eq!(client.line().unwrap(), PONG);
    }
}

#[test]
fn what_is_no_tls_is_disconnected_without_an_answer_and_said_in_the_log() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    for bytes in [&b"{\"ping\":{}}\n"[..], b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00"] {
        let mut client = Wire::connect(server.addr);
        client.send(bytes);
        let mut answer = Vec::new();
        // Closed or reset: either way nothing came.
        let _ = client.stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{bytes:?}");
    }
    until("all are counted", || (server.metric("kvs_tls_handshakes_total{result=\"error\"}") == 4.0).then_some(()));
    let config = client_config(&authority, None);
    assert_eq!(Talk::secure(server.addr, &config).unwrap().ask(PING).unwrap(), PONG, "others go on");
    let log = server.stop();
    let said = log.lines().filter(|line| line.contains("it speaks no TLS; give the client --tls-ca")).count();
    assert_eq!(said, 1, "four of them in so short a time are one line: {log}");
}

#[test]
fn a_handshake_that_is_not_done_in_time_ends() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let mut flags = files.flags();
    flags.extend(["--limits-handshake-deadline-ms", "300"].map(str::to_owned));
    let server = start(here.path(), &flags);
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let began = Instant::now();
        let mut client = Wire::connect(server.addr);
        client.send(begun);
        let _ = client.stream.read(&mut [0; 64]);
        assert!(began.elapsed() >= Duration::from_millis(300), "it had its time");
    }
    until("they are counted", || (server.metric("kvs_tls_handshakes_total{result=\"error\"}") == 3.0).then_some(()));
    // One that is in the middle of a handshake does not hold the end up.
    let _idle = TcpStream::connect(server.addr).unwrap();
    server.stop();
}

#[test]
fn clients_that_take_nothing_are_disconnected_inside_tls_too() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let mut flags = files.flags();
    flags.extend(["--limits-write-deadline-ms", "500"].map(str::to_owned));
    let server = start(here.path(), &flags);
    let config = client_config(&authority, None);
    let value = "v".repeat(16 * 1024);
    let set = format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{value}\"}}}}");
    assert_eq!(Talk::secure(server.addr, &config).unwrap().ask(&set).unwrap(), r#"{"ok":null}"#);
    // Far more than the sockets hold, and less.
    let mut silent = Vec::new();
    for answers in [1, 1000] {
        let mut stream = secured(server.addr, &config).unwrap();
        stream.write_all("{\"get\":{\"key\":\"k\"}}\n".repeat(answers).as_bytes()).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        silent.push(stream);
    }
    let open = || server.metric("kvs_connections{listener=\"client\"}");
    until("all are disconnected", || (open() == 0.0).then_some(()));
    drop(silent);
}

#[test]
fn client_certificates_are_asked_for_as_configured() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let known = client_config(&authority, Some(&authority.identity(&["app.example"])));
    let foreign = client_config(&authority, Some(&Authority::new().identity(&["app.example"])));
    let none = client_config(&authority, None);
    for (mode, without) in [("required", false), ("optional", true)] {
        let server = start(here.path(), &files.mutual_flags(mode));
        // With TLS 1.3 a client learns of the refusal when it reads.
        let answered = |config| Talk::secure(server.addr, config).ok().and_then(|mut client| client.ask(PING));
        assert_eq!(answered(&known).as_deref(), Some(PONG), "{mode}");
        assert_eq!(answered(&foreign), None, "{mode}: one that is shown must be ours");
        assert_eq!(answered(&none).is_some(), without, "{mode}");
    }
}

#[test]
fn our_own_client_reaches_it_and_believes_nobody_else() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tls = ClientTls::from_files(&files.ca, None).unwrap();
    let options = ConnectOptions { tls: Some(tls.clone()), token: None };
    let port = server.addr.port();
    runtime.block_on(async {
        let mut client = options.connect("localhost", port).await.unwrap();
        client.set("k", "v").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().unwrap(), b"v");
        options.connect("127.0.0.1", port).await.unwrap();
        let named = ConnectOptions { tls: Some(tls.clone().with_server_name("other.example").unwrap()), token: None };
        let error = named.connect("localhost", port).await.err().unwrap().to_string();
        assert!(error.contains("certificate"), "{error}");
        let plain = ConnectOptions::default().connect("localhost", port).await;
        assert!(plain.unwrap().ping().await.is_err(), "without TLS there is no answer");
        let options = ConnectOptions { tls: Some(tls), token: Some(kvs_protocol::Token::new("any")) };
        let error = options.connect("localhost", port).await.err().unwrap();
        assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "this server asks for none: {error}");
    });
}

/// The serial number of the certificate that a new connection meets.
fn certificate_met(server: &Process, config: &Arc<rustls::ClientConfig>) -> Vec<u8> {
    secured(server.addr, config).unwrap().conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn certificates_change_under_load_and_no_request_fails() {
    let (by_signal, by_looking) = if is_full() { (990, 10) } else { (18, 2) };
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    let config = client_config(&authority, None);
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut met = certificate_met(&server, &config);
    std::thread::scope(|scope| {
        // Two that stay, two that come and go.
        for stays in [true, true, false, false] {
            let (server, config, over, asked) = (&server, &config, &over, &asked);
            scope.spawn(move || {
                let mut client = Talk::secure(server.addr, config).unwrap();
                while !over.load(Ordering::Relaxed) {
                    if !stays {
                        client = Talk::secure(server.addr, config).unwrap();
                    }
                    for _ in 0..10 {
                        assert_eq!(client.ask(PING).as_deref(), Some(PONG));
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let story = Over(&over);
        for rotation in 0..by_signal + by_looking {
            files.replace(&authority.server());
            if rotation < by_signal {
                server.signal(Signal::HUP);
            }
            met = until("the new certificate is met", || {
                Some(certificate_met(&server, &config)).filter(|new| *new != met)
            });
        }
        drop(story);
    });
    say(&format!("{} requests over {} rotations", asked.load(Ordering::Relaxed), by_signal + by_looking));
    assert_eq!(server.metric("kvs_tls_handshakes_total{result=\"error\"}"), 0.0);
    assert_eq!(server.metric("kvs_config_last_reload_successful"), 1.0);
}

#[test]
fn a_pair_that_does_not_fit_changes_nothing_and_is_logged_once() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let server = start(here.path(), &files.flags());
    let config = client_config(&authority, None);
    let met = certificate_met(&server, &config);
    let bad_pairs = [
        (authority.server().certificate, authority.server().key),
        ("no certificate".to_owned(), authority.server().key),
        (authority.server().certificate, String::new()),
    ];
    let mut met = met;
    for (cert, key) in &bad_pairs {
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        until("it shows", || (server.metric("kvs_config_last_reload_successful") == 0.0).then_some(()));
        // Time for a few more looks, each of which could say it again.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(certificate_met(&server, &config), met, "the old pair serves on");
        files.replace(&authority.server());
        until("all is well again", || (server.metric("kvs_config_last_reload_successful") == 1.0).then_some(()));
        let old = std::mem::replace(&mut met, certificate_met(&server, &config));
        assert_ne!(old, met);
    }
    let log = server.stop();
    assert_eq!(log.matches("cannot take a change over").count(), bad_pairs.len(), "{log}");
    assert!(log.contains("does not belong to the certificate in") && log.contains("holds no private key"), "{log}");
    assert!(!log.contains("BEGIN"), "nothing of a key is in the log: {log}");
}
