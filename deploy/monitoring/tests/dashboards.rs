//! Every query of the dashboards and every expression of the rules, asked of a real Prometheus that watches a real server
//! under load and an operator's metrics: a query that answers nothing where it should answer something fails. The same
//! run judges the metrics by promtool, counts series and times scrapes.
//!
//! With `KVS_PICTURES=FOLDER` it draws the dashboards there, after half a minute of load.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube::runtime::{reflector, watcher};
use kvs_load::load::Pace;
use kvs_load::{Group, Wire};
use kvs_monitoring::ask;
use kvs_monitoring::dashboards;
use kvs_monitoring::metrics::all;
use kvs_monitoring::picture;
use kvs_monitoring::prometheus::{Prometheus, tool};
use kvs_monitoring::rules::rule_file;
use kvs_operator::resource::KvsStore;
use serde_json::json;
use support::{Background, Operator, Server, get, say, until};
use tempfile::tempdir;

/// The most series of one server.
const MAX_SERIES: usize = 600;
/// Scrapes that are timed.
const SCRAPES: usize = 100;

/// What promtool says of metrics that a target exports.
fn judge(text: &str) -> String {
    let mut promtool = Command::new(tool("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Some stores of each state.
fn stores() -> reflector::Store<KvsStore> {
    let (reader, mut writer) = reflector::store();
    let states: [(u64, [[&str; 3]; 2]); 4] = [
        (5, [["Available", "True", "MembersAnswer"], ["Ready", "True", "AsAsked"]]),
        (1, [["Available", "False", "Unschedulable"], ["Ready", "False", "Unschedulable"]]),
        (2, [["Available", "True", "MembersAnswer"], ["Paused", "True", "Asked"]]),
        (3, [["Available", "False", "Hibernated"], ["Ready", "False", "Hibernated"]]),
    ];
    for (state, (count, conditions)) in states.iter().enumerate() {
        let conditions = conditions.map(|[kind, status, reason]| {
            let time = "2026-01-01T00:00:00Z";
            json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": time})
        });
        for number in 0..*count {
            let store = json!({
                "apiVersion": "kvs.aryavarth.io/v1alpha1",
                "kind": "KvsStore",
                "metadata": {"name": format!("store-{state}-{number}"), "namespace": "shop"},
                "spec": {},
                "status": {"conditions": conditions},
            });
            writer.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(store).unwrap()));
        }
    }
    reader
}

#[test]
fn every_query_answers_and_the_metrics_are_well_formed_under_load() {
    let folder = tempdir().unwrap();
    let drawn = std::env::var_os("KVS_PICTURES");
    let arguments = [
        "--pool",
        "sharedQueue",
        "--threads",
        "2",
        "--compaction-threshold-bytes",
        "65536",
        "--limits-slow-request-ms",
        "5",
    ];
    let mut server = Server::start("orders", None, None, &arguments);
    server.run();
    let operator = Operator::start();
    operator.metrics.count_stores_of(stores());
    let prometheus = Prometheus::start(folder.path(), &[server.target(), operator.target()], &rule_file(60)).unwrap();

    // Reads, writes that overwrite each other, so that compaction has something to do, and a little of what goes wrong.
    let load = [
        Background::start(server.addr, Wire::JsonLines, vec![Group::gets(4, 4, 2_000).at(Pace::PerSecond(2_000.0))]),
        Background::start(server.addr, Wire::Resp, vec![Group::sets(4, 8, 2_000).at(Pace::PerSecond(1_000.0))]),
    ];
    let wrong =
        "{\"rm\":{\"key\":\"nobody\"}}\n{\"frob\":{}}\n{\"scan\":{\"limit\":10}}\n{\"exists\":{\"key\":\"k\"}}\n";
    let error = kvs_operator::error::Error::TimedOut { action: "a test".into() };
    let work = |begin: Instant, time: Duration| {
        let mut turn = 0_u64;
        while begin.elapsed() < time {
            server.ask(wrong).unwrap();
            operator.metrics.count_reconcile(Duration::from_millis(2 + turn % 7), (turn % 20 == 19).then_some(&error));
            operator.metrics.count_write("StatefulSet", "apply", Ok(()));
            operator.metrics.watch_errors.with_label_values(&["Pod"]).inc();
            turn += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let seconds = if drawn.is_some() { 40 } else { 6 };
    work(Instant::now(), Duration::from_secs(seconds));
    until("a compaction has run", || {
        work(Instant::now(), Duration::from_millis(500));
        let runs = prometheus.api.query("kvs_compaction_runs_total{result=\"ok\"} > 0").unwrap();
        (!runs.is_empty()).then_some(())
    });
    // So that the last scrape has seen it.
    work(Instant::now(), Duration::from_secs(1));

    let asked = ask::everything(&prometheus.api, 60, "5s").unwrap();
    assert!(asked.silent.is_empty(), "nothing is answered to:\n{}", asked.silent.join("\n"));
    for metric in all() {
        let name = if matches!(metric.kind, kvs_protocol::metric::Kind::Histogram { .. }) {
            format!("{}_count", metric.name)
        } else {
            metric.name.to_owned()
        };
        assert!(!prometheus.api.query(&name).unwrap().is_empty(), "{name} was never scraped");
    }

    // Now, while the operator has something to do.
    if let Some(folder) = drawn {
        for dashboard in dashboards::ALL {
            let text = picture::draw(dashboard, &prometheus.api, 30).unwrap();
            std::fs::write(Path::new(&folder).join(format!("{}.svg", dashboard.name)), text).unwrap();
        }
    } else {
        let text = picture::draw(dashboards::ALL[0], &prometheus.api, 5).unwrap();
        assert!(text.matches("<path ").count() > 10 && text.ends_with("</svg>\n"), "{text}");
    }

    let mut took = Vec::new();
    let mut text = String::new();
    for _ in 0..SCRAPES {
        let begin = Instant::now();
        text = get(server.admin_addr, "/metrics").unwrap_or_else(|| panic!("no answer; its log: {}", server.log()));
        took.push(begin.elapsed());
    }
    took.sort();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= MAX_SERIES, "{series} series");
    assert_eq!(judge(&text), "", "of the server's metrics");
    assert_eq!(judge(&get(operator.addr, "/metrics").unwrap()), "", "of the operator's metrics");
    say(&format!(
        "{} queries; {series} series of a server; a scrape under load takes {:.1} ms, p99 {:.1} ms",
        asked.questions,
        took[SCRAPES / 2].as_secs_f64() * 1e3,
        took[SCRAPES * 99 / 100].as_secs_f64() * 1e3
    ));
    drop(load);
}
