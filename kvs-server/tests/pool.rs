//! The pools as a library: every strategy runs the same stories.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use kvs_server::pool::{
    Busy, InlinePool, MAX_NAIVE_THREADS, MAX_THREADS, NaivePool, Pool, PoolError, PoolObserver, PoolOptions, RayonPool,
    SharedQueuePool,
};

/// How long a test waits for what must happen soon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until a condition holds, or fails the test.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs one story for each of the four strategies.
macro_rules! for_each_pool {
    ($($story:ident),+ $(,)?) => {
        mod naive { $(#[test] fn $story() { super::$story::<super::NaivePool>(); })+ }
        mod shared_queue { $(#[test] fn $story() { super::$story::<super::SharedQueuePool>(); })+ }
        mod rayon { $(#[test] fn $story() { super::$story::<super::RayonPool>(); })+ }
        mod inline { $(#[test] fn $story() { super::$story::<super::InlinePool>(); })+ }
    };
}

for_each_pool!(
    every_job_runs_once,
    dropping_a_pool_waits_for_its_jobs,
    a_panic_costs_only_its_job,
    a_closed_pool_refuses_and_drops_the_job,
    a_job_may_drop_the_pool_that_runs_it,
    the_number_of_threads_is_checked,
    the_observer_hears_everything,
);

fn every_job_runs_once<P: Pool>() {
    let pool = Arc::new(P::new(4).unwrap());
    let sum = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (pool, sum) = (Arc::clone(&pool), Arc::clone(&sum));
            std::thread::spawn(move || {
                for number in 1..=250 {
                    let sum = Arc::clone(&sum);
                    // A full pool says so; the caller comes again.
                    until("room in the pool", || {
                        let sum = Arc::clone(&sum);
                        pool.spawn(move || _ = sum.fetch_add(number, Ordering::SeqCst)).is_ok()
                    });
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    pool.shutdown();
    assert_eq!(sum.load(Ordering::SeqCst), 4 * 250 * 251 / 2);
}

fn dropping_a_pool_waits_for_its_jobs<P: Pool>() {
    let ended = Arc::new(AtomicUsize::new(0));
    let pool = P::new(2).unwrap();
    for _ in 0..20 {
        let ended = Arc::clone(&ended);
        pool.spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            ended.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    }
    drop(pool);
    assert_eq!(ended.load(Ordering::SeqCst), 20);
}

fn a_panic_costs_only_its_job<P: Pool>() {
    let pool = P::new(1).unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..10 {
        pool.spawn(|| panic!("a panic that a test wants")).unwrap();
        let sender = sender.clone();
        pool.spawn(move || sender.send(number).unwrap()).unwrap();
    }
    let mut numbers: Vec<i32> = (0..10).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    until("the panicked jobs are counted as ended", || pool.figures().busy_workers == 0);
}

fn a_closed_pool_refuses_and_drops_the_job<P: Pool>() {
    let pool = P::new(1).unwrap();
    pool.shutdown();
    pool.shutdown();
    let held = Arc::new(());
    let job = Arc::clone(&held);
    assert_eq!(pool.spawn(move || drop(job)), Err(Busy));
    assert_eq!(Arc::strong_count(&held), 1, "the refused job is gone");
}

fn a_job_may_drop_the_pool_that_runs_it<P: Pool>() {
    let (sender, receiver) = mpsc::channel();
    let pool = Arc::new(P::new(1).unwrap());
    let inside = Arc::clone(&pool);
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let inner_gate = Arc::clone(&gate);
    let spawner = std::thread::spawn(move || {
        let pool = Arc::clone(&inside);
        inside
            .spawn(move || {
                drop(inner_gate.lock());
                drop(pool);
                sender.send(()).unwrap();
            })
            .unwrap();
    });
    drop(pool);
    drop(closed);
    receiver.recv_timeout(PATIENCE).expect("the job ended, though it was the last owner of its pool");
    spawner.join().unwrap();
}

#[test]
fn a_job_that_shuts_its_pool_down_waits_for_no_other() {
    fn story<P: Pool>() {
        let pool = Arc::new(P::new(2).unwrap());
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        pool.spawn(move || end.send(receiver.recv_timeout(PATIENCE).is_ok()).unwrap()).unwrap();
        let inside = Arc::clone(&pool);
        pool.spawn(move || {
            inside.shutdown();
            drop(inside);
            sender.send(()).unwrap();
        })
        .unwrap();
        assert_eq!(ended.recv(), Ok(true), "the shutdown returned, so that the first job could end");
        pool.spawn(|| {}).unwrap_err();
    }
    story::<NaivePool>();
    story::<SharedQueuePool>();
    story::<RayonPool>();
}

fn the_number_of_threads_is_checked<P: Pool>() {
    for threads in [0, MAX_THREADS + 1] {
        assert!(matches!(P::new(threads), Err(PoolError::Threads { .. })), "{threads}");
    }
}

#[derive(Default)]
struct Counting {
    began: AtomicUsize,
    ended: AtomicUsize,
    panicked: AtomicUsize,
    rejected: AtomicUsize,
}

impl PoolObserver for Counting {
    fn began(&self, _waited: Duration) {
        self.began.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, _ran: Duration, panicked: bool) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.panicked.fetch_add(usize::from(panicked), Ordering::SeqCst);
    }

    fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::SeqCst);
    }
}

fn the_observer_hears_everything<P: Pool>() {
    let heard = Arc::new(Counting::default());
    let pool = P::with_options(PoolOptions { observer: heard.clone(), ..PoolOptions::new(2) }).unwrap();
    for number in 0..10 {
        pool.spawn(move || assert!(number != 3, "a panic that a test wants")).unwrap();
    }
    pool.shutdown();
    pool.spawn(|| {}).unwrap_err();
    let counts =
        [&heard.began, &heard.ended, &heard.panicked, &heard.rejected].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts, [10, 10, 1, 1]);
}

/// Fills a pool of one worker until it says that it is busy; gives how many jobs it took.
fn fill<P: Pool>(queue_jobs: usize) -> (P, Arc<Barrier>, usize) {
    let pool = P::with_options(PoolOptions { queue_jobs, ..PoolOptions::new(1) }).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let worker_gate = Arc::clone(&gate);
    pool.spawn(move || _ = worker_gate.wait()).unwrap();
    until("the worker has taken the first job", || pool.figures().busy_workers == 1);
    let taken = (0..).take_while(|_| pool.spawn(|| {}).is_ok()).count();
    (pool, gate, taken)
}

#[test]
fn a_full_queue_is_busy_at_once_and_has_room_again_later() {
    fn story<P: Pool>() {
        let (pool, gate, taken) = fill::<P>(8);
        assert_eq!(taken, 8);
        assert_eq!(pool.figures().queued_jobs, 8);
        gate.wait();
        until("the queue is empty", || pool.figures().queued_jobs == 0);
        pool.spawn(|| {}).unwrap();
    }
    story::<SharedQueuePool>();
    story::<RayonPool>();
}

#[test]
fn the_naive_pool_runs_a_bounded_number_of_threads() {
    let pool = NaivePool::new(1).unwrap();
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let mut taken = 0;
    while taken <= MAX_NAIVE_THREADS {
        let gate = Arc::clone(&gate);
        if pool.spawn(move || drop(gate.lock())).is_err() {
            break;
        }
        taken += 1;
    }
    // The machine may give fewer threads than we would take; never more.
    assert!((1..=MAX_NAIVE_THREADS).contains(&taken), "{taken}");
    drop(closed);
    until("every thread has ended", || pool.figures().busy_workers == 0);
    pool.spawn(|| {}).unwrap();
}

#[test]
fn the_inline_pool_runs_the_job_before_it_returns() {
    let pool = InlinePool::new(1).unwrap();
    let caller = std::thread::current().id();
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || sender.send(std::thread::current().id()).unwrap()).unwrap();
    assert_eq!(receiver.try_recv(), Ok(caller));
}

#[test]
fn workers_of_the_shared_queue_work_at_the_same_time() {
    let pool = SharedQueuePool::new(4).unwrap();
    let together = Arc::new(Barrier::new(5));
    for _ in 0..4 {
        let together = Arc::clone(&together);
        pool.spawn(move || _ = together.wait()).unwrap();
    }
    // Passes only when all four jobs run together.
    together.wait();
}
