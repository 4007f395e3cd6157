//! `kvs-client bench`: what it says is what happened.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Server, fake, run};

fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Server::start(&folder.path().join("data")), folder)
}

fn bench(server: &Server, flags: &str) -> Value {
    let short = "bench --duration 1 --warmup 0 --keys 100 --json ";
    let outcome = server.run(format!("{short}{flags}").split_whitespace());
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    serde_json::from_str(outcome.text()).unwrap()
}

#[test]
fn a_closed_loop_counts_its_answers_and_cleans_up() {
    let (server, _folder) = server();
    server.run(["set", "mine", "1"]).assert_prints("");
    let result = bench(&server, "--connections 4 --pipeline 4 --reads 50");
    let (reads, sets) = (&result["latency_us"]["get"], &result["latency_us"]["set"]);
    let requests = |row: &Value| row["requests"].as_u64().unwrap();
    assert!(requests(reads) > 10 && requests(sets) > 10, "{result}");
    assert_eq!(requests(reads) + requests(sets), result["requests"].as_u64().unwrap());
    assert_eq!((&result["loop"], &result["errors"]), (&"closed".into(), &serde_json::json!({})));
    assert!(sets["p50"].as_f64() <= sets["p99"].as_f64() && sets["p99"].as_f64() <= sets["max"].as_f64(), "{result}");
    server.run(["scan"]).assert_prints("mine\n");
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let (server, _folder) = server();
    let result = bench(&server, "--rate 500 --connections 3 --reads 100 --keep");
    // However busy this machine is: what was due was sent, or is told of.
    assert_eq!(result["requests"].as_u64().unwrap() + result["unsent"].as_u64().unwrap(), 500, "{result}");
    assert!(result["requests"].as_u64().unwrap() > 100, "{result}");
    assert_eq!(result["loop"], "open");
    server.run(["count", "kvs-client/bench/"]).assert_prints("100\n");
}

/// A server that stops for half a second: a closed loop would see one slow answer, users see hundreds.
#[test]
fn an_open_loop_feels_a_stall_as_its_users_do() {
    let mut answered = 0;
    let (addr, _lines) = fake::answer_lines(move |_| {
        answered += 1;
        if answered == 200 {
            std::thread::sleep(Duration::from_millis(500));
        }
        Some(r#"{"ok":null}"#)
    });
    let flags = "bench --duration 2 --warmup 0 --rate 1000 --connections 1 --reads 0 --keep --json --addr";
    let outcome = run(&mut support::client(flags.split_whitespace().chain([addr.to_string().as_str()])));
    let result: Value = serde_json::from_str(outcome.text()).unwrap();
    let latency = |quantile: &str| result["latency_us"]["set"][quantile].as_f64().unwrap();
    // A quarter of all requests came during the stall, on average half a stall before its end.
    assert!(latency("p90") > 200_000.0 && latency("max") > 450_000.0, "{result}");
    let sent = result["requests"].as_u64().unwrap();
    assert_eq!(sent + result["unsent"].as_u64().unwrap(), 2_000, "{result}");
}

#[test]
fn refusals_are_counted_and_a_table_is_for_people() {
    let mut asked = 0;
    let (addr, _lines) = fake::answer_lines(move |_| {
        asked += 1;
        Some(if asked % 2 == 0 { r#"{"ok":null}"# } else { r#"{"error":{"code":"no_space","message":"full"}}"# })
    });
    let addr = addr.to_string();
    // The first request is a ping, which must succeed.
    let _ = run(&mut support::client(["set", "k", "v", "--addr", &addr]));
    let flags = ["bench", "--duration", "1", "--warmup", "0", "--reads", "0", "--connections", "1", "--keep"];
    let outcome = run(support::client(flags).args(["--addr", &addr]));
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let table = outcome.text();
    for words in ["closed loop, 1 under way", "p99.9", "requests failed: no_space", "  set "] {
        assert!(table.contains(words), "{table}");
    }
}

#[test]
fn flags_that_fight_are_refused() {
    let outcome = run(&mut support::client(["bench", "--rate", "10", "--pipeline", "2"]));
    assert!(outcome.assert_fails(2).contains("--pipeline goes with a closed loop"), "{}", outcome.errors);
}
