//! The admin port: health, status and metrics, also while the server is overwhelmed.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::{HashMap, HashSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use kvs_server::catalogue::{self, Kind};
use kvs_server::limits::MAX_ADMIN_CONNECTIONS;
use support::{PATIENCE, Process, Wire, command};
use tempfile::tempdir;

/// The most series of one server.
const MAX_SERIES: usize = 600;

#[test]
fn health_status_and_version_answer_and_nothing_else_does() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--pool", "rayon"]);
    assert_eq!(server.admin("/livez"), (200, "ok\n".into()));
    assert_eq!(server.admin("/readyz"), (200, "ready\n".into()));
    let (code, version) = server.admin("/version");
    assert_eq!(code, 200);
    assert_eq!(version, format!("{{\"name\":\"kvs-server\",\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
    Wire::connect(server.addr).ask(r#"{"set":{"key":"k","value":"v"}}"#);
    let (code, status) = server.admin("/status");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (code, &status["engine"], &status["pool"], &status["keys"]),
        (200, &"kvs".into(), &"rayon".into(), &1.into())
    );
    assert_eq!(server.admin("/status?pretty").0, 200, "a query changes nothing");
    for path in ["/", "/metrics/", "/../livez", "/debug"] {
        assert_eq!(server.admin(path).0, 404, "{path}");
    }
}

#[test]
fn what_is_no_request_ends_its_connection_only() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let addr = server.admin_addr.unwrap();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (bytes, code) in [
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "405"),
        ("DELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"),
        ("not http at all\r\n\r\n", "400"),
        (long.as_str(), "431"),
    ] {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may have enough before the end.
        let _ = stream.write_all(bytes.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{}: {answer}", &bytes[..20.min(bytes.len())]);
    }
    assert_eq!(server.admin("/livez").0, 200);
}

#[test]
fn clients_that_read_nothing_do_not_keep_the_probes_out() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    // More than there are places, each asking for far more than the sockets take.
    let greedy: Vec<TcpStream> = (0..2 * MAX_ADMIN_CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(server.admin_addr.unwrap()).unwrap();
            stream.set_nonblocking(true).unwrap();
            // What the socket takes is enough.
            let _ = stream.write(requests.as_bytes());
            stream
        })
        .collect();
    assert_eq!(server.admin("/livez").0, 200);
    drop(greedy);
}

#[test]
fn without_the_flag_there_is_no_admin_port() {
    let here = tempdir().unwrap();
    let server = Process::spawn(command().current_dir(here.path()).args(["--addr", "127.0.0.1:0"]));
    assert_eq!(server.admin_addr, None);
}

/// Reads the text format strictly: gives the samples of each family, by the name in its TYPE line.
fn families(text: &str) -> HashMap<String, (String, Vec<(String, f64)>)> {
    let mut families: HashMap<String, (String, Vec<(String, f64)>)> = HashMap::new();
    let (mut helped, mut series) = (HashSet::new(), HashSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "no help for {name}");
            name.clone_into(&mut current);
            assert!(families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "{name} comes twice");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&current), "{line} stands under {current}");
            assert!(series.insert(sample.to_owned()), "{sample} comes twice");
            families.get_mut(&current).unwrap().1.push((sample.to_owned(), value.parse().unwrap()));
        }
    }
    assert!(series.len() <= MAX_SERIES, "{} series", series.len());
    families
}

#[test]
fn metrics_are_those_of_the_catalogue_and_well_formed() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--pool", "sharedQueue"]);
    let mut client = Wire::connect(server.addr);
    for line in
        [r#"{"set":{"key":"k","value":"v"}}"#, r#"{"get":{"key":"k"}}"#, r#"{"rm":{"key":"nobody"}}"#, r#"{"frob":{}}"#]
    {
        client.ask(line);
    }
    let (code, text) = server.admin("/metrics");
    assert_eq!(code, 200);
    let families = families(&text);
    for metric in catalogue::ALL {
        let (kind, samples) = families.get(metric.name).unwrap_or_else(|| panic!("{} is missing", metric.name));
        assert!(!samples.is_empty(), "{} has no sample", metric.name);
        let expected = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram { .. } => "histogram",
        };
        assert_eq!(kind, expected, "{}", metric.name);
        metric.check().unwrap();
    }
    let known: HashSet<&str> = catalogue::ALL.iter().map(|metric| metric.name).collect();
    for name in families.keys() {
        assert!(known.contains(name.as_str()) || name.starts_with("process_"), "{name} is not in the catalogue");
    }
    for (series, expected) in [
        (r#"kvs_requests_total{op="set",outcome="ok"}"#, 1.0),
        (r#"kvs_requests_total{op="get",outcome="ok"}"#, 1.0),
        (r#"kvs_requests_total{op="remove",outcome="refused"}"#, 1.0),
        (r#"kvs_requests_total{op="invalid",outcome="refused"}"#, 1.0),
        (r#"kvs_request_errors_total{code="key_not_found"}"#, 1.0),
        (r#"kvs_request_errors_total{code="unknown_verb"}"#, 1.0),
        (r#"kvs_request_errors_total{code="internal"}"#, 0.0),
        (r#"kvs_reads_total{result="hit"}"#, 1.0),
        (r#"kvs_frames_received_total{protocol="json"}"#, 4.0),
        (r#"kvs_request_duration_seconds_count{op="set"}"#, 1.0),
        (r#"kvs_connections{listener="client"}"#, 1.0),
        (
            r#"kvs_pool_workers{pool="sharedQueue"}"#,
            2.0_f64.max(std::thread::available_parallelism().unwrap().get() as f64),
        ),
        (r#"kvs_pool_jobs_total{pool="sharedQueue",result="ok"}"#, 3.0),
        ("kvs_engine_keys", 1.0),
        ("kvs_ready", 1.0),
    ] {
        assert_eq!(server.metric(series), expected, "{series}");
    }
    assert!(server.metric("kvs_wal_fsyncs_total") >= 1.0);
    assert!(server.metric("kvs_wal_fsync_duration_seconds_count") >= 1.0);
    assert!(server.metric("kvs_wal_append_duration_seconds_count") >= 1.0);
    assert!(server.metric("kvs_engine_disk_available_bytes") < server.metric("kvs_engine_disk_capacity_bytes"));
    assert!(server.metric("kvs_engine_open_duration_seconds") > 0.0);
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
}

#[test]
fn compaction_shows_in_the_metrics() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--compaction-threshold-bytes", "65536"]);
    let mut client = Wire::connect(server.addr);
    let value = "x".repeat(100_000);
    support::until("a compaction has run", || {
        for _ in 0..20 {
            client.ask(&format!("{{\"set\":{{\"key\":\"same\",\"value\":\"{value}\"}}}}"));
        }
        (server.metric("kvs_compaction_runs_total{result=\"ok\"}") >= 1.0).then_some(())
    });
    assert!(server.metric("kvs_compaction_reclaimed_bytes_total") > 0.0);
    assert!(server.metric("kvs_compaction_duration_seconds_count") >= 1.0);
    assert_eq!(client.ask(r#"{"get":{"key":"same"}}"#), format!("{{\"ok\":\"{value}\"}}"));
}
