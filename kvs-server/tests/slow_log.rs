//! The slow log says which requests took long and where their time went, and never a key or a value.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

#[path = "../../kvs-engine/tests/support/hooked.rs"]
mod hooked;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hooked::Hooked;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Completion, Error, KvStore, KvsEngine, MemoryEngine, Operation, Options, Page, Result, Scan, Stats};
use kvs_protocol::config::{LimitsConfig, ServerConfig};
use kvs_protocol::names::{EngineName, PoolStrategy};
use kvs_server::{Server, Settings, Stop};
use serde_json::Value;
use support::{Wire, http_get, until};

/// A server over a disk in memory whose syncs take as long as the test says, and whose slow requests take 20 ms.
struct Slow {
    addr: std::net::SocketAddr,
    admin_addr: std::net::SocketAddr,
    /// Of each sync, in milliseconds.
    sync_ms: Arc<AtomicU64>,
    stop: Stop,
}

impl Slow {
    fn start(pool: PoolStrategy, threads: u32) -> Self {
        Self::serve(pool, threads, |server| {
            let sync_ms = Arc::new(AtomicU64::new(0));
            let storage = {
                let sync_ms = Arc::clone(&sync_ms);
                Hooked::new(&MemoryStorage::new(), move |call, file| {
                    if call == "sync" && file.ends_with(".log") {
                        std::thread::sleep(Duration::from_millis(sync_ms.load(Ordering::SeqCst)));
                    }
                    Ok(())
                })
            };
            let options = Options { observer: server.observer(), ..Options::default() };
            (KvStore::open_storage(storage, options).unwrap(), sync_ms)
        })
    }

    fn serve<E: KvsEngine>(
        pool: PoolStrategy,
        threads: u32,
        open: impl FnOnce(&Server) -> (E, Arc<AtomicU64>),
    ) -> Self {
        let free = Some(([127, 0, 0, 1], 0).into());
        let limits = Some(LimitsConfig { slow_request_ms: Some(20), ..LimitsConfig::default() });
        let config = ServerConfig {
            addr: free,
            admin_addr: free,
            pool: Some(pool),
            threads: Some(threads),
            limits,
            ..ServerConfig::default()
        };
        let settings = Settings::from_config(config).unwrap();
        let server = Server::bind(settings, EngineName::Kvs, Path::new("of-a-test")).unwrap();
        let (store, sync_ms) = open(&server);
        let (addr, admin_addr, stop) = (server.addr(), server.admin_addr().unwrap(), Stop::default());
        let asked = stop.clone();
        std::thread::spawn(move || server.serve(store, &asked));
        until("it is ready", || (http_get(admin_addr, "/readyz").0 == 200).then_some(()));
        Self { addr, admin_addr, sync_ms, stop }
    }

    fn slow_log(&self) -> Value {
        let line = Wire::connect(self.addr).ask(r#"{"info":{"section":"slowlog"}}"#);
        serde_json::from_str::<Value>(&line).unwrap()["ok"]["slowlog"].take()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.request();
    }
}

/// One of the times of an entry, in milliseconds.
fn ms(entry: &Value, part: &str) -> f64 {
    entry[part].as_f64().unwrap_or_else(|| panic!("no {part} in {entry}")) / 1e3
}

#[test]
fn a_slow_sync_is_told_as_one_and_quick_requests_are_not_told() {
    let server = Slow::start(PoolStrategy::Inline, 1);
    let mut client = Wire::connect(server.addr);
    for number in 0..50 {
        client.ask(&format!("{{\"set\":{{\"key\":\"quick/{number}\",\"value\":\"v\"}}}}"));
    }
    server.sync_ms.store(60, Ordering::SeqCst);
    client.ask(r#"{"set":{"key":"secret-key","value":"secret-value"},"id":"order-7"}"#);
    server.sync_ms.store(0, Ordering::SeqCst);

    let log = server.slow_log();
    let requests = log["requests"].as_array().unwrap();
    // A machine that is busy with something else makes others slow, too.
    let entry = requests.iter().find(|entry| entry["id"] == "order-7").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((&entry["op"], &entry["outcome"]), (&"set".into(), &"ok".into()));
    assert!(ms(entry, "syncUs") >= 60.0 && ms(entry, "tookUs") >= ms(entry, "syncUs"), "{entry}");
    let parts: f64 = ["queueUs", "indexUs", "logUs", "syncUs", "answerUs"].map(|part| ms(entry, part)).iter().sum();
    assert!((parts - ms(entry, "tookUs")).abs() < 1.0, "the parts are the whole: {entry}");
    assert!(!log.to_string().contains("secret"), "{log}");
    let text = http_get(server.admin_addr, "/metrics").1;
    let counted = format!("\nkvs_slow_requests_total {}\n", log["total"]);
    assert!(text.contains(&counted), "{counted} is not in {text}");
}

#[test]
fn a_client_that_takes_no_answers_is_told_as_waiting_for_itself() {
    let server = Slow::start(PoolStrategy::SharedQueue, 1);
    let mut client = Wire::connect(server.addr);
    client.ask(&format!("{{\"set\":{{\"key\":\"large\",\"value\":\"{}\"}}}}", "v".repeat(1_000_000)));
    // More than what the server and the system hold for a client: the last answers wait for it, and behind them a write.
    let gets: String = (0..40).map(|id| format!("{{\"get\":{{\"key\":\"large\"}},\"id\":{id}}}\n")).collect();
    client.send(format!("{gets}{{\"set\":{{\"key\":\"k\",\"value\":\"v\"}},\"id\":\"behind\"}}\n"));
    let figure = |series: &str| {
        let text = http_get(server.admin_addr, "/metrics").1;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or_else(|| panic!("no {series} in {text}"))
    };
    let mut sent = 0;
    until("nothing moves any more", || {
        let before = std::mem::replace(&mut sent, figure("kvs_network_sent_bytes_total{listener=\"client\"} "));
        std::thread::sleep(Duration::from_millis(50));
        let idle = figure("kvs_pool_busy_workers{pool=\"sharedQueue\"} ") == 0;
        (before > 100_000 && before == sent && idle).then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    (0..41).for_each(|_| drop(client.line().unwrap()));

    let log = server.slow_log();
    let requests = log["requests"].as_array().unwrap();
    // Some were answered, and nobody took them.
    assert!(requests.iter().any(|entry| ms(entry, "answerUs") >= 200.0), "{log}");
    // Whoever waited for room before it was begun has waited in line.
    let behind = requests.iter().find(|entry| entry["id"] == "behind").unwrap_or_else(|| panic!("{log}"));
    assert!(ms(behind, "queueUs") >= 200.0, "{behind}");
    assert_eq!(behind["request"], 42, "{behind}");
}

/// A memory engine that takes as long for one key as the test says.
#[derive(Clone, Default)]
struct Sleepy(MemoryEngine, Arc<AtomicBool>);

impl KvsEngine for Sleepy {
    const NAME: &'static str = "sleepy";

    fn submit(&self, operation: Operation, completion: Completion) {
        if matches!(&operation, Operation::Get { key } if key == b"sleep") {
            while self.1.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.0.submit(operation, completion);
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        self.0.scan(scan)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.0.close()
    }

    fn fatal(&self) -> Option<Error> {
        None
    }
}

#[test]
fn waiting_for_a_worker_and_working_are_told_apart() {
    for pool in [PoolStrategy::SharedQueue, PoolStrategy::Rayon] {
        let sleeps = Arc::new(AtomicBool::new(true));
        let engine = Sleepy(MemoryEngine::default(), Arc::clone(&sleeps));
        let server = Slow::serve(pool, 1, |_| (engine, Arc::default()));
        let (mut working, mut waiting) = (Wire::connect(server.addr), Wire::connect(server.addr));
        working.send("{\"get\":{\"key\":\"sleep\"},\"id\":1}\n");
        until("the worker has it", || {
            let busy = format!("\nkvs_pool_busy_workers{{pool=\"{pool}\"}} 1\n");
            http_get(server.admin_addr, "/metrics").1.contains(&busy).then_some(())
        });
        waiting.send("{\"get\":{\"key\":\"nobody\"},\"id\":2}\n");
        until("the other waits", || {
            let queued = format!("\nkvs_pool_queued_jobs{{pool=\"{pool}\"}} 1\n");
            http_get(server.admin_addr, "/metrics").1.contains(&queued).then_some(())
        });
        std::thread::sleep(Duration::from_millis(80));
        sleeps.store(false, Ordering::SeqCst);
        working.line().unwrap();
        waiting.line().unwrap();
        let log = server.slow_log();
        let requests = log["requests"].as_array().unwrap();
        let entry = |id: u64| requests.iter().find(|entry| entry["id"] == id).unwrap_or_else(|| panic!("{id}: {log}"));
        assert!(ms(entry(1), "indexUs") >= 80.0, "{pool}: {log}");
        assert!(ms(entry(2), "queueUs") >= 80.0 && ms(entry(2), "syncUs") == 0.0, "{pool}: {log}");
    }
}

#[test]
fn the_section_is_bounded_and_apart_from_the_others() {
    let server = Slow::start(PoolStrategy::Inline, 1);
    server.sync_ms.store(25, Ordering::SeqCst);
    let mut client = Wire::connect(server.addr);
    // Each group of requests is slow as a whole.
    let lines: String =
        (0..300).map(|id| format!("{{\"set\":{{\"key\":\"k\",\"value\":\"v\"}},\"id\":{id}}}\n")).collect();
    client.send(lines);
    (0..300).for_each(|_| drop(client.line().unwrap()));
    let log = server.slow_log();
    assert_eq!(log["requests"].as_array().unwrap().len(), 128);
    assert!(log["total"].as_u64().unwrap() >= 128);
    let all: Value = serde_json::from_str(&client.ask(r#"{"info":{}}"#)).unwrap();
    assert!(all["ok"].get("slowlog").is_none(), "{all}");
}
