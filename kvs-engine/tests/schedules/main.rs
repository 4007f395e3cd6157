//! The engine's own code under thousands of chosen schedules: at every lock, atomic, wait and call of the storage a
//! scheduler says who goes on. What it finds are answers that are lost, too early or wrong, and threads that wait for
//! each other.
//!
//! Runs where the engine was built for it: `RUSTFLAGS="--cfg shuttle" cargo test -p kvs-engine --test schedules`, with a
//! target folder of its own. `KVS_TORTURE=full` tries a hundred times as many. A failure prints its seed, and
//! `SHUTTLE_RANDOM_SEED` begins with it.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod answers;
mod checkpoint;
mod closing;
mod commit;
mod compaction;
mod disk;
mod rotation;

use std::sync::Arc;
use std::time::Duration;

use kvs_engine::{KvStore, Options};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

use disk::Disk;

/// Schedules of each scenario: more than 10,000 of all together.
const SCHEDULES: usize = 1_000;
/// The same for `KVS_TORTURE=full`: more than a million.
const TORTURE_SCHEDULES: usize = 100_000;
/// Moments at which the second scheduler takes the right to run away from a thread: most mistakes need one or two.
const PREEMPTIONS: usize = 3;
/// The most choices by which a thread starts late: about as many as a compaction meets.
const LATEST_START: u32 = 300;
/// What a thread of the model gets, in bytes; the model's own default is too small for a parser.
const STACK_BYTES: usize = 256 * 1024;
/// The smallest segment that the engine makes, in bytes.
const SMALL_SEGMENT_BYTES: u64 = 4 * 1024;

/// Runs a scenario under many schedules: one half chosen at random, the other with few preemptions.
fn try_schedules(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    let torture = std::env::var("KVS_TORTURE").is_ok_and(|level| level == "full");
    let count = if torture { TORTURE_SCHEDULES } else { SCHEDULES };
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new(count / 2), config.clone()).run(scenario);
    Runner::new(PctScheduler::new(PREEMPTIONS, count - count / 2), config).run(scenario);
}

/// A store over a disk, which compacts only when it is told to, and makes no checkpoint.
fn open(disk: &Disk) -> KvStore {
    open_with(disk, u64::MAX)
}

/// The same, with a checkpoint whenever the log has grown by so many bytes and at the end.
fn open_with(disk: &Disk, checkpoint_bytes: u64) -> KvStore {
    let segment_bytes = SMALL_SEGMENT_BYTES;
    let options =
        Options { segment_bytes, checkpoint_bytes, compaction_threshold_bytes: u64::MAX, ..Options::default() };
    KvStore::open_storage(Arc::new(disk.clone()), options).expect("the folder is sound")
}

/// Runs a job on a thread of the model.
fn go(store: &KvStore, job: impl FnOnce(&KvStore) + Send + 'static) -> JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || job(&store))
}

/// Lets a random part of what others do happen first. A thread with little to do would else nearly always be done before
/// one with much to do gets to where they can meet.
fn start_late() {
    for _ in 0..thread_rng().gen_range(0..LATEST_START) {
        thread::sleep(Duration::ZERO);
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("its own panic ended the schedule");
    }
}
