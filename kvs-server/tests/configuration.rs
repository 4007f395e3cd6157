//! The configuration as people meet it: checked, printed, read again while the server runs, and documented.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::path::Path;

use kvs_protocol::config::ServerConfig;
use kvs_server::FIELDS;
use rustix::process::Signal;
use support::certificates::{Authority, Files};
use support::{Process, Wire, command, output, until};
use tempfile::tempdir;

/// Runs `kvs-server config ...`; gives exit code, output and errors.
fn config(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    output(command().current_dir(folder).arg("config").args(arguments))
}

#[test]
fn a_file_is_checked_with_the_files_that_it_names() {
    let here = tempdir().unwrap();
    let authority = Authority::new();
    Files::write(here.path(), &authority, &authority.server());
    std::fs::write(here.path().join("tokens"), "a-token-of-some-length").unwrap();
    let check = |text: &str| {
        std::fs::write(here.path().join("kvs.yaml"), text).unwrap();
        config(here.path(), &["check", "kvs.yaml"])
    };
    let whole = "addr: 0.0.0.0:4000\nauthTokens: tokens\ntls:\n  cert: cert.pem\n  key: key.pem\n  clientCa: ca.pem\n\
        limits:\n  connections: 100\n  idleDeadlineMs: 60000\nlog: {level: debug}\n";
    assert_eq!(check(whole), (Some(0), "kvs.yaml: the server would take this\n".into(), String::new()));
    for (text, expected) in [
        ("poool: rayon\n", "kvs.yaml: unknown field `poool` at line 1 column 1; did you mean `pool`?"),
        ("limits:\n  conections: 3\n", "unknown field `conections` at line 2 column 3; did you mean `connections`?"),
        ("threads: many\n", "at line 1 column 10"),
        ("engine: kvs\nlimits:\n  queueJobs: 0\n", "limits-queue-jobs must be 1 to 1048576, not 0, at line 3 column 3"),
        ("log:\n  level: warning\n", "log level 'warning' is unknown"),
        ("addr: 0.0.0.0:4000\n", "--allow-unauthenticated"),
        ("tls: {cert: cert.pem}\n", "tls-cert and tls-key belong together"),
        ("tls: {cert: cert.pem, key: missing.pem}\n", "tls-key missing.pem: No such file or directory"),
        ("tls: {cert: key.pem, key: key.pem}\n", "tls-cert key.pem: holds no certificate as PEM"),
        ("authTokens: kvs.yaml\n", "auth-tokens kvs.yaml: not understood at line 1"),
        ("a: [\n", "at line"),
        ("no fields at all\n", "at line 1 column 1: a file has lines like"),
    ] {
        let (code, out, error) = check(text);
        assert_eq!((code, out.as_str(), error.lines().count()), (Some(2), "", 1), "{text}: {error}");
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert_eq!(config(here.path(), &["check", "missing.yaml"]).0, Some(2));
}

#[test]
fn what_holds_is_printed_with_where_it_comes_from_and_can_be_read_again() {
    let here = tempdir().unwrap();
    std::fs::write(here.path().join("kvs.yaml"), "pool: naive\nsync: os\nlimits: {queueJobs: 7}\n").unwrap();
    let mut command = command();
    command.current_dir(here.path()).args(["config", "print", "--config", "kvs.yaml", "--pool", "rayon"]);
    let (code, out, error) = output(command.envs([("KVS_POOL", "inline"), ("KVS_THREADS", "5")]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    for line in [
        "addr: 127.0.0.1:4000  # default",
        "pool: rayon  # flag --pool",
        "threads: 5  # variable KVS_THREADS",
        "sync: os  # file kvs.yaml",
        "  queueJobs: 7  # file kvs.yaml",
        "  idleDeadlineMs: 300000  # default",
        "# engine: the engine whose data the folder holds, else kvs",
    ] {
        assert!(out.lines().any(|found| found == line), "{line} is not in {out}");
    }
    let read = ServerConfig::from_yaml(&out).unwrap();
    assert_eq!((read.threads, read.limits.unwrap().queue_jobs), (Some(5), Some(7)));
    assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn a_reload_takes_over_what_can_change_and_names_what_can_not() {
    let here = tempdir().unwrap();
    let file = here.path().join("kvs.yaml");
    std::fs::write(&file, "log: {level: info}\n").unwrap();
    let server = Process::start(here.path(), &["--config", "kvs.yaml"]);
    let mut before = Wire::connect(server.addr);
    assert_eq!(before.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    let mut said = 0;
    let mut reloaded = |text: &str| {
        std::fs::write(&file, text).unwrap();
        server.signal(Signal::HUP);
        said += 1;
        let count = || {
            server.log().lines().filter(|line| line.contains("taken over") || line.contains("go on as before")).count()
        };
        until("the server has read it", || (count() == said).then_some(()));
        server.log().lines().last().unwrap().to_owned()
    };

    let line = reloaded("log: {level: debug}\nlimits: {idleDeadlineMs: 400, inFlightBytes: 70000000}\npool: rayon\n");
    assert!(line.contains("log.level from info to debug") && line.contains("limits.idleDeadlineMs"), "{line}");
    assert!(server.log().contains("pool changed from inline to rayon, which takes a restart: it stays"));
    assert_eq!(server.metric("kvs_in_flight_limit_bytes"), 70_000_000.0);
    // New connections have the new deadline, old ones keep theirs.
    let mut after = Wire::connect(server.addr);
    assert_eq!(after.line(), None, "an idle one is disconnected");
    assert_eq!(before.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);

    for (text, expected) in [
        (
            "log: {level: debug}\npoool: rayon\n",
            "kvs.yaml: unknown field `poool` at line 2 column 1; did you mean `pool`?",
        ),
        (
            "limits:\n  outputBytes: 1\n",
            "kvs.yaml: limits-output-bytes must be 4096 to 1073741824, not 1, at line 2 column 3",
        ),
        ("log: {level: loud}\n", "log level 'loud' is unknown"),
    ] {
        let line = reloaded(text);
        assert!(line.contains(expected), "{line}");
        assert_eq!(server.metric("kvs_config_last_reload_successful"), 0.0);
        assert_eq!(server.metric("kvs_in_flight_limit_bytes"), 70_000_000.0, "the old settings hold");
    }
    reloaded("log: {level: info}\n");
    assert_eq!(server.metric("kvs_config_last_reload_successful"), 1.0);
    assert_eq!(server.metric("kvs_in_flight_limit_bytes"), 67_108_864.0, "what is said no more has its default");
    assert_eq!(before.ask(r#"{"ping":{}}"#), r#"{"ok":"pong"}"#);
    server.stop();
}

#[test]
fn a_file_that_changes_is_read_again_without_a_signal() {
    let here = tempdir().unwrap();
    let file = here.path().join("kvs.yaml");
    std::fs::write(&file, "log: {level: info}\n").unwrap();
    let server = Process::start(here.path(), &["--config", "kvs.yaml"]);
    std::fs::write(&file, "log: {level: debug}\n").unwrap();
    let said = |words: &str| server.log().lines().filter(|line| line.contains(words)).count();
    until("the level is taken over", || (said("log.level from info to debug") == 1).then_some(()));
    std::fs::write(&file, "log: {level: loud}\n").unwrap();
    until("a mistake is told", || (said("log level 'loud' is unknown") == 1).then_some(()));
    std::fs::write(&file, "log: {level: warn}\n").unwrap();
    until("the server goes on reading", || (server.metric("kvs_config_last_reload_successful") == 1.0).then_some(()));
    assert_eq!(said("log level 'loud' is unknown"), 1, "once");
    server.stop();
}

#[test]
fn what_failed_shows_until_it_is_mended_whatever_else_is_taken_over() {
    let here = tempdir().unwrap();
    let (settings, tokens) = (here.path().join("kvs.yaml"), here.path().join("tokens"));
    std::fs::write(&settings, "log: {level: info}\n").unwrap();
    std::fs::write(&tokens, "a-token-of-some-length\n").unwrap();
    let server = Process::start(here.path(), &["--config", "kvs.yaml", "--auth-tokens", "tokens"]);
    let is_well = || server.metric("kvs_config_last_reload_successful") == 1.0;
    let taken = || server.log().matches("taken over: 1 tokens").count();

    std::fs::write(&settings, "log: {level: loud}\n").unwrap();
    server.signal(Signal::HUP);
    until("it shows", || (!is_well()).then_some(()));
    // Tokens are taken over as soon as they change, without a signal.
    let before = taken();
    std::fs::write(&tokens, "another-token-of-some-length\n").unwrap();
    until("the tokens are taken over", || (taken() > before).then_some(()));
    assert!(!is_well(), "the settings are as wrong as before");

    std::fs::write(&settings, "log: {level: info}\n").unwrap();
    server.signal(Signal::HUP);
    until("all is well", || is_well().then_some(()));
    server.stop();
}

#[test]
fn variables_and_the_file_have_the_words_of_the_flags() {
    let here = tempdir().unwrap();
    let variables =
        [("KVS_LIMITS_OUTPUT_BYTES", "8192"), ("KVS_ALLOW_UNAUTHENTICATED", "true"), ("KVS_ADDR", "0.0.0.0:0")];
    let (code, out, error) = output(command().current_dir(here.path()).args(["config", "print"]).envs(variables));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("  outputBytes: 8192  # variable KVS_LIMITS_OUTPUT_BYTES"), "{out}");
    assert!(out.contains("allowUnauthenticated: true  # variable KVS_ALLOW_UNAUTHENTICATED"), "{out}");
    let (code, _, error) = output(command().args(["config", "print"]).env("KVS_LIMITS_OUTPUT_BYTES", "much"));
    assert_eq!(code, Some(2));
    assert!(error.contains("invalid value 'much' in KVS_LIMITS_OUTPUT_BYTES: "), "{error}");
}

#[test]
fn the_document_has_every_word_with_its_default_and_whether_it_reloads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- the table of all fields -->\n", "<!-- end of the table -->\n");
    let (head, rest) = document.split_once(begin).unwrap();
    let (found, tail) = rest.split_once(end).unwrap();
    let mut table = "| in the file | default | SIGHUP | what it means |\n|---|---|---|---|\n".to_owned();
    for field in FIELDS {
        let reloads = if field.reloads { "yes" } else { "restart" };
        table.push_str(&format!("| `{}` | {} | {reloads} | {} |\n", field.path, field.usual, field.meaning));
    }
    if std::env::var_os("KVS_FIX").is_some() {
        std::fs::write(&path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
        return;
    }
    assert_eq!(found, table, "KVS_FIX=1 cargo test -p kvs-server --test configuration rewrites the table");

    // The examples are files that the server takes.
    let here = tempdir().unwrap();
    let block = |language: &str, begin: &str| {
        let fence = format!("```{language}\n");
        let mut blocks = document.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
        blocks.find(|block| block.starts_with(begin)).unwrap_or_else(|| panic!("no block with {begin}"))
    };
    let authority = Authority::new();
    Files::write(here.path(), &authority, &authority.server());
    std::fs::write(here.path().join("tokens.yaml"), block("yaml", "tokens:")).unwrap();
    std::fs::write(here.path().join("kvs.yaml"), block("yaml", "addr:")).unwrap();
    let (code, _, error) = config(here.path(), &["check", "kvs.yaml"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
}
