//! What the server does when the engine or a job fails, with engines made to fail.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

#[path = "../../kvs-engine/tests/support/hooked.rs"]
mod hooked;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hooked::Hooked;
use kvs_engine::storage::MemoryStorage;
use kvs_engine::{Completion, Error, KvStore, KvsEngine, MemoryEngine, Operation, Options, Page, Result, Scan, Stats};
use kvs_protocol::ErrorCode;
use kvs_protocol::config::ServerConfig;
use kvs_protocol::names::PoolStrategy;
use kvs_server::ServerError;
use support::document::assert_documented;
use support::{Embedded, Wire, code_of, http_get, say, until};

type Held = Vec<(Operation, Completion)>;

/// A memory engine with switches.
#[derive(Clone, Default)]
struct Switched {
    memory: MemoryEngine,
    poisoned: Arc<AtomicBool>,
    /// Completions of sets wait here while it is `Some`.
    held: Arc<Mutex<Option<Held>>>,
}

impl Switched {
    fn holding() -> Self {
        Self { held: Arc::new(Mutex::new(Some(Vec::new()))), ..Self::default() }
    }

    fn held(&self) -> usize {
        self.held.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    /// Does what was held back, the last first, and holds nothing any more.
    fn release_backwards(&self) {
        let held = self.held.lock().unwrap().take().unwrap();
        for (operation, completion) in held.into_iter().rev() {
            self.memory.submit(operation, completion);
        }
    }

    fn poison() -> Error {
        Error::Poisoned { reason: "a test pulled the disk".into() }
    }
}

impl KvsEngine for Switched {
    const NAME: &'static str = "switched";

    fn submit(&self, operation: Operation, completion: Completion) {
        let is_set = matches!(operation, Operation::Set { .. });
        if let Operation::Set { key, .. } = &operation {
            assert!(key != b"panic", "a panic that a test wants");
            if key == b"poison" {
                self.poisoned.store(true, Ordering::SeqCst);
            }
        }
        if self.poisoned.load(Ordering::SeqCst) && is_set {
            return completion.complete(Err(Self::poison()));
        }
        if is_set && let Some(held) = self.held.lock().unwrap().as_mut() {
            return held.push((operation, completion));
        }
        self.memory.submit(operation, completion);
    }

    fn scan(&self, scan: &Scan) -> Result<Page> {
        self.memory.scan(scan)
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.memory.close()
    }

    fn fatal(&self) -> Option<Error> {
        self.poisoned.load(Ordering::SeqCst).then(Self::poison)
    }
}

#[test]
fn a_poisoned_engine_is_answered_and_ends_the_server_within_a_second() {
    for strategy in PoolStrategy::ALL {
        let server = Embedded::start(Switched::default(), *strategy);
        let mut client = Wire::connect(server.addr);
        let _idle = Wire::connect(server.addr);
        let began = Instant::now();
        assert_documented(&client.ask(r#"{"set":{"key":"poison","value":"v"}}"#), ErrorCode::Poisoned);
        let error = server.wait().unwrap_err();
        let took = began.elapsed();
        assert!(matches!(error, ServerError::Engine(Error::Poisoned { .. })), "{strategy}: {error}");
        assert!(error.to_string().contains("a test pulled the disk"), "{error}");
        say(&format!("{strategy}: a poisoned server ended after {} ms", took.as_millis()));
        // Twice what is promised, for a machine that has other work.
        assert!(took < Duration::from_secs(2), "{strategy}: {took:?}");
    }
}

#[test]
fn a_failure_that_no_request_meets_ends_the_server_too() {
    let engine = Switched::default();
    let server = Embedded::start(engine.clone(), PoolStrategy::Inline);
    engine.poisoned.store(true, Ordering::SeqCst);
    assert!(matches!(server.wait(), Err(ServerError::Engine(Error::Poisoned { .. }))));
}

#[test]
fn a_panic_costs_its_request_a_typed_error_and_nothing_else() {
    for strategy in PoolStrategy::ALL {
        let server = Embedded::start(Switched::default(), *strategy);
        let mut client = Wire::connect(server.addr);
        client.send(
            "{\"set\":{\"key\":\"a\",\"value\":\"1\"}}\n{\"set\":{\"key\":\"panic\",\"value\":\"v\"},\"id\":2}\n\
             {\"get\":{\"key\":\"a\"}}\n",
        );
        assert_eq!(client.line().unwrap(), r#"{"ok":null}"#, "{strategy}");
        let line = client.line().unwrap();
        assert_documented(&line, ErrorCode::Internal);
        assert!(line.ends_with(",\"id\":2}"), "{strategy}: {line}");
        assert_eq!(client.line().unwrap(), r#"{"ok":"1"}"#, "{strategy}: what came after it is done");
        // The job is counted after its answers are on their way.
        let panicked = format!("kvs_pool_jobs_total{{pool=\"{strategy}\",result=\"panicked\"}} 1");
        until("the panic is counted", || http_get(server.admin_addr, "/metrics").1.contains(&panicked).then_some(()));
        server.stop().unwrap();
    }
}

#[test]
fn a_panic_that_may_cost_data_ends_the_server() {
    for strategy in PoolStrategy::ALL {
        let disk = MemoryStorage::new();
        let armed = Arc::new(AtomicBool::new(false));
        let storage = {
            let armed = Arc::clone(&armed);
            Hooked::new(&disk, move |call, file| {
                let hit = call == "sync" && file.ends_with(".log") && armed.load(Ordering::SeqCst);
                assert!(!hit, "a panic that a test wants");
                Ok(())
            })
        };
        let store = KvStore::open_storage(storage, Options::default()).unwrap();
        let server = Embedded::start(store, *strategy);
        let mut client = Wire::connect(server.addr);
        assert_eq!(client.ask(r#"{"set":{"key":"before","value":"kept"}}"#), r#"{"ok":null}"#);
        armed.store(true, Ordering::SeqCst);
        client.send("{\"set\":{\"key\":\"k\",\"value\":\"v\"}}\n");
        // A typed error, or a connection that closed; never a word that it is stored.
        if let Some(line) = client.line() {
            let code = code_of(&line);
            assert!(["poisoned", "internal"].contains(&code.as_str()), "{strategy}: {line}");
        }
        let error = server.wait().unwrap_err();
        assert!(matches!(error, ServerError::Engine(Error::Poisoned { .. })), "{strategy}: {error}");
    }
}

/// However few workers a strategy has, how many writes share a sync is decided by how many clients wait for one.
#[test]
fn the_writes_of_many_connections_share_syncs_under_every_strategy() {
    const CLIENTS: u64 = 64;
    const SETS: u64 = 10;
    for strategy in PoolStrategy::ALL {
        let syncs = Arc::new(AtomicU64::new(0));
        let storage = {
            let syncs = Arc::clone(&syncs);
            Hooked::new(&MemoryStorage::new(), move |call, file| {
                if call == "sync" && file.ends_with(".log") {
                    syncs.fetch_add(1, Ordering::SeqCst);
                    // As long as a slow disk takes, so that all others can ask meanwhile.
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            })
        };
        let server = Embedded::start(KvStore::open_storage(storage, Options::default()).unwrap(), *strategy);
        let before = syncs.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut wire = Wire::connect(server.addr);
                scope.spawn(move || {
                    for number in 0..SETS {
                        let set = format!("{{\"set\":{{\"key\":\"{client}/{number}\",\"value\":\"v\"}}}}");
                        assert_eq!(wire.ask(&set), r#"{"ok":null}"#);
                    }
                });
            }
        });
        let took = syncs.load(Ordering::SeqCst) - before;
        let shared = (CLIENTS * SETS) / took.max(1);
        say(&format!("{strategy}: {} sets of {CLIENTS} clients took {took} syncs, {shared} a sync", CLIENTS * SETS));
        // Two workers that waited for their syncs would have two in each.
        assert!(shared >= CLIENTS / 4, "{strategy}: {shared} sets share a sync");
        server.stop().unwrap();
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests_whatever_the_engine_does() {
    for strategy in PoolStrategy::ALL {
        let engine = Switched::holding();
        let server = Embedded::start(engine.clone(), *strategy);
        let mut client = Wire::connect(server.addr);
        // Even requests are held back and answered backwards, odd ones are answered at once.
        let lines: String = (0..200)
            .map(|id| match id % 2 {
                0 => format!("{{\"set\":{{\"key\":\"k\",\"value\":\"v\"}},\"id\":{id}}}\n"),
                _ => format!("{{\"get\":{{\"key\":\"nobody\"}},\"id\":{id}}}\n"),
            })
            .collect();
        client.send(lines);
        until("the engine has them all", || (engine.held() == 100).then_some(()));
        // The pool holds nothing while the answers are awaited: another client is served by one of its two workers.
        for _ in 0..10 {
            assert_eq!(Wire::connect(server.addr).ask(r#"{"get":{"key":"nobody"}}"#), r#"{"ok":null}"#);
        }
        engine.release_backwards();
        for id in 0..200 {
            assert_eq!(client.line().unwrap(), format!("{{\"ok\":null,\"id\":{id}}}"), "{strategy}");
        }
        server.stop().unwrap();
    }
}

#[test]
fn the_end_waits_for_answers_that_are_on_their_way() {
    let engine = Switched::holding();
    let server = Embedded::start(engine.clone(), PoolStrategy::SharedQueue);
    let mut client = Wire::connect(server.addr);
    client.send("{\"set\":{\"key\":\"k\",\"value\":\"v\"}}\n".repeat(50));
    until("the engine has them all", || (engine.held() == 50).then_some(()));
    let admin = server.admin_addr;
    let stopping = std::thread::spawn(move || server.stop());
    until("the server is not ready", || (http_get(admin, "/readyz") == (503, "draining\n".into())).then_some(()));
    assert_eq!(http_get(admin, "/livez").0, 200, "it lives all the same");
    engine.release_backwards();
    for _ in 0..50 {
        assert_eq!(client.line().unwrap(), r#"{"ok":null}"#);
    }
    assert_eq!(client.line(), None);
    stopping.join().unwrap().unwrap();
}

#[test]
fn a_full_disk_is_named_and_reads_go_on() {
    let disk = MemoryStorage::new();
    let server = Embedded::start(
        KvStore::open_storage(Arc::new(disk.clone()), Options::default()).unwrap(),
        PoolStrategy::Inline,
    );
    let mut client = Wire::connect(server.addr);
    disk.set_capacity(Some(64 * 1024 * 1024));
    let value = "x".repeat(500_000);
    let refusal = (0..1_000).find_map(|number| {
        let answer = client.ask(&format!("{{\"set\":{{\"key\":\"{number}\",\"value\":\"{value}\"}}}}"));
        (answer != r#"{"ok":null}"#).then_some(answer)
    });
    assert_documented(&refusal.expect("the disk becomes full"), ErrorCode::NoSpace);
    assert_eq!(client.ask(r#"{"length":{"key":"0"}}"#), r#"{"ok":500000}"#);
    drop(client);
    server.stop().unwrap();
}

#[test]
fn a_damaged_record_is_named_and_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Embedded::start(KvStore::open(folder.path()).unwrap(), PoolStrategy::Inline);
    let mut client = Wire::connect(server.addr);
    for key in ["sound", "damaged"] {
        assert_eq!(client.ask(&format!("{{\"set\":{{\"key\":\"{key}\",\"value\":\"v-{key}\"}}}}")), r#"{"ok":null}"#);
    }
    let path = folder.path().join("00000001.log");
    let bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(9).position(|window| window == b"v-damaged").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"w", place as u64).unwrap();
    assert_documented(&client.ask(r#"{"get":{"key":"damaged"}}"#), ErrorCode::Corruption);
    assert_eq!(client.ask(r#"{"get":{"key":"sound"}}"#), r#"{"ok":"v-sound"}"#);
    drop(client);
    // What it says of its end is not what is tested here.
    let _ = server.stop();
}

#[test]
fn a_store_that_is_closing_is_named() {
    let engine = MemoryEngine::new();
    let server = Embedded::start(engine.clone(), PoolStrategy::Inline);
    engine.close().unwrap();
    let answer = Wire::connect(server.addr).ask(r#"{"set":{"key":"k","value":"v"}}"#);
    assert_documented(&answer, ErrorCode::ShuttingDown);
    let _ = server.stop();
}

#[test]
fn a_full_pool_answers_busy_in_the_end_and_the_connection_goes_on() {
    // Gets block the one worker while the gate is shut; the queue holds 4,096 jobs, one a connection.
    #[derive(Clone)]
    struct Gated(MemoryEngine, Arc<Mutex<()>>);
    impl KvsEngine for Gated {
        const NAME: &'static str = "gated";
        fn submit(&self, operation: Operation, completion: Completion) {
            drop(self.1.lock());
            self.0.submit(operation, completion);
        }
        fn scan(&self, scan: &Scan) -> Result<Page> {
            self.0.scan(scan)
        }
        fn stats(&self) -> Stats {
            Stats::default()
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
        fn close(&self) -> Result<()> {
            Ok(())
        }
        fn fatal(&self) -> Option<Error> {
            None
        }
    }
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let engine = Gated(MemoryEngine::new(), Arc::clone(&gate));
    let config = ServerConfig { pool: Some(PoolStrategy::SharedQueue), threads: Some(1), ..ServerConfig::default() };
    let server = Embedded::start_with(engine, config);
    let mut clients: Vec<Wire> = (0..4096 + 20).map(|_| Wire::connect(server.addr)).collect();
    for client in &mut clients {
        client.send("{\"get\":{\"key\":\"k\"},\"id\":1}\n");
    }
    // 4,096 wait, one is at work, the others are told in the end, although nobody has been served.
    let busy = "kvs_request_errors_total{code=\"busy\"} 19";
    until("the others are refused", || http_get(server.admin_addr, "/metrics").1.contains(busy).then_some(()));
    // Each asked again, at most five times in all, and not as often as it could.
    let metrics = http_get(server.admin_addr, "/metrics").1;
    let rejected =
        metrics.lines().find_map(|line| line.strip_prefix("kvs_pool_rejected_jobs_total{pool=\"sharedQueue\"} "));
    let rejected: u64 = rejected.unwrap().parse().unwrap();
    assert!((2 * 19..=5 * 19).contains(&rejected), "{rejected}");
    drop(shut);
    let mut busy = 0;
    for client in &mut clients {
        let line = client.line().unwrap();
        if line != r#"{"ok":null,"id":1}"# {
            assert_documented(&line, ErrorCode::Busy);
            busy += 1;
            assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#), r#"{"ok":null}"#, "later there is room");
        }
    }
    assert_eq!(busy, 19);
    server.stop().unwrap();
}
