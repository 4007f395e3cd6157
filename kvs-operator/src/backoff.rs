//! How long a store waits after a failed reconcile: exponentially longer, with jitter, each store by itself.
//!
//! What must hold: a store that can't be reconciled costs the API server one try in five minutes, and takes nothing
//! from the others; a change of the store or of a child is looked at at once, whatever the wait.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::metrics::Metrics;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The first wait after a conflict: the watch brings the version that is there within milliseconds.
const FIRST_AFTER_CONFLICT: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// Namespace and name.
type Key = (String, String);

/// The stores that wait.
pub struct Backoff {
    /// Failures in a row of each store. Held for one look-up, never across an await.
    failures: Mutex<HashMap<Key, u32>>,
    metrics: Arc<Metrics>,
}

impl Backoff {
    /// Nobody waits.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { failures: Mutex::default(), metrics }
    }

    /// Counts a failure and says how long to wait.
    #[must_use]
    pub fn failed(&self, namespace: &str, name: &str, error: &Error) -> Duration {
        let first = if error.is_conflict() { FIRST_AFTER_CONFLICT } else { FIRST };
        let mut failures = self.map();
        let count = failures.entry((namespace.to_owned(), name.to_owned())).or_insert(0);
        *count = count.saturating_add(1);
        let wait = jittered(exponential(first, *count));
        self.report(&failures);
        wait
    }

    /// Forgets a store's failures, after a success or because it is gone.
    pub fn reset(&self, namespace: &str, name: &str) {
        let mut failures = self.map();
        if failures.remove(&(namespace.to_owned(), name.to_owned())).is_some() {
            self.report(&failures);
        }
    }

    fn report(&self, failures: &HashMap<Key, u32>) {
        self.metrics.objects_in_backoff.set(i64::try_from(failures.len()).unwrap_or(i64::MAX));
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        // The map is whole between any two calls, so a panic elsewhere did not break it.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait after so many failures in a row, before jitter.
fn exponential(first: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(LONGEST)
}

/// Between half and all of a time, so that stores which failed together do not return together.
#[must_use]
pub fn jittered(time: Duration) -> Duration {
    // Each RandomState has keys of its own, which are random: enough to spread, and no dependency.
    let share = RandomState::new().hash_one(time) % 1000;
    let thousandths = u32::try_from(500 + share / 2).unwrap_or(1000);
    time.saturating_mul(thousandths) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed_out() -> Error {
        Error::TimedOut { action: "applying".into() }
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_a_success_ends_them() {
        let backoff = Backoff::new(Arc::new(Metrics::new().unwrap()));
        for expected_seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = backoff.failed("shop", "orders", &timed_out());
            let longest = Duration::from_secs(expected_seconds);
            assert!(wait <= longest && wait >= longest / 2, "{wait:?} for {longest:?}");
        }
        assert_eq!(backoff.metrics.objects_in_backoff.get(), 1);
        backoff.reset("shop", "orders");
        assert!(backoff.failed("shop", "orders", &timed_out()) <= FIRST);
        backoff.reset("shop", "orders");
        assert_eq!(backoff.metrics.objects_in_backoff.get(), 0);
    }

    #[test]
    fn the_longest_row_of_failures_does_not_overflow() {
        assert_eq!(exponential(FIRST, u32::MAX), LONGEST);
    }
}
