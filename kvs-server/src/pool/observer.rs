//! Who hears of a pool's jobs: the hook for metrics.

use std::time::Duration;

/// Hears of jobs, on the thread that runs them. Must be quick and must not panic.
pub trait PoolObserver: Send + Sync + 'static {
    /// A job begins after it waited so long.
    fn began(&self, _waited: Duration) {}

    /// A job ended after it ran so long, by a panic or not.
    fn ended(&self, _ran: Duration, _panicked: bool) {}

    /// A job was refused for want of room.
    fn rejected(&self) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl PoolObserver for NoObserver {}
