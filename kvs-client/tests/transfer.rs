//! Export and import: every byte arrives, in both formats, and a run that was killed is gone on with.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::{Server, fake, is_full, run, until};

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

fn arguments<'a>(verb: &'a str, file: &'a Path, more: &'a [&'a str]) -> Vec<&'a std::ffi::OsStr> {
    [verb.as_ref(), file.as_os_str()].into_iter().chain(more.iter().map(AsRef::as_ref)).collect()
}

/// JSON lines of keys and values of any bytes.
fn write_bytes(file: &Path, keys: u32) {
    let mut text = String::new();
    for number in 0..keys {
        let bytes: Vec<u8> =
            (0..number % 300).map(|place| (number.wrapping_mul(place) >> 3).to_le_bytes()[0]).collect();
        let key = [&number.to_be_bytes()[..], &bytes[..bytes.len() / 3]].concat();
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(bytes));
        writeln!(text, "{{\"key64\":\"{key}\",\"value64\":\"{value}\"}}").unwrap();
    }
    fs::write(file, text).unwrap();
}

/// The lines of a file, sorted: a store has no order.
fn sorted(file: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_store_goes_through_both_formats_and_comes_back_the_same() {
    let (server, folder) = server();
    let file = |name: &str| folder.path().join(name);
    write_bytes(&file("first.jsonl"), 3_000);
    assert_eq!(server.run(arguments("import", &file("first.jsonl"), &[])).code, Some(0));
    for key in ["a,b", "\"quoted\"", "two\nlines\r\n", " spaces ", "", "größe"] {
        server.run(["set", key, key]).assert_prints("");
    }
    assert_eq!(server.run(arguments("export", &file("all.jsonl"), &[])).code, Some(0));
    assert_eq!(server.run(arguments("export", &file("all.csv"), &[])).code, Some(0));
    assert!(fs::read_to_string(file("all.csv")).unwrap().starts_with("key,value,encoding\n"));

    for format in ["all.jsonl", "all.csv"] {
        let folder = tempfile::tempdir().unwrap();
        let other = Server::start(&folder.path().join("data"));
        let outcome = other.run(arguments("import", &file(format), &[]));
        assert!(outcome.errors.starts_with("imported 3006 keys in "), "{}", outcome.errors);
        let again = folder.path().join("again.jsonl");
        assert_eq!(other.run(arguments("export", &again, &[])).code, Some(0));
        assert!(sorted(&again) == sorted(&file("all.jsonl")), "{format} lost something");
    }

    let some = server.run(["export", "--prefix", "a", "--format", "csv"]);
    assert_eq!(some.text(), "key,value,encoding\n\"a,b\",\"a,b\",\n", "{}", some.errors);
}

/// Keys of the round trip that is about their number; with `KVS_TORTURE=full` as many as a store has.
const MANY_KEYS: u32 = 20_000;
const ALL_KEYS: u32 = 1_000_000;

#[test]
fn many_keys_of_any_bytes_go_through_both_formats() {
    let keys = if is_full() { ALL_KEYS } else { MANY_KEYS };
    let (server, folder) = server();
    let file = |name: &str| folder.path().join(name);
    write_bytes(&file("first.jsonl"), keys);
    assert_eq!(server.run(arguments("import", &file("first.jsonl"), &[])).code, Some(0));
    assert_eq!(server.run(arguments("export", &file("first.csv"), &[])).code, Some(0));
    let other = Server::start(&file("other"));
    assert_eq!(other.run(arguments("import", &file("first.csv"), &[])).code, Some(0));
    assert_eq!(other.run(arguments("export", &file("last.jsonl"), &[])).code, Some(0));
    other.run(["count"]).assert_prints(&format!("{keys}\n"));
    // Both have come out of a store, so that equal bytes are written equally.
    assert_eq!(server.run(arguments("export", &file("same.jsonl"), &[])).code, Some(0));
    assert!(sorted(&file("last.jsonl")) == sorted(&file("same.jsonl")), "something was lost or changed");
}

#[test]
fn an_export_never_overwrites_and_has_its_name_only_when_whole() {
    let (server, folder) = server();
    server.run(["set", "k", "v"]).assert_prints("");
    let file = folder.path().join("all.jsonl");
    fs::write(&file, "precious").unwrap();
    let outcome = server.run(arguments("export", &file, &[]));
    assert!(outcome.errors.contains("exists; remove it"), "{}", outcome.errors);
    assert_eq!((outcome.code, fs::read_to_string(&file).unwrap().as_str()), (Some(7), "precious"));
    fs::remove_file(&file).unwrap();
    let nobody = fake::nobody().to_string();
    assert_eq!(run(server.client(arguments("export", &file, &[])).env("KVS_ADDR", &nobody)).code, Some(3));
    assert!(!file.exists());
    assert_eq!(server.run(arguments("export", &file, &[])).code, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"key\":\"k\",\"value\":\"v\"}\n");
    assert!(!folder.path().join("all.jsonl.partial").exists());
}

#[test]
fn a_killed_import_goes_on_behind_what_was_noted() {
    const LINES: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.jsonl");
    let note = folder.path().join("keys.jsonl.resume");
    let lines: String = (0..LINES).map(|number| format!("{{\"key\":\"{number}\",\"value\":\"v\"}}\n")).collect();
    fs::write(&file, lines).unwrap();
    // A server so slow that the import lasts a few seconds.
    let (addr, sent) = fake::answer_lines(|_| {
        std::thread::sleep(std::time::Duration::from_micros(100));
        Some(r#"{"ok":null}"#)
    });
    let mut command = support::client(arguments("import", &file, &["--resume"]));
    command.env("KVS_ADDR", addr.to_string()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    until("a note is written", || note.exists().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let noted: serde_json::Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    let noted = usize::try_from(noted["lines"].as_u64().unwrap()).unwrap();
    assert!(noted > 0 && noted < LINES, "{noted}");
    let before: Vec<String> = sent.try_iter().collect();
    assert!(before.len() >= noted, "noted {noted} lines, sent {}", before.len());

    let outcome = run(command.stderr(Stdio::piped()));
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.errors.starts_with(&format!("kvs-client: going on behind line {noted} of ")), "{}", outcome.errors);
    let after: Vec<String> = sent.try_iter().collect();
    let first = format!("{{\"set\":{{\"key\":\"{noted}\",");
    // What the killed one had sent may come first.
    let start = after.iter().position(|line| line.starts_with(&first)).expect("the line behind the note is sent");
    assert_eq!(after.len() - start, LINES - noted, "every line behind the note is sent once");
    assert!(!note.exists(), "what is done needs no note");
}

#[test]
fn a_note_of_a_file_that_has_changed_is_refused() {
    let (server, folder) = server();
    let file = folder.path().join("keys.csv");
    fs::write(&file, "key,value\na,1\nb,2\nbroken\n").unwrap();
    let outcome = server.run(arguments("import", &file, &["--resume"]));
    assert_eq!(outcome.code, Some(7), "{}", outcome.errors);
    assert!(outcome.errors.contains("keys.csv:4: 1 fields; want 2"), "{}", outcome.errors);
    fs::write(&file, "key,value\na,1\nb,2\nc,3\n").unwrap();
    let outcome = server.run(arguments("import", &file, &["--resume"]));
    let line = outcome.assert_fails(7);
    assert!(line.contains("has changed since") && line.contains("keys.csv.resume"), "{line}");
    fs::remove_file(folder.path().join("keys.csv.resume")).unwrap();
    assert_eq!(server.run(arguments("import", &file, &["--resume"])).code, Some(0));
    server.run(["get", "c"]).assert_prints("3\n");
    let outcome = server.run(["import", "-", "--resume"]);
    assert!(outcome.assert_fails(2).contains("not standard input"), "{}", outcome.errors);
}

#[test]
fn a_killed_export_goes_on_and_leaves_nothing_out() {
    let (server, folder) = server();
    let input = folder.path().join("keys.jsonl");
    let line = |number: usize| format!("{{\"key\":\"{number}\",\"value\":\"{}\"}}\n", "x".repeat(1_000));
    fs::write(&input, (0..30_000).map(line).collect::<String>()).unwrap();
    assert_eq!(server.run(arguments("import", &input, &[])).code, Some(0));
    let file = folder.path().join("all.jsonl");
    let note = folder.path().join("all.jsonl.resume");
    let mut command = server.client(arguments("export", &file, &["--resume"]));
    for _ in 0..3 {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        until("a note is written, or all is", || (note.exists() || file.exists()).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    if !file.exists() {
        // What came after the note is cut away.
        let partial = folder.path().join("all.jsonl.partial");
        let written = fs::read_to_string(&partial).unwrap();
        fs::write(&partial, written + "{\"key\":\"behind the note\",\"value\":\"\"}\n").unwrap();
        let outcome = run(command.stderr(Stdio::piped()));
        assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    }
    assert!(sorted(&file) == sorted(&input));
    assert!(!note.exists());
}

/// A server that was started anew does not know the cursors of the one before.
#[test]
fn an_export_whose_cursor_is_gone_begins_anew_or_fails() {
    let server = || {
        let mut scans = 0;
        let answers = fake::answer_lines(move |line| {
            scans += u32::from(line.contains("\"scan\""));
            Some(match (line.contains("\"cursor\""), scans) {
                _ if line.contains("\"count\"") => r#"{"ok":2}"#,
                (true, 2) => r#"{"error":{"code":"invalid_request","message":"no such cursor"}}"#,
                (true, _) => r#"{"ok":{"entries":[{"key":"b","value":"2"}],"cursor":null}}"#,
                (false, _) => r#"{"ok":{"entries":[{"key":"a","value":"1"}],"cursor":"x"}}"#,
            })
        });
        answers.0.to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.jsonl");
    let outcome = run(support::client(arguments("export", &file, &[])).args(["--addr", &server()]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert!(outcome.errors.contains("beginning anew"), "{}", outcome.errors);
    assert_eq!(sorted(&file), [r#"{"key":"a","value":"1"}"#, r#"{"key":"b","value":"2"}"#]);
    // What is in a pipe can't be taken back.
    let outcome = run(&mut support::client(["export", "--addr", &server()]));
    assert_eq!(outcome.code, Some(7), "{}", outcome.errors);
    assert!(outcome.errors.contains("export into a file"), "{}", outcome.errors);
}

/// The lines behind a line that was refused are stored, but another run must come to that line again.
#[test]
fn a_note_never_passes_a_line_that_failed() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    let too_long = "v".repeat(1024 * 1024 + 1);
    let line = |key: &str, value: &str| format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n");
    let lines = [line("a", "1"), line("long", &too_long), line("b", "2"), line("c", "3")].concat();
    fs::write(&file, lines).unwrap();
    let outcome = server.run(arguments("import", &file, &["--resume"]));
    assert_eq!(outcome.code, Some(7), "{}", outcome.errors);
    assert!(outcome.errors.contains("keys.jsonl:2: "), "{}", outcome.errors);
    let note: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("keys.jsonl.resume")).unwrap()).unwrap();
    assert_eq!(note["lines"], 1);
    let again = server.run(arguments("import", &file, &["--resume"]));
    assert!(again.errors.contains("keys.jsonl:2: "), "{}", again.errors);
}
