//! How clients become known, how long strangers may stay, and that secrets stay where they belong. `access_matrix.rs` has
//! who may do what.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use kvs_server::limits::{AUTH_DEADLINE, FAILED_AUTH_DELAY, MAX_FAILED_AUTHS, STRANGER_FRAME_BYTES};
use rustix::process::Signal;
use support::certificates::{Authority, Files};
use support::secure::{Talk, client_config};
use support::{Process, command, output, until};
use tempfile::tempdir;

const READER: &str = "reader-token-of-some-length";
const WRITER: &str = "writer-token-of-some-length";
const REVOKED: &str = "a-writer-that-is-revoked";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Json,
    Resp,
}

fn resp(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text
}

fn tokens(with_revoked: bool) -> String {
    let mut text = format!(
        "tokens:\n- {{name: reader, role: read, token: {READER}}}\n- {{name: writer, role: write, token: {WRITER}}}\n"
    );
    if with_revoked {
        text.push_str(&format!("- {{name: old, role: write, token: {REVOKED}}}\n"));
    }
    text + "certificates:\n- {name: reader, role: read, dns: reader.example}\n\
        - {name: writer, role: write, uri: 'spiffe://here/writer'}\n"
}

fn authenticate(client: &mut Talk, protocol: Protocol, token: &str) -> String {
    client.send(match protocol {
        Protocol::Json => format!("{{\"auth\":{{\"token\":\"{token}\"}}}}\n"),
        Protocol::Resp => resp(&["AUTH", token]),
    });
    client.line().unwrap()
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Json, Protocol::Resp];

#[test]
fn a_stranger_has_little_room_and_little_time() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("tokens"), tokens(false)).unwrap();
    let server = Process::start(here.path(), &["--auth-tokens", "tokens", "--limits-auth-deadline-ms", "700"]);

    // A long line is refused before it has arrived; behind `auth` it is not.
    let long = format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{}\"}}}}", "v".repeat(STRANGER_FRAME_BYTES));
    let answer = Talk::plain(server.addr).ask(&long).unwrap();
    assert!(answer.contains("\"too_large\"") && answer.contains("16384"), "{answer}");
    let mut client = Talk::plain(server.addr);
    client.send(format!("{{\"auth\":{{\"token\":\"{WRITER}\"}}}}\n{long}\n"));
    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#);
    assert_eq!(client.line().unwrap(), r#"{"ok":null}"#);

    // One request at a time, of which one command can have many.
    let mut stranger = Talk::plain(server.addr);
    stranger.send(resp(&["DEL", "a", "b", "c"]));
    assert!(stranger.line().unwrap().starts_with("-NOAUTH "), "it is answered at once");
    drop(stranger);

    // Whoever does not authenticate is disconnected, and others are not.
    let began = Instant::now();
    let mut silent = Talk::plain(server.addr);
    assert_eq!(silent.ask(r#"{"ping":{}}"#).unwrap(), r#"{"ok":"pong"}"#);
    assert_eq!(silent.line(), None);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(client.ask(r#"{"exists":{"key":"k"}}"#).unwrap(), r#"{"ok":true}"#);
    let ended = "kvs_connections_closed_total{listener=\"client\",reason=\"unauthenticated\"}";
    until("it is counted", || (server.metric(ended) == 1.0).then_some(()));
    assert!(AUTH_DEADLINE > Duration::from_millis(700), "the deadline was shortened for this test");
}

#[test]
fn a_client_whose_token_is_revoked_has_little_time_again() {
    let here = tempdir().unwrap();
    let file = here.path().join("tokens");
    std::fs::write(&file, tokens(true)).unwrap();
    let server = Process::start(here.path(), &["--auth-tokens", "tokens", "--limits-auth-deadline-ms", "700"]);
    let mut clients = [READER, REVOKED, REVOKED].map(|token| {
        let mut client = Talk::plain(server.addr);
        authenticate(&mut client, Protocol::Json, token);
        client
    });
    // Longer than a stranger may stay.
    std::thread::sleep(Duration::from_millis(1_000));
    let [reader, silent, renewed] = &mut clients;
    for client in [&mut *reader, &mut *silent, &mut *renewed] {
        assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#).unwrap(), r#"{"ok":null}"#);
    }
    let began = Instant::now();
    std::fs::write(&file, tokens(false)).unwrap();
    server.signal(Signal::HUP);
    until("the token is gone", || server.log().contains("2 tokens and 2 names").then_some(()));
    authenticate(renewed, Protocol::Json, WRITER);
    assert_eq!(silent.line(), None, "it says nothing, and is disconnected");
    assert!(began.elapsed() >= Duration::from_millis(700), "not before the deadline: {:?}", began.elapsed());
    for client in [reader, renewed] {
        assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#).unwrap(), r#"{"ok":null}"#, "others stay");
    }
}

#[test]
fn guessing_is_slow_counted_and_ends() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("tokens"), tokens(false)).unwrap();
    let server = Process::start(here.path(), &["--auth-tokens", "tokens"]);
    for pipelined in [false, true] {
        let mut client = Talk::plain(server.addr);
        let began = Instant::now();
        let guess = "{\"auth\":{\"token\":\"guess\"}}\n";
        if pipelined {
            client.send(guess.repeat(100));
        }
        for _ in 0..MAX_FAILED_AUTHS {
            if !pipelined {
                client.send(guess);
            }
            let answer = client.line().unwrap();
            assert!(answer.contains("\"unauthenticated\"") && !answer.contains("guess"), "{answer}");
        }
        assert_eq!(client.line(), None, "then it is over");
        assert!(began.elapsed() >= FAILED_AUTH_DELAY * MAX_FAILED_AUTHS);
    }
    assert_eq!(server.metric("kvs_auth_failures_total"), f64::from(2 * MAX_FAILED_AUTHS));
    // Somebody with a token is not kept out meanwhile.
    let mut client = Talk::plain(server.addr);
    assert_eq!(authenticate(&mut client, Protocol::Json, READER), r#"{"ok":null}"#);
    // Somebody with a token may send much ahead, but not guess more often than others: a right one behind is too late.
    let guesses = "{\"auth\":{\"token\":\"guess\"}}\n".repeat(100);
    client.send(format!(
        "{guesses}{{\"auth\":{{\"token\":\"{WRITER}\"}}}}\n{{\"set\":{{\"key\":\"k\",\"value\":\"v\"}}}}\n"
    ));
    let answers: Vec<String> = std::iter::from_fn(|| client.line()).collect();
    assert!(!answers.iter().any(|answer| answer.contains("\"ok\"")), "{answers:?}");
    assert_eq!(server.metric("kvs_auth_failures_total"), f64::from(3 * MAX_FAILED_AUTHS));
}

#[test]
fn a_required_certificate_alone_is_enough_where_no_file_says_more() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    let files = Files::write(here.path(), &authority, &authority.server());
    let flags = files.mutual_flags("required");
    let server = Process::start(here.path(), &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let config = client_config(&authority, Some(&authority.identity(&["anybody.example"])));
    let mut client = Talk::secure(server.addr, &config).unwrap();
    assert_eq!(client.ask(r#"{"set":{"key":"k","value":"v"}}"#).unwrap(), r#"{"ok":null}"#);
}

#[test]
fn without_authentication_only_loopback_is_served_unless_told_otherwise() {
    let here = tempdir().unwrap();
    // One that serves instead would go on for ever; with its data where there is none, it ends.
    std::fs::write(here.path().join("kvs"), "no folder").unwrap();
    let (code, _, error) = output(command().current_dir(here.path()).args(["--addr", "0.0.0.0:0"]));
    std::fs::remove_file(here.path().join("kvs")).unwrap();
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--auth-tokens") && error.contains("--allow-unauthenticated"), "{error}");
    let open = ["--addr", "0.0.0.0:0", "--allow-unauthenticated"];
    let log = Process::spawn(command().current_dir(here.path()).args(open)).stop();
    assert!(log.contains("without authentication"), "{log}");
    std::fs::write(here.path().join("tokens"), tokens(false)).unwrap();
    let guarded = ["--addr", "0.0.0.0:0", "--auth-tokens", "tokens"];
    Process::spawn(command().current_dir(here.path()).args(guarded)).stop();
}

#[test]
fn tokens_change_while_the_server_runs_and_a_wrong_file_changes_nothing() {
    let here = tempdir().unwrap();
    let file = here.path().join("tokens");
    std::fs::write(&file, tokens(false)).unwrap();
    let server = Process::start(here.path(), &["--auth-tokens", "tokens"]);
    let mut reader = Talk::plain(server.addr);
    authenticate(&mut reader, Protocol::Json, READER);
    let get = r#"{"get":{"key":"k"}}"#;
    assert_eq!(reader.ask(get).unwrap(), r#"{"ok":null}"#);

    std::fs::write(&file, "tokens: [canary-in-a-wrong-file").unwrap();
    until("it shows", || (server.metric("kvs_config_last_reload_successful") == 0.0).then_some(()));
    assert_eq!(reader.ask(get).unwrap(), r#"{"ok":null}"#, "the old tokens hold");
    assert!(server.log().contains("not understood at line 1"), "{}", server.log());
    assert!(!server.log().contains("canary"), "{}", server.log());

    // Without a signal, as when Kubernetes swaps a Secret.
    std::fs::write(&file, "another-token-of-some-length\n").unwrap();
    until("the old token is gone", || reader.ask(get).unwrap().contains("unauthenticated").then_some(()));
    assert_eq!(authenticate(&mut reader, Protocol::Json, "another-token-of-some-length"), r#"{"ok":null}"#);
    assert_eq!(reader.ask(get).unwrap(), r#"{"ok":null}"#);
}

/// Every file under a folder that holds these bytes.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(path);
        }
    }
    found
}

#[test]
fn secrets_stay_where_they_belong() {
    let here = tempdir().unwrap();
    let (token, wrong, value) = ("canary-token-41c9d6", "canary-guess-77ab02", "canary-value-e0d1f5");
    std::fs::write(here.path().join("tokens"), format!("tokens:\n- {{name: a, role: write, token: {token}}}\n"))
        .unwrap();
    let cause = here.path().join("cause");
    let data = here.path().join("data");
    let arguments = [
        "--auth-tokens",
        "tokens",
        "--log-level",
        "trace",
        "--data-dir",
        data.to_str().unwrap(),
        "--termination-log",
        cause.to_str().unwrap(),
    ];
    let server = Process::start(here.path(), &arguments);
    let mut seen = Vec::new();
    for protocol in PROTOCOLS {
        let mut client = Talk::plain(server.addr);
        seen.push(authenticate(&mut client, protocol, wrong));
        seen.push(authenticate(&mut client, protocol, token));
    }
    let mut client = Talk::plain(server.addr);
    seen.push(authenticate(&mut client, Protocol::Json, token));
    seen.push(client.ask(&format!("{{\"set\":{{\"key\":\"k\",\"value\":\"{value}\"}}}}")).unwrap());
    // Mistakes that repeat what was sent would tell it to whoever reads the log.
    for line in [
        format!("{{\"auth\":{{\"tokn\":\"{token}\"}}}}"),
        format!("{{\"auth\":\"{token}\"}}"),
        format!("{{\"auth\":{{\"token\":[\"{token}\"]}}}}"),
        format!("{{\"set\":{{\"key\":\"k\",\"value\":{{\"{value}\":1}}}}}}"),
    ] {
        seen.push(client.ask(&line).unwrap_or_default());
    }
    for path in ["/metrics", "/status", "/version"] {
        seen.push(server.admin(path).1);
    }
    let environment = std::fs::read(format!("/proc/{}/environ", server.pid())).unwrap();
    seen.push(String::from_utf8_lossy(&environment).into_owned());
    let (_, printed, _) = output(command().current_dir(here.path()).args(["config", "print"]).args(arguments));
    assert!(printed.contains("authTokens: tokens"), "{printed}");
    seen.push(printed);
    // It ends by a cause that is written down.
    seen.push(server.stop());
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = occupied.local_addr().unwrap().to_string();
    let (_, _, error) = output(command().current_dir(here.path()).args(arguments).args(["--addr", &addr]));
    seen.push(error);
    seen.push(std::fs::read_to_string(&cause).unwrap());
    let (_, dump, _) = output(command().current_dir(here.path()).args(["dump", "--data-dir", data.to_str().unwrap()]));
    assert!(dump.contains(value), "a dump has the value: {dump}");
    assert!(!dump.contains(token) && !dump.contains(wrong), "{dump}");
    for text in &seen {
        for secret in [token, wrong, value] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(files_with(&data, token.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert_eq!(files_with(&data, wrong.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert!(!files_with(&data, value.as_bytes()).is_empty(), "the store has the value");
}
