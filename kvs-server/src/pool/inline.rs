//! `InlinePool`: the caller runs the job itself, so that nothing is handed between threads.

use std::sync::Arc;

use super::running::{Limits, Running};
use super::{Busy, Pool, PoolError, PoolFigures, PoolOptions};

/// Runs each job on the thread that brings it, before [`Pool::spawn`] returns. Never [`Busy`] until it is shut down.
pub struct InlinePool {
    running: Arc<Running>,
}

impl Pool for InlinePool {
    fn with_options(options: PoolOptions) -> Result<Self, PoolError> {
        options.check()?;
        let limits = Limits { queued: usize::MAX, accepted: usize::MAX };
        Ok(Self { running: Running::new(limits, options.observer) })
    }

    fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy> {
        let admitted = self.running.admit()?;
        self.running.run(admitted, job);
        Ok(())
    }

    fn figures(&self) -> PoolFigures {
        PoolFigures { queue_capacity_jobs: 0, ..self.running.figures(Some(0)) }
    }

    fn shutdown(&self) {
        // Either way there is nothing more to do.
        let _ = self.running.close_and_wait();
    }
}

impl Drop for InlinePool {
    fn drop(&mut self) {
        self.shutdown();
    }
}
