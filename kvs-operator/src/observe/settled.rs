//! What applies that changed nothing have proven, see [`Settlement`]; and what configurations said when they were as they
//! were applied, to put back one that a paused rollout holds.
//!
//! What must hold: one entry for each child, and none for a child that is gone; a process that starts anew knows nothing
//! and asks the API server once more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plan::Settlement;

/// The last settlement of each child that needed one.
#[derive(Debug, Default)]
pub struct Settled {
    /// By the child's uid. Held for a look-up or an insert, never across an await.
    by_uid: Mutex<HashMap<String, Settlement>>,
    /// By the ConfigMap's uid. Held in the same way.
    configurations: Mutex<HashMap<String, String>>,
}

impl Settled {
    /// Remembers what an apply has proven.
    pub fn remember(&self, settlement: Settlement) {
        self.map().insert(settlement.uid.clone(), settlement);
    }

    /// What is known of the child with this uid.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<Settlement> {
        self.map().get(uid).cloned()
    }

    /// Remembers what an intact configuration says.
    pub fn keep(&self, uid: String, text: &str) {
        let mut texts = self.texts();
        if texts.get(&uid).is_none_or(|kept| kept != text) {
            texts.insert(uid, text.to_owned());
        }
    }

    /// What the ConfigMap with this uid said when it was last intact.
    #[must_use]
    pub fn kept(&self, uid: &str) -> Option<String> {
        self.texts().get(uid).cloned()
    }

    /// Forgets a child that is gone.
    pub fn forget(&self, uid: &str) {
        self.map().remove(uid);
        self.texts().remove(uid);
    }

    fn texts(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // The same as below.
        self.configurations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Settlement>> {
        // The map is whole between any two calls, so a panic elsewhere did not break it.
        self.by_uid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
