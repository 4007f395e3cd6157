//! `NaivePool`: a new thread for each job. It shows what the other strategies save.

use std::sync::Arc;
use std::thread;

use super::running::{Limits, Running};
use super::{Busy, MAX_NAIVE_THREADS, Pool, PoolError, PoolFigures, PoolOptions};

/// A new thread for each job, at most [`MAX_NAIVE_THREADS`] at once.
pub struct NaivePool {
    running: Arc<Running>,
}

impl Pool for NaivePool {
    fn with_options(options: PoolOptions) -> Result<Self, PoolError> {
        options.check()?;
        let limits = Limits { queued: MAX_NAIVE_THREADS, accepted: MAX_NAIVE_THREADS };
        Ok(Self { running: Running::new(limits, options.observer) })
    }

    fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy> {
        let admitted = self.running.admit()?;
        let running = Arc::clone(&self.running);
        let thread = thread::Builder::new().name("kvs-naive".to_owned());
        match thread.spawn(move || running.run(admitted, job)) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.running.revoke()),
        }
    }

    fn figures(&self) -> PoolFigures {
        self.running.figures(None)
    }

    fn shutdown(&self) {
        // Either way there is nothing more to do.
        let _ = self.running.close_and_wait();
    }
}

impl Drop for NaivePool {
    fn drop(&mut self) {
        self.shutdown();
    }
}
