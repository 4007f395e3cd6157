//! `ChosenPool`: the strategy that the configuration names.

use kvs_protocol::names::PoolStrategy;

use super::{Busy, InlinePool, NaivePool, Pool, PoolError, PoolFigures, PoolOptions, RayonPool, SharedQueuePool};

/// One of the four strategies.
pub enum ChosenPool {
    /// A new thread for each job.
    Naive(NaivePool),
    /// A bounded queue that a fixed number of workers share.
    SharedQueue(SharedQueuePool),
    /// Rayon's work-stealing pool.
    Rayon(RayonPool),
    /// On the thread that brings the job.
    Inline(InlinePool),
}

/// Calls the same method on whichever pool there is.
macro_rules! each {
    ($self:expr, $pool:ident => $call:expr) => {
        match $self {
            Self::Naive($pool) => $call,
            Self::SharedQueue($pool) => $call,
            Self::Rayon($pool) => $call,
            Self::Inline($pool) => $call,
        }
    };
}

impl ChosenPool {
    /// A pool of the named strategy.
    ///
    /// # Errors
    /// Every [`PoolError`].
    pub fn open(strategy: PoolStrategy, options: PoolOptions) -> Result<Self, PoolError> {
        Ok(match strategy {
            PoolStrategy::Naive => Self::Naive(NaivePool::with_options(options)?),
            PoolStrategy::SharedQueue => Self::SharedQueue(SharedQueuePool::with_options(options)?),
            PoolStrategy::Rayon => Self::Rayon(RayonPool::with_options(options)?),
            PoolStrategy::Inline => Self::Inline(InlinePool::with_options(options)?),
        })
    }

    /// Runs a job, as [`Pool::spawn`].
    ///
    /// # Errors
    /// [`Busy`]; the job was dropped unrun.
    pub fn spawn<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), Busy> {
        each!(self, pool => pool.spawn(job))
    }

    /// What the pool is doing.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        each!(self, pool => pool.figures())
    }

    /// Runs what was accepted and waits for it, as [`Pool::shutdown`].
    pub fn shutdown(&self) {
        each!(self, pool => pool.shutdown());
    }
}
