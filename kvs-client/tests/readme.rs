//! README.md tells the truth: its tour is typed word for word into a shell, and then what it says of looking after a store.
//! Only the port is another, so that nobody's server is in the way, and what Cargo would build is there already.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use support::console::{Example, examples};
use support::{Server, fake, poll, programs};

const README: &str = include_str!("../../README.md");
/// Stands in the shell's output before what a command printed.
const MARK: &str = "next command of the tour";
/// The server ends with the shell, whatever ends that.
const SERVER: &str = "#!/bin/sh\nexec setpriv --pdeathsig KILL \"$PROGRAMS/kvs-server\" \"$@\"\n";

/// A checkout as far as the tour sees it, where Cargo has built everything.
fn checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let release = folder.path().join("target/release");
    fs::create_dir_all(&release).unwrap();
    symlink(programs().join("kvs-client"), release.join("kvs-client")).unwrap();
    let tools = folder.path().join("tools");
    fs::create_dir(&tools).unwrap();
    for (file, text) in [(release.join("kvs-server"), SERVER), (tools.join("cargo"), "#!/bin/sh\n[ \"$1\" = build ]\n")]
    {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// Types lines into a shell that sees nothing of whoever runs the test; what it printed, errors among it.
fn shell(folder: &Path, addr: &str, lines: &str) -> String {
    let script = folder.join("script");
    fs::write(&script, format!("exec 2>&1\n{lines}")).unwrap();
    let printed = folder.join("printed");
    let mut shell = Command::new("bash");
    shell
        .args(["--norc", "script"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&printed).unwrap());
    let path = format!("{}:{}", folder.join("tools").display(), std::env::var("PATH").unwrap());
    shell.env_clear().env("PATH", path).env("PROGRAMS", programs()).env("LC_ALL", "C").env("KVS_ADDR", addr);
    let mut shell = shell.spawn().unwrap();
    let ended = poll(|| shell.try_wait().unwrap());
    let _ = shell.kill();
    let printed = fs::read_to_string(&printed).unwrap();
    assert!(ended.is_some(), "the shell waits for something: {printed}");
    printed
}

/// What a log is called differs from store to store.
fn without_names(text: &str) -> String {
    let quoted: Vec<&str> = text.split('"').collect();
    let is_name = |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    quoted.into_iter().map(|word| if is_name(word) { "name" } else { word }).collect::<Vec<_>>().join("\"")
}

#[test]
fn the_tour_shows_what_it_says_and_the_store_can_be_looked_after() {
    let folder = checkout();
    let addr = fake::nobody();
    let examples = examples(README);
    assert!(examples.len() > 8, "the tour has {} commands", examples.len());
    // A machine with much to do may take longer to start a server than the tour allows.
    let listens = format!("; until (: <>/dev/tcp/127.0.0.1/{}) 2>/dev/null; do sleep 0.1; done", addr.port());
    let typed = |Example { command, .. }: &Example| {
        let wait = if command.contains(" & ") { listens.as_str() } else { "" };
        format!("echo; echo '{MARK}'\n{command}{wait}\n")
    };
    let lines: String = examples.iter().map(typed).collect();
    let lines = lines.replace("127.0.0.1/4000", &format!("127.0.0.1/{}", addr.port()));
    let printed = shell(folder.path(), &addr.to_string(), &format!("{lines}kill %1; wait"));
    let mark = format!("\n{MARK}\n");
    let found: Vec<&str> = printed.split(&mark).skip(1).collect();
    assert_eq!(found.len(), examples.len(), "{printed}");
    for (Example { line, command, printed: wanted }, found) in examples.iter().zip(&found) {
        let wanted: String = wanted.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(without_names(found), without_names(&wanted), "README.md:{line}: {command}");
    }

    let other = Server::start(&folder.path().join("other"));
    let lines = README.split_once("## Looking after a store").unwrap().1;
    let lines = lines.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    assert!(lines.lines().count() >= 7, "{lines}");
    for line in lines.lines() {
        let line = line.replace("other:4000", &other.addr.to_string()).replace(" /backups", " backups");
        let command = format!("set -euo pipefail; PATH=target/release:$PATH\n{line}\necho 'all well'");
        let printed = shell(folder.path(), &addr.to_string(), &command);
        assert!(printed.ends_with("all well\n"), "README.md: {line}\n{printed}");
    }
    other.run(["get", "k"]).assert_prints("v\n");
}
