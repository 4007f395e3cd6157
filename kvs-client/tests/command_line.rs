//! The command-line contract, case by case, with real processes.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Stdio;

use support::fake;
use support::{Server, client, run};

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

#[test]
fn set_get_and_rm_as_the_contract_says() {
    let (server, _folder) = server();
    server.run(["get", "key"]).assert_prints("Key not found\n");
    server.run(["set", "key", "value"]).assert_prints("");
    server.run(["get", "key"]).assert_prints("value\n");
    server.run(["set", "key", "another value"]).assert_prints("");
    server.run(["get", "key"]).assert_prints("another value\n");
    server.run(["rm", "key"]).assert_prints("");
    server.run(["get", "key"]).assert_prints("Key not found\n");
    assert_eq!(server.run(["rm", "key"]).assert_fails(1), "Key not found");
}

#[test]
fn keys_and_values_are_any_bytes_that_an_argument_can_be() {
    let (server, _folder) = server();
    let binary: Vec<u8> = (1..=255).collect();
    let values =
        [b"".to_vec(), b" ".to_vec(), b"two\nlines\n".to_vec(), "\u{1F511}".into(), binary, vec![b'x'; 100_000]];
    for value in values {
        let argument = OsString::from_vec(value.clone());
        server.run(["set".into(), "key".into(), argument.clone()]).assert_prints("");
        let mut printed = value;
        printed.push(b'\n');
        assert!(server.run(["get", "key"]).output == printed);
        if printed.len() < 1_000 {
            server.run(["set".into(), argument.clone(), "under this key".into()]).assert_prints("");
            server.run(["get".into(), argument.clone()]).assert_prints("under this key\n");
            server.run(["rm".into(), argument]).assert_prints("");
        }
    }
    server.run(["set", "--", "--key", "--value"]).assert_prints("");
    server.run(["get", "--", "--key"]).assert_prints("--value\n");
    server.run(["set", "-1", "-2"]).assert_prints("");
    server.run(["get", "-1"]).assert_prints("-2\n");
}

#[test]
fn a_flag_or_a_variable_names_the_server_anywhere_in_the_line() {
    let (server, _folder) = server();
    let addr = server.addr.to_string();
    let host = format!("localhost:{}", server.addr.port());
    run(&mut client(["set", "key", "value", "--addr", &addr])).assert_prints("");
    run(&mut client(["get", "key", "--addr", &addr])).assert_prints("value\n");
    run(&mut client(["--addr", &addr, "get", "key"])).assert_prints("value\n");
    run(&mut client(["get", "--addr", &addr, "key"])).assert_prints("value\n");
    run(&mut client(["get", &format!("--addr={addr}"), "key"])).assert_prints("value\n");
    run(&mut client(["get", "key", "--addr", &host])).assert_prints("value\n");
    server.run(["get", "key"]).assert_prints("value\n");
    let nobody = fake::nobody().to_string();
    server.run(["get", "key", "--addr", &nobody]).assert_fails(3);
}

#[test]
fn wrong_arguments_are_one_line_and_exit_code_2() {
    let lines = [
        "",
        "set",
        "set key",
        "set key value more",
        "get",
        "get key more",
        "rm",
        "rm key more",
        "nonsense",
        "get key --nonsense",
        "check more",
        "import",
        "get key --addr",
        "get key --addr nonsense",
        "get key --addr 127.0.0.1",
        "get key --addr 127.0.0.1:port",
        "get key --addr 127.0.0.1:65536",
        "get key --addr 300.1.1.1:4000",
        "get key --addr :4000",
        "get key --addr http://127.0.0.1:4000",
        "get key --timeout soon",
        "get key --timeout 0",
        "get key --store nonsense",
        "get key --addr 127.0.0.1:1 --store a/b",
        "get key --addr 127.0.0.1:1 --context c",
    ];
    for line in lines {
        let outcome = run(&mut client(line.split_whitespace()));
        assert!(outcome.assert_fails(2).starts_with("kvs-client: "), "{line}: {}", outcome.errors);
    }
    let outcome = run(client(["get", "key"]).env("KVS_ADDR", "nonsense"));
    assert!(outcome.assert_fails(2).contains("KVS_ADDR"), "{}", outcome.errors);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = concat!("kvs-client ", env!("CARGO_PKG_VERSION"), "\n");
    run(&mut client(["-V"])).assert_prints(version);
    run(&mut client(["--version"])).assert_prints(version);
    for line in ["--help", "-h", "help", "get --help", "import -h"] {
        let outcome = run(&mut client(line.split_whitespace()));
        assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""), "{line}");
        assert!(outcome.text().contains("Usage: kvs-client"), "{line}");
    }
    assert!(run(&mut client(["--help"])).text().contains("Exit codes:"));
}

#[test]
fn a_server_that_is_not_there_is_one_line_and_exit_code_3() {
    let nobody = fake::nobody().to_string();
    let commands: [&[&str]; 4] = [&["set", "key", "value"], &["get", "key"], &["rm", "key"], &["check"]];
    for command in commands {
        let outcome = run(client(command).args(["--addr", &nobody]));
        let line = outcome.assert_fails(3);
        assert!(line.contains(&nobody) && line.contains("Connection refused") && line.contains("--addr"), "{line}");
    }
    // Two dots in a row can be in no host's name: nobody is asked on the network.
    let outcome = run(&mut client(["get", "key", "--addr", "no..host:4000"]));
    assert!(outcome.assert_fails(3).contains("no..host:4000"), "{}", outcome.errors);
}

#[test]
fn what_is_no_server_of_ours_is_named_as_such() {
    let (addr, _lines) = fake::answer_lines(|_| Some("HTTP/1.1 400 Bad Request"));
    let outcome = run(&mut client(["get", "key", "--addr", &addr.to_string()]));
    assert!(outcome.assert_fails(3).contains("no Aryavarth KVS server"), "{}", outcome.errors);

    let (addr, _lines) = fake::answer_lines(|_| Some("{\"ok\":true}"));
    let outcome = run(&mut client(["get", "key", "--addr", &addr.to_string()]));
    assert!(outcome.assert_fails(3).contains("no Aryavarth KVS server"), "{}", outcome.errors);
}

#[test]
fn a_connection_that_breaks_says_what_is_not_known() {
    let (addr, lines) = fake::answer_lines(|_| None);
    let addr = addr.to_string();
    let outcome = run(&mut client(["set", "key", "value", "--addr", &addr]));
    assert!(outcome.assert_fails(3).ends_with("try again"), "{}", outcome.errors);
    let outcome = run(&mut client(["rm", "key", "--addr", &addr]));
    assert!(outcome.assert_fails(3).contains("whether the key was removed is not known"), "{}", outcome.errors);
    assert_eq!(lines.try_iter().count(), 2, "at a plain address nothing is sent twice");
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_forever() {
    let mut kept = Vec::new();
    let addr = fake::listen(move |stream| kept.push(stream));
    let outcome = run(&mut client(["get", "key", "--timeout", "1", "--addr", &addr.to_string()]));
    assert!(outcome.assert_fails(5).contains("within 1 s"), "{}", outcome.errors);
}

#[test]
fn a_busy_server_is_asked_again_and_other_refusals_are_reported() {
    let mut asked = 0;
    let (addr, lines) = fake::answer_lines(move |_| {
        asked += 1;
        Some(if asked < 3 { r#"{"error":{"code":"busy","message":"too much to do"}}"# } else { r#"{"ok":null}"# })
    });
    run(&mut client(["rm", "key", "--addr", &addr.to_string()])).assert_prints("");
    assert_eq!(lines.try_iter().count(), 3, "what was refused was not done, so that even rm can be sent again");

    let (addr, lines) = fake::answer_lines(|_| Some(r#"{"error":{"code":"no_space","message":"the disk is full"}}"#));
    let outcome = run(&mut client(["set", "key", "value", "--addr", &addr.to_string()]));
    let line = outcome.assert_fails(6);
    assert!(line.contains("the disk is full") && line.contains("no_space"), "{line}");
    assert_eq!(lines.try_iter().count(), 1);
}

#[test]
fn a_last_attempt_without_an_answer_does_not_hide_what_is_known() {
    for (command, code, words) in [("get", 6, "too much to do"), ("rm", 5, "whether the key was removed is not known")]
    {
        let mut asked = 0;
        let (addr, _lines) = fake::answer_lines(move |_| {
            asked += 1;
            if asked > 1 {
                loop {
                    std::thread::park();
                }
            }
            Some(r#"{"error":{"code":"busy","message":"too much to do"}}"#)
        });
        let outcome = run(&mut client([command, "key", "--timeout", "4", "--addr", &addr.to_string()]));
        let line = outcome.assert_fails(code);
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn a_key_over_the_limit_is_refused_by_name() {
    let (server, _folder) = server();
    let outcome = server.run(["set", &"k".repeat(65_537), "value"]);
    let line = outcome.assert_fails(7);
    assert!(line.contains("key of 65537 bytes") && line.contains("65536"), "{line}");
    server.run(["set", &"k".repeat(65_536), "value"]).assert_prints("");
}

#[test]
fn check_proves_that_a_server_takes_and_gives_back() {
    let (server, _folder) = server();
    let outcome = server.run(["check"]);
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    let verdict = outcome.text();
    assert!(verdict.starts_with(&format!("ok: {} set, read, compared and removed", server.addr)), "{verdict}");
    assert_eq!(verdict.lines().count(), 1);
}

#[test]
fn check_finds_a_server_that_forgets_or_changes() {
    let (addr, lines) = fake::answer_lines(|_| Some(r#"{"ok":null}"#));
    let outcome = run(&mut client(["check", "--addr", &addr.to_string()]));
    assert!(outcome.assert_fails(7).contains("another value"), "{}", outcome.errors);
    let verbs: Vec<String> = lines.try_iter().map(|line| line[2..4].to_owned()).collect();
    assert_eq!(verbs, ["se", "ge", "rm"], "the key is removed even when the comparison fails");

    let (addr, _lines) = fake::answer_lines(|line| {
        Some(if line.starts_with("{\"get") { r#"{"ok":"something else"}"# } else { r#"{"ok":null}"# })
    });
    let outcome = run(&mut client(["check", "--addr", &addr.to_string()]));
    assert!(outcome.assert_fails(7).contains("another value"), "{}", outcome.errors);
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (server, _folder) = server();
    server.run(["set", "key", &"x".repeat(100_000)]).assert_prints("");
    let mut child = server.client(["get", "key"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
