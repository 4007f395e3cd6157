//! What a person at a terminal sees: the prompt, the progress bar, and nothing that a server or a value could do to the
//! terminal.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::fs;

use support::terminal::Terminal;
use support::{Server, client, fake, run};

/// What the prompt sends before it reads a line: pasted text is to be told from typed text.
const BEGIN_EDITING: &str = "\u{1b}[?2004h";

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

#[test]
fn a_prompt_runs_lines_completes_keys_and_keeps_its_history() {
    let (server, folder) = server();
    let history = folder.path().join("state/history");
    server.run(["set", "user/alice", "1"]).assert_prints("");
    let mut terminal = Terminal::start(server.client(["repl", "--history"]).arg(&history));
    terminal.wait_for("Ctrl-D ends", 1);
    terminal.wait_for("> ", 1);
    terminal.press("set greeting 'hello world'\r");
    terminal.press("get greeting\r");
    terminal.wait_for("hello world\r\n", 1);
    terminal.press("get us\t");
    terminal.wait_for("get user/alice", 1);
    terminal.press("\r");
    terminal.wait_for("1\r\n", 1);
    terminal.press("rm nobody\r");
    terminal.wait_for("Key not found", 1);
    terminal.press("nonsense\r");
    terminal.wait_for("unrecognized subcommand 'nonsense'", 1);
    // A secret is typed behind a space; Ctrl-C forgets a line; the arrow brings the last one back.
    terminal.press(" set secret canary\r");
    // Not before the editor reads: only then is Ctrl-C a key.
    terminal.wait_for(BEGIN_EDITING, 7);
    terminal.press("half a line\u{3}");
    terminal.wait_for(BEGIN_EDITING, 8);
    terminal.press("count\r");
    terminal.wait_for("3\r\n", 1);
    // Nor is Ctrl-D one before.
    terminal.wait_for(BEGIN_EDITING, 9);
    terminal.press("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
    let kept = fs::read_to_string(&history).unwrap();
    assert!(kept.contains("set greeting 'hello world'") && !kept.contains("canary"), "{kept}");

    let mut terminal = Terminal::start(server.client(["repl", "--history"]).arg(&history));
    terminal.wait_for("> ", 1);
    terminal.press("\u{1b}[A");
    terminal.wait_for("count", 1);
    terminal.press("\rquit\r");
    terminal.wait_for("3\r\n", 1);
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
}

#[test]
fn a_person_without_a_command_gets_a_prompt() {
    let (server, folder) = server();
    let none: [&str; 0] = [];
    let mut terminal = Terminal::start(server.client(none).env("XDG_STATE_HOME", folder.path()));
    terminal.wait_for("Ctrl-D ends", 1);
    terminal.wait_for("> ", 1);
    terminal.press("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
}

#[test]
fn a_prompt_that_reaches_nobody_says_so_at_once() {
    let nobody = fake::nobody().to_string();
    let mut terminal = Terminal::start(&mut client(["repl", "--addr", &nobody]));
    assert_eq!(terminal.wait().code(), Some(3));
    terminal.wait_for("cannot connect to", 1);
}

#[test]
fn lines_of_a_pipe_are_run_without_a_prompt() {
    let (server, folder) = server();
    let lines = folder.path().join("lines");
    fs::write(&lines, "set a 'two words'\nget a\n\nrm nobody\nexists a\nquit\nset b 1\n").unwrap();
    let outcome = run(server.client(["repl"]).stdin(fs::File::open(&lines).unwrap()));
    assert_eq!((outcome.code, outcome.text()), (Some(1), "two words\ntrue\n"), "{}", outcome.errors);
    assert_eq!(outcome.errors, "Key not found\n");
    server.run(["exists", "b"]).assert_says(1, "false\n");
}

#[test]
fn an_import_shows_a_bar() {
    let (server, folder) = server();
    let file = folder.path().join("keys.jsonl");
    let line = |number: usize| format!("{{\"key\":\"{number}\",\"value\":\"{}\"}}\n", "x".repeat(4_000));
    fs::write(&file, (0..8_000).map(line).collect::<String>()).unwrap();
    let mut terminal = Terminal::start(server.client(["import"]).arg(&file));
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
    terminal.wait_for("imported 8000 keys in ", 1);
    let seen = terminal.seen();
    let bars: Vec<&str> = seen.split("\r\u{1b}[K").filter(|line| line.contains(" % [")).collect();
    assert!(!bars.is_empty(), "{seen:?}");
    for bar in bars {
        assert!(bar.contains("/s, ") && bar.ends_with(" left") && bar.len() <= 80, "{bar:?}");
    }
}

/// A look that wraps, or of whose rows one stays, would push the others up the screen.
#[test]
fn a_look_takes_the_place_of_the_one_before() {
    let (server, _folder) = server();
    let mut terminal =
        Terminal::start(&mut server.client(["bench", "--duration", "4", "--warmup", "0", "--keep", "--json"]));
    let mut watch = Terminal::start(&mut server.client(["status", "--watch", "--count", "3"]));
    assert_eq!(watch.wait().code(), Some(0), "{}", watch.seen());
    watch.wait_for("backlog", 3);
    let rows = watch.rows();
    let rows: Vec<&str> = rows.iter().map(|row| row.trim_end()).filter(|row| !row.is_empty()).collect();
    let words: Vec<&str> = rows.iter().map(|row| row.split_whitespace().next().unwrap()).collect();
    assert_eq!(words[1..], ["requests", "latency", "pool", "log", "files", "compaction"], "{rows:#?}");
    assert!(rows[0].contains(" UTC  127.0.0.1:") && rows[0].ends_with(" keys"), "{rows:#?}");
    let done: f64 = rows[1].split_whitespace().nth(1).unwrap().trim_end_matches("/s").parse().unwrap();
    assert!(done > 0.0, "the benchmark is under way: {rows:#?}");
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
}

#[test]
fn a_benchmark_shows_a_line_that_goes_when_it_is_done() {
    let (server, _folder) = server();
    let mut terminal = Terminal::start(&mut server.client(["bench", "--duration", "3", "--warmup", "0"]));
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.seen());
    terminal.wait_for("(latency in ms)", 1);
    let seen = terminal.seen();
    let lines: Vec<&str> = seen.split("\r\u{1b}[K").collect();
    let live = lines.iter().filter(|line| line.contains("/s") && !line.contains('\n')).count();
    assert!(live >= 1, "{seen:?}");
    assert!(terminal.rows()[0].starts_with("127.0.0.1:"), "{:#?}", terminal.rows());
}

#[test]
fn a_value_can_not_command_the_terminal() {
    let (server, _folder) = server();
    server.run(["set", "key", "\u{1b}]0;owned\u{7}\u{202e}"]).assert_prints("");
    let mut terminal = Terminal::start(&mut server.client(["get", "key"]));
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.wait_for("-o raw", 1);
    let seen = terminal.seen();
    assert!(seen.contains("\\u{1b}]0;owned\\u{7}\\u{202e}") && !seen.contains('\u{1b}'), "{seen:?}");
    let mut terminal = Terminal::start(&mut server.client(["get", "key", "-o", "json"]));
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(!terminal.seen().contains(['\u{1b}', '\u{202e}']), "{:?}", terminal.seen());
    // A program gets the bytes.
    server.run(["get", "key"]).assert_prints("\u{1b}]0;owned\u{7}\u{202e}\n");
}

#[test]
fn a_server_can_not_command_the_terminal() {
    const HOSTILE: &str = "\\u001b]0;owned\\u0007\\r\\nkvs-client: all is well\\u202e\\u009b31m";
    for code in ["no_space", "busy", "key_too_odd\\u001b[2J"] {
        let line = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{HOSTILE}\"}}}}");
        let line: &'static str = line.leak();
        let (addr, _lines) = fake::answer_lines(move |_| Some(line));
        for format in ["text", "json"] {
            let outcome =
                run(&mut client(["set", "k", "v", "--timeout", "1", "-o", format, "--addr", &addr.to_string()]));
            let said = outcome.assert_fails(6);
            let harmful = |character: char| character.is_control() || character == '\u{202e}';
            assert!(!said.contains(harmful) && said.contains("owned"), "{said:?}");
        }
    }
    // What is no answer at all is shown no further.
    let (addr, _lines) = fake::answer_lines(|_| Some("\u{1b}]0;owned\u{7}"));
    let outcome = run(&mut client(["get", "k", "--addr", &addr.to_string()]));
    assert!(!outcome.assert_fails(3).contains('\u{1b}'), "{:?}", outcome.errors);
}
