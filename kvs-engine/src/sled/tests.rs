//! What only this engine does: answers wait for the barrier, a failed barrier ends them, the folder is its own.

use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::*;
use crate::options::SyncPolicy;

/// A deadline for what must happen. Long, because it is only reached when something is broken.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long to watch for what must not happen.
const WATCH: Duration = Duration::from_millis(100);

/// A barrier that waits for a word from the test before each sync, and ends as the word says. It lets everything pass
/// once the test has dropped the other end.
struct Gate {
    reached: Sender<()>,
    words: Receiver<io::Result<()>>,
}

impl Barrier for Gate {
    fn prepare(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let _ = self.reached.send(());
        self.words.recv().unwrap_or(Ok(()))
    }
}

/// A store with a gate, and the test's ends of it. The words go before the engine, whose last sync must pass.
struct Gated {
    words: Sender<io::Result<()>>,
    reached: Receiver<()>,
    engine: SledEngine,
    folder: tempfile::TempDir,
}

impl Gated {
    fn new(policy: SyncPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reached_sender, reached) = mpsc::channel();
        let (words, words_receiver) = mpsc::channel();
        let options = Options { sync: policy, ..Options::default() };
        let gate = Gate { reached: reached_sender, words: words_receiver };
        let engine = SledEngine::open_with_barrier(folder.path(), options, || Ok(Box::new(gate))).unwrap();
        Self { engine, reached, words, folder }
    }

    fn submit(&self, operation: Operation) -> Receiver<Result<Outcome>> {
        let (sender, receiver) = mpsc::channel();
        self.engine.submit(operation, Completion::call(move |result| drop(sender.send(result))));
        receiver
    }

    /// Waits until the committer stands at the barrier.
    fn wait_for_sync(&self) {
        self.reached.recv_timeout(DEADLINE).expect("the committer reaches the barrier");
    }

    fn let_pass(&self) {
        self.words.send(Ok(())).unwrap();
    }

    fn fail_sync(&self) {
        self.words.send(Err(io::Error::other("the disk is gone"))).unwrap();
    }
}

fn set(key: &str, value: &str) -> Operation {
    Operation::Set { key: key.into(), value: value.into() }
}

fn get(key: &str) -> Operation {
    Operation::Get { key: key.into() }
}

fn remove(key: &str) -> Operation {
    Operation::Remove { key: key.into() }
}

fn assert_held(answer: &Receiver<Result<Outcome>>) {
    assert_eq!(answer.recv_timeout(WATCH).unwrap_err(), RecvTimeoutError::Timeout, "the answer must be held");
}

fn answer(answer: &Receiver<Result<Outcome>>) -> Result<Outcome> {
    answer.recv_timeout(DEADLINE).expect("an answer comes")
}

#[test]
fn a_write_and_what_reads_it_wait_for_the_barrier_and_others_do_not() {
    let store = Gated::new(SyncPolicy::Always);
    let written = store.submit(set("key", "new"));
    store.wait_for_sync();
    let read = store.submit(get("key"));
    let removed = store.submit(remove("key"));
    let removed_again = store.submit(remove("key"));
    let of_another_key = store.submit(get("another"));
    assert_eq!(answer(&of_another_key).unwrap(), Outcome::Value(None));
    for held in [&written, &read, &removed, &removed_again] {
        assert_held(held);
    }

    store.let_pass();
    assert_eq!(answer(&written).unwrap(), Outcome::Done);
    store.wait_for_sync();
    assert_held(&read);
    store.let_pass();
    assert_eq!(answer(&read).unwrap(), Outcome::Value(Some(b"new".to_vec())));
    assert_eq!(answer(&removed).unwrap(), Outcome::Done);
    assert!(matches!(answer(&removed_again), Err(Error::KeyNotFound)));
    assert_eq!(answer(&store.submit(get("key"))).unwrap(), Outcome::Value(None), "all is settled: no wait");
}

#[test]
fn all_that_is_submitted_during_one_sync_shares_the_next() {
    let store = Gated::new(SyncPolicy::Always);
    let first = store.submit(set("first", "value"));
    store.wait_for_sync();
    let others: Vec<_> = (0..500).map(|number| store.submit(set(&format!("key {number}"), "value"))).collect();
    store.let_pass();
    answer(&first).unwrap();
    store.wait_for_sync();
    store.let_pass();
    for other in &others {
        answer(other).unwrap();
    }
    assert_eq!(store.engine.stats().syncs, 2);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let store = Gated::new(SyncPolicy::Always);
    let written = store.submit(set("key", "value"));
    store.wait_for_sync();
    let gathering = store.submit(set("later", "value"));
    let read = store.submit(get("key"));
    store.fail_sync();
    for unlucky in [&written, &gathering, &read] {
        assert!(matches!(answer(unlucky), Err(Error::Poisoned { .. })));
    }
    assert!(store.engine.fatal().unwrap().to_string().contains("the disk is gone"));
    assert!(matches!(store.engine.set("key", "again"), Err(Error::Poisoned { .. })));
    assert!(matches!(store.engine.get("key"), Err(Error::Poisoned { .. })));
    assert!(matches!(store.engine.flush(), Err(Error::Poisoned { .. })));
    assert!(matches!(store.engine.close(), Err(Error::Poisoned { .. })));
    assert!(store.reached.try_recv().is_err(), "a failed sync is never tried again");
}

#[test]
fn the_policy_os_acknowledges_without_the_barrier_and_flush_passes_it() {
    let store = Gated::new(SyncPolicy::Os);
    store.engine.set("key", "value").unwrap();
    assert_eq!(store.engine.get("key").unwrap(), Some(b"value".to_vec()));
    assert_eq!(store.engine.stats().syncs, 0);

    store.let_pass();
    store.engine.flush().unwrap();
    assert_eq!(store.engine.stats().syncs, 1);
}

#[test]
fn the_policy_interval_acknowledges_at_once_and_syncs_by_itself() {
    let store = Gated::new(SyncPolicy::Interval(Duration::from_millis(20)));
    store.engine.set("key", "value").unwrap();
    store.wait_for_sync();
    store.let_pass();

    store.engine.set("key", "newer").unwrap();
    store.wait_for_sync();
    store.fail_sync();
    let begin = Instant::now();
    while store.engine.fatal().is_none() {
        assert!(begin.elapsed() < DEADLINE, "a failed sync in the background poisons too");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn closing_syncs_what_the_policy_left() {
    let store = Gated::new(SyncPolicy::Os);
    store.engine.set("key", "value").unwrap();
    store.let_pass();
    store.engine.close().unwrap();
    assert_eq!(store.engine.stats().syncs, 1);

    let engine = SledEngine::open(store.folder.path()).unwrap();
    assert_eq!(engine.get("key").unwrap(), Some(b"value".to_vec()));
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(folder.path()).unwrap();
    let error = SledEngine::open(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Locked { folder: locked } if locked == folder.path()), "{error}");
    drop(engine);
    SledEngine::open(folder.path()).unwrap();
}

#[test]
fn a_lock_that_another_user_of_sled_holds_is_respected_too() {
    let folder = tempfile::tempdir().unwrap();
    let _foreign = ::sled::open(folder.path()).unwrap();
    assert!(matches!(SledEngine::open(folder.path()), Err(Error::Locked { .. })));
}

#[test]
fn a_folder_of_the_other_engine_is_refused_untouched() {
    for name in ["MANIFEST", "0000000000000001.log"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "precious").unwrap();
        let error = SledEngine::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::WrongFolder { .. }), "{error}");
        assert!(error.to_string().contains("--engine kvs"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
    }
}

#[test]
fn its_own_data_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!SledEngine::has_data(folder.path()));
    drop(SledEngine::open(folder.path()).unwrap());
    assert!(SledEngine::has_data(folder.path()));
}

#[test]
fn a_damaged_parameter_file_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    drop(SledEngine::open(folder.path()).unwrap());
    fs::write(folder.path().join("conf"), "segment_size: none of your business\n").unwrap();
    let error = SledEngine::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Corruption { .. } | Error::Sled(_)), "{error}");
}

#[test]
fn large_values_live_in_blobs_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(folder.path()).unwrap();
    let value = vec![0xA5; 1024 * 1024];
    for number in 0..8_u8 {
        engine.set([number], value.clone()).unwrap();
    }
    assert!(fs::read_dir(folder.path().join("blobs")).unwrap().count() > 0, "the test must reach the blobs");
    drop(engine);
    let engine = SledEngine::open(folder.path()).unwrap();
    for number in 0..8_u8 {
        assert_eq!(engine.get([number]).unwrap().as_deref(), Some(&value[..]));
    }
}

#[test]
fn the_last_handle_may_be_dropped_by_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel();
    {
        let engine = SledEngine::open(folder.path()).unwrap();
        let last = engine.clone();
        let completion = Completion::call(move |result| {
            drop(last);
            drop(sender.send(result));
        });
        engine.submit(set("key", "value"), completion);
    }
    receiver.recv_timeout(DEADLINE).unwrap().unwrap();
    let begin = Instant::now();
    let engine = loop {
        match SledEngine::open(folder.path()) {
            Ok(engine) => break engine,
            Err(error) => assert!(begin.elapsed() < DEADLINE, "{error}"),
        }
    };
    assert_eq!(engine.get("key").unwrap(), Some(b"value".to_vec()));
}
