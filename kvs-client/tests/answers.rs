//! What commands print in each format, and where values come from.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Outcome, Server, client, run};

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

fn with_input(server: &Server, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut command = server.client(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails early does not read to the end.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    Outcome { code: output.status.code(), output: output.stdout, errors }
}

/// One JSON object a line.
fn objects(outcome: &Outcome) -> Vec<Value> {
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_command_speaks_json() {
    let (server, _folder) = server();
    let json = |arguments: &[&str]| objects(&server.run(arguments.iter().chain(&["-o", "json"])));
    assert_eq!(json(&["set", "k", "v"]), [json!({"key": "k", "set": true})]);
    assert_eq!(json(&["get", "k"]), [json!({"key": "k", "found": true, "value": "v"})]);
    assert_eq!(json(&["get", "nobody"]), [json!({"key": "nobody", "found": false})]);
    assert_eq!(json(&["exists", "k"]), [json!({"key": "k", "exists": true})]);
    assert_eq!(json(&["scan", "--values"]), [json!({"key": "k", "value": "v"})]);
    assert_eq!(json(&["count"]), [json!({"count": 1})]);
    assert_eq!(json(&["batch", "set", "a", "1", "rm", "k"]), [json!({"changes": 2})]);
    assert_eq!(json(&["rm", "a"]), [json!({"key": "a", "removed": true})]);
    assert_eq!(json(&["check"])[0]["ok"], true);
    assert_eq!(json(&["status"])[0]["ok"], true);

    let missing = server.run(["rm", "a", "-o", "json"]);
    let error: Value = serde_json::from_str(missing.assert_fails(1)).unwrap();
    assert_eq!(error, json!({"error": {"code": "key_not_found", "message": "Key not found", "exit": 1}}));
    let absent = server.run(["exists", "a", "-o", "json"]);
    absent.assert_says(1, "{\"exists\":false,\"key\":\"a\"}\n");
}

#[test]
fn bytes_that_are_no_text_are_base64_in_json_and_themselves_in_raw() {
    let (server, folder) = server();
    let file = folder.path().join("value");
    fs::write(&file, [0xff, 0, b'\n']).unwrap();
    let value = format!("@{}", file.display());
    server.run(["set", "k", &value]).assert_prints("");
    assert_eq!(server.run(["get", "k", "-o", "raw"]).output, [0xff, 0, b'\n']);
    assert_eq!(server.run(["get", "k"]).output, [0xff, 0, b'\n', b'\n']);
    let found = objects(&server.run(["get", "k", "-o", "json"]));
    assert_eq!(found, [json!({"key": "k", "found": true, "value64": "/wAK"})]);
    assert_eq!(server.run(["scan", "--values", "-o", "raw"]).output, b"k\0\xff\0\n\0");
    server.run(["scan", "--values"]).assert_prints("k\t\\xff\\u{0}\\n\n");
    // Raw has no word for a missing value: `exists` tells it from an empty one.
    server.run(["get", "nobody", "-o", "raw"]).assert_prints("");
}

#[test]
fn values_come_from_files_and_standard_input() {
    let (server, folder) = server();
    assert_eq!(with_input(&server, &["set", "k", "-"], b"from a pipe\n").code, Some(0));
    server.run(["get", "k"]).assert_prints("from a pipe\n\n");
    let file = folder.path().join("value");
    fs::write(&file, "from a file").unwrap();
    server.run(["set", "k", &format!("@{}", file.display())]).assert_prints("");
    server.run(["get", "k"]).assert_prints("from a file\n");
    for literal in ["-", "@nothing"] {
        server.run(["set", "--literal", "k", literal]).assert_prints("");
        server.run(["get", "k"]).assert_prints(&format!("{literal}\n"));
    }
    let missing = server.run(["set", "k", "@/nonexistent/value"]);
    let line = missing.assert_fails(7);
    assert!(line.contains("cannot read '/nonexistent/value': No such file") && line.contains("--literal"), "{line}");
    let endless = run(server.client(["set", "k", "-"]).stdin(File::open("/dev/zero").unwrap()));
    assert!(endless.assert_fails(7).contains("standard input is larger than 67108864 bytes"), "{}", endless.errors);
}

#[test]
fn watching_shows_what_happens_between_two_looks() {
    let (server, _folder) = server();
    let watching =
        server.client(["status", "--watch", "--count", "2", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    // The first look begins before this, as a rule; some of what is done falls into one of the two seconds.
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_secs(2) {
        server.run(["set", "k", "v"]).assert_prints("");
    }
    let seen = watching.wait_with_output().unwrap();
    let looks: Vec<Value> =
        String::from_utf8(seen.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((seen.status.code(), looks.len()), (Some(0), 2));
    let most =
        |section: &str, field: &str| looks.iter().filter_map(|look| look[section][field].as_f64()).fold(0.0, f64::max);
    assert!(most("requestsPerSecond", "done") > 0.0 && most("latencySeconds", "p99") > 0.0, "{looks:?}");
    assert!(most("log", "writtenBytesPerSecond") > 0.0 && most("log", "syncsPerSecond") > 0.0, "{looks:?}");
    assert_eq!(looks[1]["keys"], 1.0);
    let text = server.run(["status", "--watch", "--count", "1"]);
    let text = text.text();
    assert!(text.lines().count() == 7 && text.contains("  compaction ") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_slow_log_shows_where_the_time_of_each_request_went() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&folder.path().join("data"), &["--limits-slow-request-ms", "1"]);
    // However fast the disk: so large that it takes a millisecond.
    let value = "v".repeat(1_000_000);
    with_input(&server, &["set", "secret-key", "-"], value.as_bytes()).assert_prints("");
    let answer = objects(&server.run(["status", "--slow", "-o", "json"])).remove(0);
    let request = answer["requests"].as_array().unwrap().iter().find(|one| one["op"] == "set").unwrap();
    let times = ["queueUs", "indexUs", "logUs", "syncUs", "answerUs"].map(|part| request[part].as_u64().unwrap());
    let took = request["tookUs"].as_u64().unwrap();
    assert!(took >= 1_000 && times.iter().sum::<u64>().abs_diff(took) <= 5 && times[3] > 0, "{request}");
    let text = server.run(["status", "--slow"]);
    let lines: Vec<&str> = text.text().lines().collect();
    for column in ["took", "queue", "index", "log", "sync", "answer", "request"] {
        assert!(lines[1].contains(column), "{lines:?}");
    }
    assert!(lines[2..].iter().any(|line| line.ends_with(" set ok")), "{lines:?}");
    assert!(!text.text().contains("secret"), "{lines:?}");
}

#[test]
fn exists_answers_by_its_exit_code_too() {
    let (server, _folder) = server();
    server.run(["exists", "k"]).assert_says(1, "false\n");
    server.run(["set", "k", ""]).assert_prints("");
    server.run(["exists", "k"]).assert_prints("true\n");
}

#[test]
fn scan_and_count_see_every_key_once() {
    const KEYS: usize = 2_500;
    let (server, _folder) = server();
    let lines: String = (0..KEYS).map(|number| format!("{{\"key\":\"user/{number}\",\"value\":\"\"}}\n")).collect();
    assert_eq!(with_input(&server, &["import", "-"], lines.as_bytes()).code, Some(0));
    server.run(["set", "other\n", ""]).assert_prints("");
    let found = server.run(["scan", "user/"]);
    let keys: BTreeSet<&str> = found.text().lines().collect();
    assert_eq!((found.text().lines().count(), keys.len()), (KEYS, KEYS));
    assert!(keys.iter().all(|key| key.starts_with("user/")));
    assert_eq!(server.run(["scan", "user/", "--limit", "1200"]).text().lines().count(), 1_200);
    server.run(["scan", "--limit", "0"]).assert_prints("");
    server.run(["scan", "nobody"]).assert_prints("");
    server.run(["scan", "other"]).assert_prints("other\\n\n");
    server.run(["count", "user/"]).assert_prints("2500\n");
    server.run(["count"]).assert_prints("2501\n");
    server.run(["count", "nobody"]).assert_prints("0\n");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let (server, _folder) = server();
    server.run(["batch", "set", "a", "1", "set", "b", "2", "rm", "a"]).assert_prints("");
    server.run(["get", "a"]).assert_prints("Key not found\n");
    server.run(["get", "b"]).assert_prints("2\n");
    let lines = b"{\"set\":{\"key\":\"c\",\"value\":\"3\"}}\n\n{\"rm\":{\"key64\":\"Yg==\"}}\n";
    assert_eq!(with_input(&server, &["batch"], lines).code, Some(0));
    server.run(["scan"]).assert_prints("c\n");
    let wrong =
        with_input(&server, &["batch"], b"{\"set\":{\"key\":\"d\",\"value\":\"4\"}}\n{\"get\":{\"key\":\"c\"}}\n");
    let line = wrong.assert_fails(7);
    assert!(line.contains("standard input:2: want {\"set\"") && line.ends_with("nothing was changed"), "{line}");
    server.run(["exists", "d"]).assert_says(1, "false\n");
    assert!(server.run(["batch", "put", "a", "1"]).assert_fails(2).contains("found 'put'"));
    assert!(server.run(["batch", "set", "a"]).assert_fails(2).contains("no VALUE"));
    // Values come from where those of `set` do.
    assert_eq!(with_input(&server, &["batch", "set", "piped", "-", "set", "-", "1"], b"\x00\xff").code, Some(0));
    assert_eq!(server.run(["get", "piped", "-o", "raw"]).output, b"\x00\xff");
    server.run(["get", "--", "-"]).assert_prints("1\n");
    server.run(["batch", "--literal", "set", "a", "@nobody", "set", "b", "-"]).assert_prints("");
    server.run(["get", "a"]).assert_prints("@nobody\n");
    server.run(["get", "b"]).assert_prints("-\n");
    let twice = server.run(["batch", "set", "a", "-", "set", "b", "-"]);
    assert!(twice.assert_fails(2).contains("only one value"), "{}", twice.errors);
    let missing = server.run(["batch", "rm", "a", "set", "b", "@/nonexistent"]);
    assert!(missing.assert_fails(7).contains("cannot read '/nonexistent'"), "{}", missing.errors);
    server.run(["get", "a"]).assert_prints("@nobody\n");
}

#[test]
fn a_variable_stands_for_each_flag() {
    let (server, _folder) = server();
    run(server.client(["set", "k", "@x"]).env("KVS_SET_LITERAL", "1")).assert_prints("");
    run(server.client(["get", "k"]).env("KVS_OUTPUT", "raw")).assert_prints("@x");
    run(server.client(["scan"]).env("KVS_SCAN_VALUES", "true")).assert_prints("k\t@x\n");
    run(server.client(["scan"]).env("KVS_SCAN_LIMIT", "0")).assert_prints("");
    // A flag wins.
    run(server.client(["get", "k", "-o", "text"]).env("KVS_OUTPUT", "raw")).assert_prints("@x\n");
    let outcome = run(client(["get", "k"]).env("KVS_TIMEOUT", "soon"));
    assert!(outcome.assert_fails(2).contains("soon"), "{}", outcome.errors);
}
