//! The contract of the command line, case by case, with real processes.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::io::BufRead as _;
use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};
use support::{Process, Wire, command, output, until};
use tempfile::tempdir;

/// Runs the server with arguments that it must refuse; gives the one line that it said.
fn refused(folder: &std::path::Path, arguments: &[&str]) -> String {
    let (code, out, err) = output(command().current_dir(folder).args(arguments));
    assert!(code.is_some_and(|code| code != 0), "{arguments:?}: exit {code:?}");
    assert_eq!(out, "", "{arguments:?}");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 1, "{arguments:?}: {err}");
    lines[0].to_owned()
}

#[test]
fn version_and_help_go_to_standard_output() {
    let expected = format!("kvs-server {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["-V", "--version"] {
        assert_eq!(output(command().arg(flag)), (Some(0), expected.clone(), String::new()));
    }
    let (code, out, err) = output(command().arg("--help"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for flag in ["--addr", "--engine", "--pool", "--threads", "--data-dir", "--sync", "--admin-addr", "--config"] {
        assert!(out.contains(flag), "{flag} is missing in {out}");
    }
}

#[test]
fn wrong_arguments_get_one_clear_line() {
    let here = tempdir().unwrap();
    for (arguments, expected) in [
        (&["--frob"][..], "unexpected argument '--frob' found"),
        (&["stray"], "unrecognized subcommand 'stray'"),
        (&["verfy"], "unrecognized subcommand 'verfy'; tip: a similar subcommand exists: 'verify'; see"),
        (&["--adr=1"], "tip: a similar argument exists: '--addr'; see"),
        (&["--addr"], "a value is required for '--addr <IP:PORT>' but none was supplied"),
        (&["--addr", "localhost"], "invalid value 'localhost' for '--addr <IP:PORT>'"),
        (&["--addr", "127.0.0.1:99999"], "invalid value '127.0.0.1:99999'"),
        (&["--admin-addr", "9090"], "invalid value '9090' for '--admin-addr <IP:PORT>'"),
        (&["--engine", "rocks"], "engine 'rocks' is unknown; use one of: kvs, sled"),
        (&["--engine", "KVS"], "engine 'KVS' is unknown"),
        (&["--pool", "shared"], "use one of: naive, sharedQueue, rayon, inline"),
        (&["--threads", "many"], "invalid value 'many' for '--threads <N>'"),
        (&["--threads", "0"], "threads must be 1 to 1024, not 0"),
        (&["--sync", "never"], "use one of: always, interval, os"),
        (&["--sync", "interval", "--sync-interval-ms", "0"], "sync-interval-ms must be 1 to 60000, not 0"),
        (&["--store", "quickstart"], "store 'quickstart' is not of the form NAMESPACE/NAME"),
        (&["--log-level", "warning"], "log level 'warning' is unknown; use one of: error, warn, info"),
        (&["--log-level", "a=b=c"], "log level 'a=b=c' is no filter"),
        (&["--config", "missing.yaml"], "missing.yaml: No such file or directory"),
    ] {
        let line = refused(here.path(), arguments);
        assert!(line.starts_with("kvs-server: ") && line.contains(expected), "{arguments:?}: {line}");
    }
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn a_wrong_value_is_looked_for_where_it_stands() {
    let here = tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let (code, _, err) = output(command().current_dir(here.path()).args(arguments).env("KVS_ADMIN_ADDR", "9090"));
        assert_eq!(code, Some(2), "{err}");
        err
    };
    assert!(said(&[]).contains("invalid value '9090' in KVS_ADMIN_ADDR: "), "{}", said(&[]));
    let flag = said(&["--admin-addr=9091"]);
    assert!(flag.contains("invalid value '9091' for '--admin-addr <IP:PORT>'"), "{flag}");
}

#[test]
fn a_taken_port_is_named_before_data_is_touched() {
    let here = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--addr", "--admin-addr"] {
        let other = if flag == "--addr" { "--admin-addr" } else { "--addr" };
        let line = refused(here.path(), &[flag, &addr, other, "127.0.0.1:0"]);
        assert!(line.contains(&format!("cannot listen on {addr}")) && line.contains(flag), "{line}");
    }
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn version_engine_and_address_are_logged_at_the_start() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let addr = server.addr.to_string();
    let log = server.stop();
    let line = log.lines().find(|line| line.contains("is listening")).unwrap();
    for word in [env!("CARGO_PKG_VERSION"), "kvs", addr.as_str()] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
    assert!(here.path().join("kvs").is_dir(), "the data lies in ./kvs");
}

#[test]
fn the_default_address_is_loopback_4000() {
    let here = tempdir().unwrap();
    // Held by this test or by somebody else: the server must name it as the one that it can't have.
    let _held = TcpListener::bind("127.0.0.1:4000");
    let line = refused(here.path(), &[]);
    assert!(line.contains("cannot listen on 127.0.0.1:4000"), "{line}");
}

#[test]
fn the_engine_whose_data_lies_here_is_chosen_and_another_is_refused() {
    for (engine, other) in [("kvs", "sled"), ("sled", "kvs")] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &["--engine", engine]);
        let mut client = Wire::connect(server.addr);
        assert_eq!(client.ask(r#"{"set":{"key":"k","value":"of the first engine"}}"#), r#"{"ok":null}"#);
        drop(client);
        server.stop();

        let line = refused(here.path(), &["--addr", "127.0.0.1:0", "--engine", other]);
        assert!(line.contains(&format!("holds data of the {engine} engine, not of {other}")), "{line}");
        assert!(line.contains(&format!("start with --engine {engine}")), "{line}");
        assert!(!here.path().join(other).exists(), "the refusal wrote nothing");

        let server = Process::start(here.path(), &[]);
        assert!(server.log().contains(&format!("\"engine\":\"{engine}\"")), "{}", server.log());
        let mut client = Wire::connect(server.addr);
        assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#), r#"{"ok":"of the first engine"}"#);
    }
}

#[test]
fn a_named_data_folder_works_alike() {
    let here = tempdir().unwrap();
    let folder = here.path().join("deep/in/data");
    let folder = folder.to_str().unwrap();
    Process::start(here.path(), &["--engine", "sled", "--data-dir", folder]).stop();
    let line = refused(here.path(), &["--addr", "127.0.0.1:0", "--engine", "kvs", "--data-dir", folder]);
    assert!(line.contains("start with --engine sled, or choose another --data-dir"), "{line}");
    let log = Process::start(here.path(), &["--data-dir", folder]).stop();
    assert!(log.contains("\"engine\":\"sled\""), "{log}");
    assert!(!here.path().join("kvs").exists() && !here.path().join("sled").exists());
}

#[test]
fn two_servers_never_share_a_folder() {
    let here = tempdir().unwrap();
    let first = Process::start(here.path(), &[]);
    let line = refused(here.path(), &["--addr", "127.0.0.1:0"]);
    let end = line.lines().last().unwrap();
    assert!(end.contains("in use by another process"), "{line}");
    let mut client = Wire::connect(first.addr);
    assert_eq!(client.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#, "the first goes on");
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("kvs.yaml"), "pool: naive\nthreads: 3\nsync: os\naddr: 127.0.0.1:0\n").unwrap();
    let server = Process::spawn(command().current_dir(here.path()).args(["--pool", "rayon"]).envs([
        ("KVS_POOL", "sharedQueue"),
        ("KVS_THREADS", "5"),
        ("KVS_CONFIG", "kvs.yaml"),
    ]));
    let log = server.stop();
    let line = log.lines().find(|line| line.contains("is listening")).unwrap();
    for word in ["\"pool\":\"rayon\"", "\"threads\":5", "\"sync\":\"os\""] {
        assert!(line.contains(word), "{word} is missing in {line}");
    }
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_place() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("kvs.yaml"), "engine: kvs\npoool: rayon\n").unwrap();
    let line = refused(here.path(), &["--config", "kvs.yaml"]);
    assert!(line.contains("kvs.yaml: ") && line.contains("poool") && line.contains("line 2"), "{line}");
    std::fs::write(here.path().join("kvs.yaml"), "threads: 5000\n").unwrap();
    assert!(refused(here.path(), &["--config", "kvs.yaml"]).contains("threads must be 1 to 1024, not 5000"));
}

#[test]
fn a_folder_remembers_its_store_and_refuses_another() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--store", "default/a"]);
    let (_, status) = server.admin("/status");
    server.stop();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["store"], "default/a");

    let cause = here.path().join("cause");
    let arguments = ["--addr", "127.0.0.1:0", "--store", "default/b", "--termination-log", cause.to_str().unwrap()];
    let line = refused(here.path(), &arguments);
    assert!(line.contains("belongs to the store default/a, not to default/b"), "{line}");
    let cause = std::fs::read_to_string(cause).unwrap();
    assert!(cause.starts_with("foreignVolume: ") && cause.lines().count() == 1, "{cause}");

    let server = Process::start(here.path(), &["--store", "default/a"]);
    let (_, again) = server.admin("/status");
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["storeId"], &again["nodeId"]), (&status["storeId"], &status["nodeId"]), "the ids stay");
}

#[test]
fn a_configuration_that_is_refused_still_says_where_its_refusal_goes() {
    let here = tempdir().unwrap();
    let (cause, file) = (here.path().join("cause"), here.path().join("config.yaml"));
    for wrong in ["noSuchSetting: 1", "threads: 0", "addr: [", "engine: rocks"] {
        let _ = std::fs::remove_file(&cause);
        std::fs::write(&file, format!("terminationLog: {}\n{wrong}\n", cause.display())).unwrap();
        let line = refused(here.path(), &["--config", file.to_str().unwrap()]);
        let told = std::fs::read_to_string(&cause).unwrap_or_default();
        assert!(told.starts_with("configuration: ") && told.lines().count() == 1, "{wrong}: {told}, {line}");
    }
}

#[test]
fn damaged_data_is_named_and_not_opened() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let mut client = Wire::connect(server.addr);
    for number in 0..100 {
        client.ask(&format!(r#"{{"set":{{"key":"key-{number}","value":"a value that will be damaged"}}}}"#));
    }
    drop(client);
    server.stop();
    let mut damaged = 0;
    for entry in std::fs::read_dir(here.path().join("kvs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let needle = b"\"key-50\"";
        if let Some(place) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[place + 1] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1, "one file holds the record");
    let cause = here.path().join("cause");
    let line = refused(here.path(), &["--addr", "127.0.0.1:0", "--termination-log", cause.to_str().unwrap()]);
    assert!(line.contains("corruption at byte"), "{line}");
    assert!(std::fs::read_to_string(cause).unwrap().starts_with("corruption: "));
}

#[test]
fn a_server_whose_log_nobody_reads_ends_in_good_order() {
    let here = tempdir().unwrap();
    let mut child = command()
        .current_dir(here.path())
        .args(["--addr", "127.0.0.1:0"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // As with `kvs-server 2>&1 | head -1`: the pipe is gone after the first line.
    let mut line = String::new();
    std::io::BufReader::with_capacity(1, child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("is listening"), "{line}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = until("the server ends", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn both_signals_end_the_server_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &[]);
        server.signal(signal);
        let (status, log) = server.wait();
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains("ended in good order"), "{log}");
    }
}
