//! The promises of the `kvs` engine when things go wrong: death of process and machine, damage, failing calls, a full
//! disk. Every story ends with the same question: is everything that was acknowledged there, and nothing else?

use std::collections::BTreeMap;
use std::sync::Arc;

use kvs_engine::storage::{Fault, FaultKind, FaultyStorage, MemoryStorage, Storage};
use kvs_engine::{Error, KvStore, KvsEngine, Limits, Mutation, Options};

/// Small segments, so that a short story rotates, compacts and checkpoints.
fn options() -> Options {
    let (segment_bytes, checkpoint_bytes) = (8 * 1024, 4 * 1024);
    Options { segment_bytes, checkpoint_bytes, compaction_threshold_bytes: 8 * 1024, ..Options::default() }
}

fn open(storage: &MemoryStorage) -> kvs_engine::Result<KvStore> {
    KvStore::open_storage(Arc::new(storage.clone()), options())
}

/// A small generator of numbers, so that a story can be told again from its seed (Steele, Lea, Flood: SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

type Model = BTreeMap<String, String>;

/// One random operation on the store; returns the model after it, or the error.
fn step(store: &KvStore, random: &mut Random, model: &Model) -> kvs_engine::Result<Model> {
    let mut next = model.clone();
    let key = format!("key-{}", random.below(20));
    match random.below(10) {
        0..=5 => {
            let value = format!("value-{}-{}", random.next(), "x".repeat(usize::from(random.byte())));
            store.set(key.as_str(), value.as_str())?;
            next.insert(key, value);
        }
        6 | 7 => match store.remove(key.as_str()) {
            Ok(()) => drop(next.remove(&key).expect("the store removed what the model has")),
            Err(Error::KeyNotFound) => assert!(!model.contains_key(&key), "{key} is in the model"),
            Err(error) => return Err(error),
        },
        8 => {
            let other = format!("key-{}", random.below(20));
            let value = format!("batch-{}", random.next());
            store.write_batch(vec![
                Mutation::Set { key: key.clone().into(), value: value.clone().into() },
                Mutation::Remove { key: other.clone().into() },
            ])?;
            next.insert(key, value);
            next.remove(&other);
        }
        _ => match random.below(8) {
            0 => store.compact()?,
            _ => assert_eq!(store.get(key.as_str())?, model.get(&key).map(|value| value.clone().into_bytes())),
        },
    }
    Ok(next)
}

/// Everything that a store holds of the keys that stories use.
fn contents(store: &KvStore) -> Model {
    let text = |bytes| String::from_utf8(bytes).expect("stories write text");
    (0..20)
        .map(|number| format!("key-{number}"))
        .filter_map(|key| store.get(key.as_str()).expect("readable").map(|value| (key, text(value))))
        .collect()
}

#[test]
fn what_is_acknowledged_survives_a_clean_restart() {
    let storage = MemoryStorage::new();
    let mut random = Random(1);
    let mut model = Model::new();
    for _ in 0..20 {
        let store = open(&storage).unwrap();
        assert_eq!(contents(&store), model);
        for _ in 0..60 {
            model = step(&store, &mut random, &model).unwrap();
        }
        assert_eq!(store.stats().keys, model.len() as u64);
        store.close().unwrap();
    }
}

#[test]
fn what_is_acknowledged_survives_the_death_of_the_process() {
    let storage = MemoryStorage::new();
    let mut random = Random(2);
    let mut model = Model::new();
    let mut disk = storage;
    for _ in 0..30 {
        let store = open(&disk).unwrap();
        assert_eq!(contents(&store), model);
        for _ in 0..random.below(60) {
            model = step(&store, &mut random, &model).unwrap();
        }
        disk = disk.after_kill();
    }
}

/// The power fails after a random number of acknowledged operations; what was not synced is kept or lost sector by
/// sector and name by name, in many ways each.
#[test]
fn what_is_acknowledged_survives_the_loss_of_power() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        let mut model = Model::new();
        for _ in 0..random.below(120) {
            model = step(&store, &mut random, &model).unwrap();
        }
        for _ in 0..10 {
            let kept = random.below(101);
            let disk = storage.after_power_loss(|| random.below(100) < kept);
            let found = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(contents(&found), model, "seed {seed}");
            // And what recovery wrote survives the next loss of power.
            drop(found);
            let again = open(&disk.after_power_loss(|| false)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(contents(&again), model, "seed {seed}, second time");
        }
    }
}

/// The power fails while many writers are in the middle of their operations: of each writer, all acknowledged values
/// are there, and of what was under way nothing but whole records.
#[test]
fn writers_in_flight_lose_nothing_acknowledged_to_the_loss_of_power() {
    for seed in 0..20_u64 {
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        let acknowledged: Vec<_> = (0..4).map(|_| Arc::new(std::sync::atomic::AtomicU64::new(0))).collect();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (store, count, stop) = (store.clone(), Arc::clone(&acknowledged[writer]), Arc::clone(&stop));
                std::thread::spawn(move || {
                    for number in 1..2_000_u64 {
                        if stop.load(std::sync::atomic::Ordering::SeqCst) {
                            break;
                        }
                        store.set(format!("writer-{writer}"), number.to_string()).expect("the disk is in order");
                        count.store(number, std::sync::atomic::Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut random = Random(seed);
        while acknowledged.iter().any(|count| count.load(std::sync::atomic::Ordering::SeqCst) < 20 + seed) {
            std::thread::yield_now();
        }
        let before: Vec<u64> =
            acknowledged.iter().map(|count| count.load(std::sync::atomic::Ordering::SeqCst)).collect();
        let disk = storage.after_power_loss(|| random.below(2) == 0);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let found = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (writer, before) in before.iter().enumerate() {
            let value = found.get(format!("writer-{writer}")).unwrap().expect("it was acknowledged");
            let value: u64 = String::from_utf8(value).unwrap().parse().expect("a whole value");
            assert!(value >= *before, "seed {seed}: writer {writer} had {before} acknowledged and finds {value}");
        }
    }
}

/// The names of the log's files.
fn segments(storage: &MemoryStorage) -> Vec<String> {
    let mut names: Vec<_> =
        storage.list().expect("a folder in memory").into_iter().filter(|name| name.ends_with(".log")).collect();
    names.sort();
    names
}

/// All bytes of a file.
fn content_of(disk: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("the file exists");
    let bytes = file.length().expect("a file in memory");
    let mut content = vec![0; usize::try_from(bytes).expect("a small file")];
    assert_eq!(file.read_at(&mut content, 0).expect("a file in memory") as u64, bytes);
    content
}

/// A write that was under way when the process died leaves the beginning of a line, at every length.
#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    store.set("key-1", "stays").unwrap();
    let before = storage.after_kill();
    store.set("key-2", "torn").unwrap();
    let after = storage.after_kill();
    let name = &segments(&before)[0];
    let (old, new) = (content_of(&before, name), content_of(&after, name));
    let start = old.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = new.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in start + 1..end {
        let disk = before.after_kill();
        disk.open(name).unwrap().write_at(&new[start..cut], start as u64).unwrap();
        let store = open(&disk).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(store.stats().torn_bytes, (cut - start) as u64);
        assert_eq!(store.get("key-1").unwrap(), Some(b"stays".to_vec()));
        assert_eq!(store.get("key-2").unwrap(), None);
        store.set("key-2", "again").unwrap();
        assert_eq!(open(&disk.after_kill()).unwrap().get("key-2").unwrap(), Some(b"again".to_vec()));
    }
}

#[test]
fn a_missing_file_is_corruption() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    store.set("key-1", "value").unwrap();
    store.close().unwrap();
    drop(store);
    for name in segments(&storage).into_iter().chain(["MANIFEST".to_owned()]) {
        let disk = storage.after_kill();
        disk.remove(&name).unwrap();
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, Error::Corruption { .. }), "{name}: {error}");
        assert!(error.to_string().contains("missing"), "{name}: {error}");
    }
}

#[test]
fn a_full_disk_refuses_sets_and_serves_the_rest() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    storage.set_capacity(Some(96 * 1024));
    let mut last = 0;
    let error = loop {
        match store.set(format!("key-{}", last % 1000), "v".repeat(200)) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 10_000, "the disk never became full");
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    assert!(store.stats().read_only && store.fatal().is_none());
    assert_eq!(store.get("key-0").unwrap(), Some("v".repeat(200).into_bytes()), "reads go on");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    for number in 0..last {
        // The reserve of these tiny segments holds a hundred removals; then a compaction has to give space back.
        while let Err(error) = store.remove(format!("key-{number}")) {
            assert!(matches!(error, Error::NoSpace), "{error}");
            assert!(std::time::Instant::now() < deadline, "removals do not go on: {:?}", store.stats());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    store.compact().expect("compaction has its reserve");
    while let Err(error) = store.set("key-1", "there is room again") {
        assert!(matches!(error, Error::NoSpace), "{error}");
        assert!(std::time::Instant::now() < deadline, "writing did not resume by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(store);
    let store = open(&storage.after_kill()).unwrap();
    assert_eq!(store.stats().keys, 1);
    assert_eq!(store.get("key-1").unwrap(), Some(b"there is room again".to_vec()));
}

#[test]
fn compaction_gives_space_back_while_the_store_serves() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    for round in 0..200 {
        for key in 0..20 {
            store.set(format!("key-{key}"), format!("value of round {round}")).unwrap();
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.stats().disk_bytes > 64 * 1024 {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.stats());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let stats = store.stats();
    assert!(stats.compactions > 0 && stats.compaction_reclaimed_bytes > 100_000, "{stats:?}");
    let model = contents(&store);
    assert!(model.values().all(|value| value == "value of round 199") && model.len() == 20);
    assert_eq!(contents(&open(&storage.after_kill()).unwrap()), model);
}

#[test]
fn a_removed_key_stays_removed_through_any_number_of_compactions() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    for key in 0..20 {
        store.set(format!("key-{key}"), "v".repeat(300)).unwrap();
    }
    for key in 0..20 {
        if key % 2 == 0 {
            store.remove(format!("key-{key}")).unwrap();
        }
    }
    for _ in 0..4 {
        store.compact().unwrap();
        let model = contents(&open(&storage.after_kill()).unwrap());
        assert_eq!(model.len(), 10, "{:?}", model.keys());
    }
    for key in 0..20 {
        let _ = store.remove(format!("key-{key}"));
    }
    for _ in 0..3 {
        store.compact().unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.keys, stats.live_bytes), (0, 0));
    assert!(stats.dead_bytes < 200, "removals of keys that no segment holds are dropped: {stats:?}");
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open(folder.path()).unwrap();
    let error = KvStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(store);
    assert!(KvStore::open(folder.path()).is_ok());
}

#[test]
fn the_log_can_be_read_with_common_tools() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open(folder.path()).unwrap();
    store.set("k1", "v1").unwrap();
    store.set("k2", "line\nbreak \"quoted\"").unwrap();
    store.remove("k1").unwrap();
    let script = "grep -a . 00000001.log | cut -d' ' -f5- | tr -d '\\0' | grep -v '\"segment\":'";
    let output = std::process::Command::new("sh").arg("-c").arg(script).current_dir(folder.path()).output().unwrap();
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert_eq!(
        lines,
        [
            serde_json::json!({"set": {"key": "k1", "value": "v1"}}),
            serde_json::json!({"set": {"key": "k2", "value": "line\nbreak \"quoted\""}}),
            serde_json::json!({"rm": {"key": "k1"}}),
        ]
    );
}

#[test]
fn a_value_larger_than_a_segment_gets_one_of_its_own() {
    let storage = MemoryStorage::new();
    let limits = Limits { value_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let large = Options { limits, ..options() };
    let store = KvStore::open_storage(Arc::new(storage.clone()), large.clone()).unwrap();
    let value: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    store.set("key-1", "small").unwrap();
    store.set("large", value.clone()).unwrap();
    store.set("key-2", "small").unwrap();
    assert_eq!(store.get("large").unwrap().as_ref(), Some(&value));
    store.set("key-1", "changed").unwrap();
    store.compact().unwrap();
    let found = KvStore::open_storage(Arc::new(storage.after_kill()), large).unwrap();
    assert_eq!(found.get("large").unwrap(), Some(value));
    assert_eq!(contents(&found).len(), 2);
}

#[test]
fn a_process_that_dies_again_and_again_leaves_no_heap_of_segments() {
    let mut disk = MemoryStorage::new();
    for round in 0..30 {
        let store = open(&disk).unwrap();
        for key in 0..3 {
            store.set(format!("key-{key}"), format!("round {round}")).unwrap();
        }
        disk = disk.after_kill();
    }
    assert!(segments(&disk).len() <= 3, "{:?}", segments(&disk));
    assert_eq!(contents(&open(&disk).unwrap()).len(), 3);
}

/// With `interval` and `os` an acknowledged write survives the death of the process; the loss of power may take it, but
/// then everything after it as well, and the store opens. `flush` and `close` make everything durable.
#[test]
fn the_weaker_policies_lose_only_what_they_say() {
    use kvs_engine::SyncPolicy;
    for sync in [SyncPolicy::Os, SyncPolicy::Interval(std::time::Duration::from_secs(3600))] {
        let storage = MemoryStorage::new();
        let open = |disk: &MemoryStorage| {
            KvStore::open_storage(Arc::new(disk.clone()), Options { sync, ..options() })
                .unwrap_or_else(|error| panic!("{sync:?}: {error}"))
        };
        let store = open(&storage);
        for number in 0..10 {
            store.set(format!("key-{number}"), "flushed").unwrap();
        }
        store.flush().unwrap();
        for number in 10..20 {
            store.set(format!("key-{number}"), "acknowledged").unwrap();
        }
        assert_eq!(contents(&open(&storage.after_kill())).len(), 20, "{sync:?}: after kill -9");
        let mut random = Random(11);
        for _ in 0..50 {
            let found = contents(&open(&storage.after_power_loss(|| random.below(2) == 0)));
            let kept = (0..20).take_while(|number| found.contains_key(&format!("key-{number}"))).count();
            assert!(kept >= 10 && found.len() == kept, "{sync:?}: {:?}", found.keys());
        }
        store.close().unwrap();
        assert_eq!(contents(&open(&storage.after_power_loss(|| false))).len(), 20, "{sync:?}: after close");
    }
}

/// Sixteen threads that wait for one sync each would need as many syncs as writes.
#[test]
fn writers_share_their_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open(folder.path()).unwrap();
    let before = store.stats().syncs;
    std::thread::scope(|scope| {
        for writer in 0..16 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    store.set(format!("{writer}/{number}"), "value").unwrap();
                }
            });
        }
    });
    let syncs = store.stats().syncs - before;
    assert!(syncs < 1_200, "{syncs} syncs for 1600 writes");
}

/// Waits until the store has compacted at least once and is not at it any more.
fn wait_for_compaction(store: &KvStore) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.stats().compactions == 0 || store.stats().compacting {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.stats());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The value is in a segment that is nearly all alive and so stays as it is; the removal is in one that is compacted.
#[test]
fn a_removal_stays_while_an_untouched_segment_holds_the_value() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    store.set("removed", "comes back if its removal is dropped too early").unwrap();
    for key in 0..30 {
        store.set(format!("key-{key}"), "v".repeat(300)).unwrap();
    }
    store.remove("removed").unwrap();
    let has_removal = |name: &String| String::from_utf8_lossy(&content_of(&storage, name)).contains("\"rm\"");
    let compacted = segments(&storage).into_iter().find(has_removal).expect("it was acknowledged");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut round = 0;
    while segments(&storage).contains(&compacted) {
        assert!(std::time::Instant::now() < deadline, "the removal's segment is not compacted");
        store.set("churn", format!("{round} {}", "x".repeat(300))).unwrap();
        round += 1;
    }
    let holds_value = |name: &String| String::from_utf8_lossy(&content_of(&storage, name)).contains("comes back");
    assert!(segments(&storage).iter().any(holds_value), "the value was rewritten too: the story shows nothing");
    // A checkpoint would know of the removal; it may be damaged, and then the log alone decides.
    let disk = storage.after_kill();
    let _ = disk.remove("CHECKPOINT");
    assert_eq!(open(&disk).unwrap().get("removed").unwrap(), None);
    assert_eq!(store.get("removed").unwrap(), None);
}

/// The old values are in a sealed segment, the new ones are acknowledged and, by policy, not synced: a compaction may
/// drop the old ones only after it made the new ones durable.
#[test]
fn a_compaction_drops_nothing_whose_successor_is_not_durable() {
    let storage = MemoryStorage::new();
    let policy = Options { sync: kvs_engine::SyncPolicy::Os, compaction_threshold_bytes: 4 * 1024, ..options() };
    let open = |disk: &MemoryStorage| KvStore::open_storage(Arc::new(disk.clone()), policy.clone()).unwrap();
    let store = open(&storage);
    for key in 0..20 {
        store.set(format!("key-{key}"), "old".repeat(120)).unwrap();
    }
    store.flush().unwrap();
    // Sealing syncs everything: it has to be over before the new values come.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !String::from_utf8_lossy(&content_of(&storage, "MANIFEST")).contains("\"sealed\":{") {
        assert!(std::time::Instant::now() < deadline, "no segment is sealed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for key in 0..20 {
        store.set(format!("key-{key}"), "new").unwrap();
    }
    wait_for_compaction(&store);
    let found = contents(&open(&storage.after_power_loss(|| false)));
    assert_eq!(found.len(), 20, "values are lost: {:?}", found.keys());
}

/// Handles that are still around, as in a thread that ends late, don't keep the folder.
#[test]
fn a_closed_store_lets_go_of_its_folder() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    store.set("key-1", "value").unwrap();
    store.close().unwrap();
    let next = open(&storage).expect("the folder is free");
    assert!(matches!(store.compact(), Err(Error::Closed)));
    assert_eq!(next.get("key-1").unwrap(), Some(b"value".to_vec()));
}

/// Closing says how the store ended as often as it is asked.
#[test]
fn closing_a_poisoned_store_fails_each_time() {
    let opened = |fault| {
        let faulty = FaultyStorage::new(Arc::new(MemoryStorage::new()), fault);
        (faulty.clone(), KvStore::open_storage(Arc::new(faulty), options()))
    };
    // The reserves and the next segment are prepared beside this: every call fails from one on by which it is open.
    let (faulty, store) = opened(None);
    drop(store.unwrap());
    let call = faulty.calls() * 2;
    let (_, store) = opened(Some(Fault { call, kind: FaultKind::Errno(5), for_ever: true }));
    let store = store.unwrap();
    let mut sets = 0..10_000;
    let refused = sets.find_map(|number| store.set(format!("key-{number}"), "value").err()).expect("a call that fails");
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
    for _ in 0..3 {
        assert!(matches!(store.close(), Err(Error::Poisoned { .. })));
    }
}

/// An answer's receiver that panics, against its contract, costs nobody else an answer.
#[test]
fn a_panicking_receiver_does_not_stop_the_others() {
    let storage = MemoryStorage::new();
    let store = open(&storage).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for number in 0..20_u32 {
        let sender = sender.clone();
        let answer = kvs_engine::Completion::call(move |result| {
            assert!(number % 5 != 0, "a receiver that panics, on purpose");
            sender.send(result.is_ok()).expect("somebody listens");
        });
        let operation = kvs_engine::Operation::Set { key: number.to_le_bytes().to_vec(), value: Vec::new() };
        store.submit(operation, answer);
    }
    for _ in 0..16 {
        assert!(receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("an answer"));
    }
}
