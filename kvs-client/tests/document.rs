//! docs/client.md tells the truth: each of its examples is run word for word, and nothing of the program is left out.
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::console::{Example, examples, fits};
use support::{Server, client, run};

const DOCUMENT: &str = include_str!("../../docs/client.md");

#[test]
fn every_example_happens_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let here = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_kvs-client")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let examples = examples(DOCUMENT);
    assert!(examples.len() > 30, "{}", examples.len());
    for Example { line, command, printed } in examples {
        let place = format!("docs/client.md:{line}: {command}");
        // Standard error too, in the order of writing.
        let mut shell = Command::new("bash");
        shell.args(["--norc", "-c", &format!("exec 2>&1; {command}")]).current_dir(here.path()).stdin(Stdio::null());
        shell.env_clear().env("PATH", &path).env("LC_ALL", "C").env("KVS_ADDR", server.addr.to_string());
        let output = shell.output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = found.lines().collect();
        let is_same = lines.len() == printed.len() && printed.iter().zip(&lines).all(|(want, found)| fits(want, found));
        assert!(is_same, "{place}\nwant:\n{}\nfound:\n{found}", printed.join("\n"));
    }
}

/// The commands that a help lists, if it lists any.
fn commands(help: &str) -> Vec<&str> {
    let list = help.split_once("Commands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    // A line that goes on is indented further.
    let lines = list.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("  "));
    let words = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").collect()
}

/// Asserts that every flag of a help is documented.
fn check_flags(command: &str, help: &str) {
    for flag in help.lines().filter_map(|line| line.trim_start().split("--").nth(1)) {
        let end = flag.find(|letter: char| !letter.is_ascii_lowercase() && letter != '-').unwrap_or(flag.len());
        let flag = &flag[..end];
        let is_known = matches!(flag, "help" | "version") || DOCUMENT.contains(&format!("--{flag}"));
        assert!(is_known, "--{flag} of {command} is not documented");
    }
}

#[test]
fn every_command_flag_and_exit_code_is_in_the_document() {
    let help = run(&mut client(["--help"]));
    for command in commands(help.text()) {
        let own = run(&mut client([command, "--help"]));
        check_flags(command, own.text());
        for below in commands(own.text()) {
            check_flags(below, run(&mut client([command, below, "--help"])).text());
            assert!(DOCUMENT.contains(&format!("`{below} ")), "{command} {below} is not documented");
        }
        assert!(
            DOCUMENT.contains(&format!("kvs-client {command}")) || DOCUMENT.contains(&format!("`{command}`")),
            "{command} is not documented"
        );
    }
    let codes = help.text().split_once("Exit codes:\n").unwrap().1;
    for code in codes.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(DOCUMENT.contains(&format!("| {code} |")), "exit code {code} is not documented");
    }
}
