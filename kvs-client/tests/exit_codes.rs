//! Every exit code that `--help` lists is reached here, each the way that a user would.
mod support;

use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use support::{Server, client, fake, run, until};

/// A command to end with this code, and a word of what it says.
fn check(code: i32, words: &str, command: &mut Command) {
    let outcome = run(command);
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert!(outcome.errors.contains(words), "{outcome:?}");
}

#[test]
fn every_exit_code_is_reached() {
    let help = run(&mut client(["--help"]));
    let listed = help.text().split_once("Exit codes:\n").unwrap().1;
    let listed: Vec<i32> = listed.lines().map_while(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let nobody = fake::nobody().to_string();
    let refusal = |code: &str| {
        let line = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"words\"}}}}");
        let line: &'static str = line.leak();
        fake::answer_lines(move |_| Some(line)).0.to_string()
    };
    let silent = fake::listen(|stream| {
        loop {
            let _stream = &stream;
            thread::park();
        }
    });

    check(0, "", &mut server.client(["get", "nobody"]));
    check(1, "Key not found", &mut server.client(["rm", "nobody"]));
    check(1, "", &mut server.client(["exists", "nobody"]));
    check(2, "similar subcommand", &mut client(["imprt", "k"]));
    check(3, "cannot connect", &mut client(["get", "k", "--addr", &nobody]));
    check(4, "words", &mut client(["get", "k", "--addr", &refusal("unauthenticated")]));
    check(4, "words", &mut client(["get", "k", "--addr", &refusal("forbidden")]));
    check(5, "within 1 s", &mut client(["get", "k", "--timeout", "1", "--addr", &silent.to_string()]));
    for code in ["no_space", "shutting_down", "poisoned", "internal", "unknown_verb", "of_a_newer_server"] {
        check(6, "words", &mut client(["set", "k", "v", "--addr", &refusal(code)]));
    }
    for code in ["too_large", "invalid_request", "corruption"] {
        check(7, "words", &mut client(["set", "k", "v", "--addr", &refusal(code)]));
    }
    check(7, "cannot read /nonexistent", &mut client(["import", "/nonexistent", "--addr", &nobody]));
    check(8, "kubeconfig", &mut client(["get", "k", "--store", "a/b", "--kubeconfig", "/nonexistent"]));
    assert_eq!(listed, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130], "a code that is listed and not checked here");
}

#[test]
fn an_interrupted_command_says_so() {
    let (sender, accepted) = std::sync::mpsc::channel();
    let addr = fake::listen(move |stream| sender.send(stream).unwrap());
    for arguments in [&["get", "k"][..], &["set", "k", "-"]] {
        let mut command = client(arguments);
        command.args(["--addr", &addr.to_string()]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Kept, so that the client waits for its answer.
        let _stream = (arguments[0] == "get").then(|| until("the client has connected", || accepted.try_recv().ok()));
        let pid = Pid::from_child(&child);
        // Until the handler stands, the signal would end the process by itself: the status shows it.
        until("the handler for Ctrl-C stands", || {
            let caught = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let line = caught.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
            (u64::from_str_radix(&line, 16).unwrap() & 2 != 0).then_some(())
        });
        kill_process(pid, Signal::INT).unwrap();
        let _input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "kvs-client: interrupted\n");
    }
}
