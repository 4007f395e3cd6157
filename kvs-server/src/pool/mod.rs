//! Thread pools behind one trait: four ways to run a job, usable without the server.
//!
//! What must hold for every pool:
//! * a job that was accepted is run exactly once; one that was refused is dropped unrun;
//! * a job that panics costs itself, not a worker and not the process;
//! * nothing waits without bound for room: a full pool answers [`Busy`] at once;
//! * dropping a pool, or [`Pool::shutdown`], runs what was accepted and waits for it.
//!
//! ```
//! use kvs_server::pool::{Pool, SharedQueuePool};
//!
//! let pool = SharedQueuePool::new(4).expect("four threads are within the limits");
//! let (sender, receiver) = std::sync::mpsc::channel();
//! pool.spawn(move || sender.send(6 * 7).expect("the receiver is alive")).expect("an empty pool has room");
//! assert_eq!(receiver.recv(), Ok(42));
//! ```

mod chosen;
mod inline;
mod naive;
mod observer;
mod rayon;
mod running;
mod shared_queue;

use std::sync::Arc;

pub use chosen::ChosenPool;
pub use inline::InlinePool;
pub use naive::NaivePool;
pub use observer::{NoObserver, PoolObserver};
pub use rayon::RayonPool;
pub(crate) use running::job_times;
pub use shared_queue::SharedQueuePool;

/// The most worker threads of a pool: beyond this a machine switches between them more than it works.
pub const MAX_THREADS: u32 = 1024;
/// The most jobs that wait for a worker by default. A job takes some ten microseconds, so a full queue is some tens of
/// milliseconds of waiting: later answers would be of little use.
pub const DEFAULT_QUEUE_JOBS: usize = 4096;
/// The most threads that a [`NaivePool`] runs at once: a thread for each job has no other bound.
pub const MAX_NAIVE_THREADS: usize = 1024;

/// The pool has no room for a job, or is shutting down. The job was dropped unrun; the caller may try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pool is full")]
pub struct Busy;

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The caller asked for no thread or for too many.
    #[error("a pool has 1 to {MAX_THREADS} threads, not {threads}")]
    Threads {
        /// What was asked for.
        threads: u32,
    },
    /// The operating system gives no more threads.
    #[error("cannot start a thread of the pool: {0}")]
    Spawn(#[from] std::io::Error),
    /// Rayon could not build its pool.
    #[error("cannot build rayon's pool: {0}")]
    Rayon(#[from] ::rayon::ThreadPoolBuildError),
}

/// How a pool is made.
#[derive(Clone)]
pub struct PoolOptions {
    /// Worker threads, 1 to [`MAX_THREADS`]; `naive` and `inline` have none of their own.
    pub threads: u32,
    /// The most jobs that wait for a worker.
    pub queue_jobs: usize,
    /// Hears of jobs.
    pub observer: Arc<dyn PoolObserver>,
}

impl PoolOptions {
    /// So many threads, the default queue and nobody who hears.
    #[must_use]
    pub fn new(threads: u32) -> Self {
        Self { threads, queue_jobs: DEFAULT_QUEUE_JOBS, observer: Arc::new(NoObserver) }
    }

    fn check(&self) -> Result<(), PoolError> {
        if (1..=MAX_THREADS).contains(&self.threads) {
            return Ok(());
        }
        Err(PoolError::Threads { threads: self.threads })
    }
}

/// What a pool is doing at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Jobs that wait for a worker.
    pub queued_jobs: usize,
    /// The most jobs that may wait; 0 where nothing waits.
    pub queue_capacity_jobs: usize,
    /// Jobs that are being run.
    pub busy_workers: usize,
    /// Threads of the pool; 0 where it has none of its own.
    pub workers: usize,
}

/// A way to run jobs.
pub trait Pool: Sized + Send + Sync + 'static {
    /// A pool of so many threads with default limits.
    ///
    /// # Errors
    /// Every [`PoolError`].
    fn new(threads: u32) -> Result<Self, PoolError> {
        Self::with_options(PoolOptions::new(threads))
    }

    /// A pool.
    ///
    /// # Errors
    /// Every [`PoolError`].
    fn with_options(options: PoolOptions) -> Result<Self, PoolError>;

    /// Runs a job: on a thread of the pool, or before this returns where the pool has none.
    ///
    /// # Errors
    /// [`Busy`]; the job was dropped unrun.
    fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy>;

    /// What the pool is doing.
    fn figures(&self) -> PoolFigures;

    /// Refuses further jobs, runs what was accepted and waits for it. A second call returns at once. Called by a job
    /// of the pool itself, it does not wait, because it would wait for itself.
    fn shutdown(&self);
}
