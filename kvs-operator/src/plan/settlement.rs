//! `Settlement`: a child that the API server keeps in other words than it was asked, and that is as it was asked.
//!
//! The API server drops `readOnly: false`, `hostPort: 0` and whatever else is its own default, so a store that spells
//! such a value out looks changed at each look. No list of ours can know them all. But an apply that leaves the object as
//! it is proves that nothing was to be changed; what is remembered of it is a settlement.
//!
//! What must hold: it is of one object, of one wish and of all that the object says of itself. Whoever changes anything
//! but its status makes it another one, and the object is looked at anew.

use serde::Serialize;
use serde_json::Value;

use super::hash;

/// What an apply that changed nothing proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which object.
    pub uid: String,
    /// The hash of what it was asked to be.
    asked: String,
    /// The hash of what it is.
    is: String,
}

impl Settlement {
    /// A live object beside the hash of what it is asked to be.
    pub(super) fn new(live: &Value, asked: String) -> Self {
        let mut own = live.clone();
        if let Some(object) = own.as_object_mut() {
            object.remove("status");
        }
        if let Some(metadata) = own["metadata"].as_object_mut() {
            // They count writes, those to the status too.
            for field in ["resourceVersion", "managedFields", "generation"] {
                metadata.remove(field);
            }
        }
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        Self { uid, asked, is: hash::of_text(&own.to_string()) }
    }

    /// Whether an object is still the one that this is about, as it was.
    #[must_use]
    pub fn is_of<K: Serialize>(&self, live: &K) -> bool {
        let live = serde_json::to_value(live).expect("a Kubernetes object always has a JSON form");
        Self::new(&live, self.asked.clone()) == *self
    }
}
