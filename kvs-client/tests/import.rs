//! `kvs-client import`: what arrives, in which order, and what is said when it goes wrong.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use kvs_protocol::{Answer, Client, Verb};
use support::{Outcome, PATIENCE, Server, client, fake, poll, run, until};

/// A server, and a folder for it and for the files of a test.
fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

/// The values of these keys, read in one pipeline.
fn get_all(server: &Server, keys: impl Iterator<Item = Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let requests: Vec<_> = keys.map(|key| Verb::Get { key }.into()).collect();
    let responses = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        Client::new(stream).pipeline(&requests).await.unwrap()
    });
    let value = |answer| match answer {
        Answer::Null => None,
        Answer::Bytes(value) => Some(value),
        other => panic!("a get was answered with {other:?}"),
    };
    responses.into_iter().map(|response| value(response.body.unwrap())).collect()
}

fn value(number: usize) -> Vec<u8> {
    format!("value {number} {}", "x".repeat(number % 400)).into_bytes()
}

/// JSON lines of so many keys.
fn write_lines(file: &Path, keys: usize) {
    let mut text = String::new();
    for number in 0..keys {
        let value = String::from_utf8(value(number)).unwrap();
        writeln!(text, r#"{{"key":"key {number}","value":"{value}"}}"#).unwrap();
    }
    fs::write(file, text).unwrap();
}

fn keys(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| format!("key {number}").into_bytes())
}

#[test]
fn every_line_of_a_file_arrives() {
    const KEYS: usize = 12_000;
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    write_lines(&file, KEYS);
    let outcome = server.run(["import".as_ref(), file.as_os_str()]);
    assert_eq!((outcome.code, outcome.text()), (Some(0), ""), "{}", outcome.errors);
    let last = outcome.errors.lines().last().unwrap();
    assert!(last.starts_with(&format!("imported {KEYS} keys in ")) && last.ends_with("/s)"), "{last}");
    assert!(!outcome.errors.contains(['\r', '\x1b']), "nothing is redrawn off a terminal: {:?}", outcome.errors);
    for (number, found) in get_all(&server, keys(KEYS)).into_iter().enumerate() {
        assert!(found == Some(value(number)), "key {number} came back different");
    }
}

#[test]
fn bytes_that_are_no_text_arrive() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    fs::write(&file, "\n{\"key64\":\"AP8=\",\"value64\":\"/wA=\"}\n\n{\"key\":\"empty\",\"value64\":\"\"}").unwrap();
    assert_eq!(server.run(["import".as_ref(), file.as_os_str()]).code, Some(0));
    let found = get_all(&server, [vec![0, 0xff], b"empty".to_vec()].into_iter());
    assert_eq!(found, [Some(vec![0xff, 0]), Some(Vec::new())]);
}

#[test]
fn the_last_line_of_a_key_wins() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    let lines: String =
        (0..9_000).map(|number| format!("{{\"key\":\"{}\",\"value\":\"{number}\"}}\n", number % 3)).collect();
    fs::write(&file, lines).unwrap();
    assert_eq!(server.run(["import".as_ref(), file.as_os_str()]).code, Some(0));
    let found = get_all(&server, ["0", "1", "2"].into_iter().map(|key| key.as_bytes().to_vec()));
    assert_eq!(found, [Some(b"8997".to_vec()), Some(b"8998".to_vec()), Some(b"8999".to_vec())]);
}

#[test]
fn a_pipe_is_read_as_it_comes() {
    let (server, _folder) = server();
    let mut child = server.client(["import", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for number in 0..3 {
        writeln!(input, r#"{{"key":"{number}","value":"from a pipe"}}"#).unwrap();
        let key = number.to_string().into_bytes();
        until("a line is stored while the pipe is open", || get_all(&server, [key.clone()].into_iter()).pop().unwrap());
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("imported 3 keys"));
}

/// What a pipe of an import says and leaves behind when it is slow, at a server that does not like to wait.
fn import_slowly(server: &Server, arguments: &[&str], write: impl FnOnce(&mut std::process::ChildStdin)) -> Outcome {
    let mut command = server.client(arguments);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    write(&mut input);
    drop(input);
    let code = until("the import ends by itself", || child.try_wait().unwrap()).code();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    Outcome { code, output: Vec::new(), errors }
}

/// A person types for longer than a server keeps silent connections, and for longer than an answer may take.
#[test]
fn a_pipe_may_be_slower_than_every_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &["--limits-idle-deadline-ms", "200"]);
    let outcome = import_slowly(&server, &["import", "-", "--timeout", "1"], |input| {
        for number in 0..3 {
            if number > 0 {
                thread::sleep(Duration::from_millis(1_500));
            }
            writeln!(input, r#"{{"key":"{number}","value":"typed"}}"#).unwrap();
        }
    });
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.errors.starts_with("imported 3 keys"), "{}", outcome.errors);
    assert!(
        get_all(&server, ["0", "1", "2"].map(|key| key.as_bytes().to_vec()).into_iter()).iter().all(Option::is_some)
    );
}

#[test]
fn a_refusal_is_told_while_the_pipe_is_still_open() {
    let (server, _folder) = server();
    let too_long = "v".repeat(1024 * 1024 + 1);
    let outcome = import_slowly(&server, &["import", "-"], |input| {
        writeln!(input, r#"{{"key":"a","value":"b"}}"#).unwrap();
        writeln!(input, r#"{{"key":"long","value":"{too_long}"}}"#).unwrap();
        // What comes later must not be waited for: the pipe stays open as long as the import runs.
        let open = input.as_fd().try_clone_to_owned().unwrap();
        thread::spawn(move || {
            let _open = open;
            thread::sleep(PATIENCE * 2);
        });
    });
    assert_eq!(outcome.code, Some(7), "{}", outcome.errors);
    assert!(
        outcome.errors.contains("standard input:2: ") && outcome.errors.contains("1 keys were"),
        "{}",
        outcome.errors
    );
}

/// Counting a record's quotes anew with each of its lines would take hours here.
#[test]
fn a_value_of_many_lines_is_read_once() {
    const LINES: usize = 4 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &["--max-value-bytes", "8388608"]);
    let file = folder.path().join("lines.csv");
    fs::write(&file, format!("key,value\nk,\"{}\"\nlast,v\n", "\n".repeat(LINES))).unwrap();
    let mut child = server.client(["import".as_ref(), file.as_os_str()]).stderr(Stdio::null()).spawn().unwrap();
    let ended = poll(|| child.try_wait().unwrap());
    let _ = child.kill();
    assert_eq!(ended.expect("the import is still reading").code(), Some(0));
    let found = get_all(&server, ["k", "last"].into_iter().map(|key| key.as_bytes().to_vec()));
    assert!(found == [Some("\n".repeat(LINES).into_bytes()), Some(b"v".to_vec())]);
}

#[test]
fn a_wrong_line_is_named_and_what_came_before_it_is_stored() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    write_lines(&file, 3_000);
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("{\"key\":\"a\"}\n{\"key\":\"after\",\"value\":\"not read\"}\n");
    fs::write(&file, text).unwrap();
    let outcome = server.run(["import".as_ref(), file.as_os_str()]);
    let last = outcome.errors.lines().last().unwrap();
    assert_eq!((outcome.code, outcome.text()), (Some(7), ""), "{last}");
    let place = format!("kvs-client: {}:3001: no value", file.display());
    assert!(last.starts_with(&place) && last.ends_with("3000 keys were imported"), "{last}");
    assert!(get_all(&server, keys(3_000)).iter().all(Option::is_some));
    assert_eq!(get_all(&server, [b"after".to_vec()].into_iter()), [None]);
}

#[test]
fn a_line_that_the_server_refuses_is_named_with_the_limit() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    let too_long = "v".repeat(1024 * 1024 + 1);
    fs::write(&file, format!("{{\"key\":\"a\",\"value\":\"b\"}}\n{{\"key\":\"long\",\"value\":\"{too_long}\"}}\n"))
        .unwrap();
    let outcome = server.run(["import".as_ref(), file.as_os_str()]);
    let last = outcome.errors.lines().last().unwrap();
    assert_eq!(outcome.code, Some(7), "{last}");
    assert!(
        last.contains("keys.jsonl:2: ") && last.contains("1048576") && last.ends_with("1 keys were imported"),
        "{last}"
    );
}

#[test]
fn a_file_that_is_not_there_is_one_line() {
    let outcome = run(&mut client(["import", "/nonexistent/keys.jsonl"]));
    assert!(outcome.assert_fails(7).contains("cannot read /nonexistent/keys.jsonl"), "{}", outcome.errors);
}

#[test]
fn after_a_busy_line_the_rest_is_sent_again_in_order() {
    let mut answered = 0;
    let (addr, lines) = fake::answer_lines(move |_| {
        answered += 1;
        Some(if answered == 3 { r#"{"error":{"code":"busy","message":"too much to do"}}"# } else { r#"{"ok":null}"# })
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.jsonl");
    let text: String = (1..=5).map(|number| format!("{{\"key\":\"k\",\"value\":\"{number}\"}}\n")).collect();
    fs::write(&file, text).unwrap();
    let outcome = run(client(["import".as_ref(), file.as_os_str()]).args(["--addr", &addr.to_string()]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.errors.starts_with("imported 5 keys"), "{}", outcome.errors);
    let sent: Vec<String> = lines.try_iter().collect();
    let values: Vec<u32> = sent.iter().map(|line| line.split('"').rev().nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(values, [1, 2, 3, 4, 5, 3, 4, 5]);
}

#[test]
fn a_server_that_dies_meanwhile_is_named_and_importing_again_completes() {
    const KEYS: usize = 10_000;
    let (server, folder) = server();
    let addr = server.addr.to_string();
    let file = folder.path().join("keys.jsonl");
    write_lines(&file, KEYS);
    let mut child = server.client(["import", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = fs::read(&file).unwrap();
    let (first, rest) = text.split_at(text.len() / 2);
    input.write_all(first).unwrap();
    until("the import is under way", || get_all(&server, keys(1)).pop().unwrap());
    server.kill();
    // The client may be gone before it has read the rest.
    let _ = input.write_all(rest);
    drop(input);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.lines().last().unwrap().contains(&addr), "{errors}");

    let server = Server::start_at(&folder.path().join("data"), &addr);
    assert_eq!(server.run(["import".as_ref(), file.as_os_str()]).code, Some(0));
    assert!(get_all(&server, keys(KEYS)).iter().all(Option::is_some));
}
