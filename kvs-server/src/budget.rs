//! `Budget` and `Lease`: the bytes that all connections together may use beyond their small allowances.
//!
//! What must hold: the sum of all leases is what the budget counts; a lease gives back what it has when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvs_protocol::{ErrorCode, WireError};

use crate::limits::CONNECTION_ALLOWANCE_BYTES;

/// Leases grow and shrink in steps of this many bytes, so that the shared counter is touched seldom.
const STEP_BYTES: usize = 16 * 1024;

/// The bytes in flight of all connections.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit_bytes: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit_bytes: AtomicUsize::new(limit_bytes) })
    }

    /// Changes the limit. What is in use beyond a lower one is given back as usual.
    pub(crate) fn set_limit(&self, limit_bytes: usize) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Bytes beyond allowances that are in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that connections should use.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, to be given back by [`give`](Self::give); `false` when they are not there.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before + bytes <= self.limit_bytes();
        if !has_room {
            self.give(bytes);
        }
        has_room
    }

    /// Gives back what was taken.
    pub(crate) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn exhausted(&self) -> bool {
        self.used_bytes() >= self.limit_bytes()
    }

    /// Whether refusals, which are answers too, have used half as much again.
    fn overdrawn(&self) -> bool {
        let limit_bytes = self.limit_bytes();
        self.used_bytes() >= limit_bytes + limit_bytes / 2
    }
}

/// What one connection has of the budget.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Lease {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Takes note of what the connection uses in all, although that may pass the limit: the bytes are there already.
    pub(crate) fn record(&mut self, used_bytes: usize) {
        let bytes = beyond_allowance(used_bytes);
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Asks before using more; `false` means that the others use too much now.
    pub(crate) fn try_grow(&mut self, used_bytes: usize) -> bool {
        let bytes = beyond_allowance(used_bytes);
        if bytes <= self.bytes {
            return true;
        }
        let has_room = self.budget.take(bytes - self.bytes);
        if has_room {
            self.bytes = bytes;
        }
        has_room
    }

    /// Whether this connection is among those that use too much now.
    pub(crate) fn is_too_much(&self) -> bool {
        self.bytes > 0 && self.budget.exhausted()
    }

    /// Whether nobody is read now who has not taken the answers that are there.
    pub(crate) fn is_scarce(&self) -> bool {
        self.budget.exhausted()
    }

    /// Whether this connection is among those that use so much that even refusing is too much.
    pub(crate) fn is_far_too_much(&self) -> bool {
        self.bytes > 0 && self.budget.overdrawn()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.record(0);
    }
}

/// What a request is answered while all connections together use too much memory.
pub(crate) fn too_many_bytes() -> WireError {
    WireError::new(ErrorCode::Busy, "too many bytes in flight; try again later")
}

fn beyond_allowance(used_bytes: usize) -> usize {
    used_bytes.saturating_sub(CONNECTION_ALLOWANCE_BYTES).next_multiple_of(STEP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_connections_cost_nothing_and_large_ones_share_the_limit() {
        let budget = Budget::new(64 * STEP_BYTES);
        let (mut small, mut large) = (Lease::new(Arc::clone(&budget)), Lease::new(Arc::clone(&budget)));
        assert!(small.try_grow(CONNECTION_ALLOWANCE_BYTES));
        assert_eq!(budget.used_bytes(), 0);
        assert!(large.try_grow(CONNECTION_ALLOWANCE_BYTES + 64 * STEP_BYTES));
        assert!(!small.try_grow(CONNECTION_ALLOWANCE_BYTES + 1), "there is no room beside the large one");
        assert!(!small.is_too_much(), "the small one may go on");
        assert!(large.is_too_much());
        large.record(CONNECTION_ALLOWANCE_BYTES + 96 * STEP_BYTES);
        assert!(large.is_far_too_much() && !small.is_far_too_much());
        large.record(0);
        assert!(small.try_grow(CONNECTION_ALLOWANCE_BYTES + 1));
        drop((small, large));
        assert_eq!(budget.used_bytes(), 0);
    }
}
