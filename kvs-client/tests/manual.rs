//! Completion scripts are loaded by real shells, and manual pages by a real formatter.
mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{client, run};

/// Every command that `--help` lists.
const COMMANDS: [&str; 18] = [
    "set",
    "get",
    "rm",
    "exists",
    "scan",
    "count",
    "batch",
    "status",
    "check",
    "import",
    "export",
    "backup",
    "bench",
    "repl",
    "kubectl",
    "completion",
    "man",
    "help",
];

/// Fails where a program of Debian's is missing that a test has nothing to say without.
fn need(program: &str) {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "{program} is missing; run tests/bin/tools test, or apt-get install {program}");
}

#[test]
fn each_shell_has_a_script_that_names_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let outcome = run(&mut client(["completion", shell]));
        assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
        for command in COMMANDS {
            assert!(outcome.text().contains(command), "{shell}: {command}");
        }
    }
    run(&mut client(["completion", "nonsense"])).assert_fails(2);
}

#[test]
fn bash_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("completion");
    fs::write(&script, run(&mut client(["completion", "bash"])).output).unwrap();
    let complete = |words: &str, current: usize| {
        let line = format!(
            ". {}; COMP_WORDS=({words}); COMP_CWORD={current}; \
             $(complete -p kvs-client | sed 's/.*-F \\([^ ]*\\).*/\\1/') kvs-client \"${{COMP_WORDS[COMP_CWORD]}}\" ''; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("kvs-client imp", 1), "import\n");
    assert!(complete("kvs-client import --re", 2).contains("--resume"));
    for (shell, arguments) in [("zsh", "-n"), ("fish", "--no-execute")] {
        need(shell);
        let script = folder.path().join(shell);
        fs::write(&script, run(&mut client(["completion", shell])).output).unwrap();
        assert!(Command::new(shell).arg(arguments).arg(&script).status().unwrap().success(), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = run(&mut client(["man"]));
    assert_eq!((page.code, page.errors.as_str()), (Some(0), ""));
    assert!(page.text().contains(".TH kvs-client 1") && page.text().contains("Exit codes"), "{}", page.text());
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    run(client(["man", "--dir"]).arg(&pages)).assert_prints("");
    for command in COMMANDS.iter().filter(|command| **command != "help") {
        let file = pages.join(format!("kvs-client-{command}.1"));
        assert!(file.is_file(), "{}", file.display());
    }
    need("groff");
    for file in fs::read_dir(&pages).unwrap() {
        let file = file.unwrap().path();
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&file).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", file.display());
    }
}
