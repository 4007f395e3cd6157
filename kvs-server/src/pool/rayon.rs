//! `RayonPool`: rayon's work-stealing pool, with the bound that rayon itself does not have.

use std::sync::Arc;

use super::running::{Limits, Running};
use super::{Busy, Pool, PoolError, PoolFigures, PoolOptions};

/// A rayon pool of its own, not the global one.
pub struct RayonPool {
    pool: rayon::ThreadPool,
    running: Arc<Running>,
}

impl Pool for RayonPool {
    fn with_options(options: PoolOptions) -> Result<Self, PoolError> {
        options.check()?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads as usize)
            .thread_name(|number| format!("kvs-rayon-{number}"))
            .build()?;
        let limits = Limits { queued: options.queue_jobs, accepted: usize::MAX };
        Ok(Self { pool, running: Running::new(limits, options.observer) })
    }

    fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy> {
        let admitted = self.running.admit()?;
        let running = Arc::clone(&self.running);
        self.pool.spawn_fifo(move || running.run(admitted, job));
        Ok(())
    }

    fn figures(&self) -> PoolFigures {
        self.running.figures(Some(self.pool.current_num_threads()))
    }

    fn shutdown(&self) {
        // Either way there is nothing more to do.
        let _ = self.running.close_and_wait();
    }
}

impl Drop for RayonPool {
    /// Waits for the jobs; rayon's own drop then tells its idle threads to end.
    fn drop(&mut self) {
        self.shutdown();
    }
}
