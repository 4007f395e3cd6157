//! `SharedQueuePool`: a bounded queue that a fixed number of workers share.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::running::{Limits, Running};
use super::{Busy, Pool, PoolError, PoolFigures, PoolOptions};

type Job = Box<dyn FnOnce() + Send>;

/// Fixed workers that take jobs in the order of their coming.
pub struct SharedQueuePool {
    queue: Arc<Queue>,
    running: Arc<Running>,
    /// Taken by the first shutdown. Never locked while a job runs on this thread.
    workers: Mutex<Vec<JoinHandle<()>>>,
    threads: usize,
}

/// What the workers share.
#[derive(Default)]
struct Queue {
    /// Held only to push or pop.
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(Instant, Job)>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, or `None` when there will be none.
    fn next(&self) -> Option<(Instant, Job)> {
        let mut jobs = self.lock();
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.closed {
                return None;
            }
            jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }
}

impl Pool for SharedQueuePool {
    fn with_options(options: PoolOptions) -> Result<Self, PoolError> {
        options.check()?;
        let limits = Limits { queued: options.queue_jobs, accepted: usize::MAX };
        let threads = options.threads as usize;
        let pool = Self {
            queue: Arc::default(),
            running: Running::new(limits, options.observer),
            workers: Mutex::default(),
            threads,
        };
        for number in 0..threads {
            let (queue, running) = (Arc::clone(&pool.queue), Arc::clone(&pool.running));
            let worker = thread::Builder::new().name(format!("kvs-worker-{number}")).spawn(move || {
                while let Some((admitted, job)) = queue.next() {
                    running.run(admitted, job);
                }
            })?;
            pool.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(pool)
    }

    fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy> {
        let admitted = self.running.admit()?;
        self.queue.lock().waiting.push_back((admitted, Box::new(job)));
        self.queue.arrived.notify_one();
        Ok(())
    }

    fn figures(&self) -> PoolFigures {
        self.running.figures(Some(self.threads))
    }

    fn shutdown(&self) {
        let may_wait = self.running.close_and_wait();
        self.queue.close();
        if !may_wait {
            // The workers end by themselves when the queue is empty. Another one may be at a job that waits for this.
            return;
        }
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // Jobs can't end a worker by panicking, so there is nothing to learn from the result.
            let _ = worker.join();
        }
    }
}

impl Drop for SharedQueuePool {
    fn drop(&mut self) {
        self.shutdown();
    }
}
