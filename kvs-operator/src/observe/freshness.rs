//! Which version of an object the operator's own last write made.
//!
//! What must hold: an entry lives only until the cache has caught up, so the map stays as small as the writes under way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt};

/// Kind, namespace and name.
type Key = (String, String, String);

/// The versions that the operator's own writes made and the caches may not have yet.
#[derive(Debug, Default)]
pub struct Freshness {
    /// The version of the last write to each object. Held for a look-up or an insert, never across an await.
    written: Mutex<HashMap<Key, u64>>,
}

impl Freshness {
    /// Remembers what a write made.
    pub fn wrote<K: Resource<DynamicType = ()>>(&self, written: &K) {
        if let Some(version) = version(written) {
            self.map().insert(key(written), version);
        }
    }

    /// Whether a cached object is at least as new as the last write to it. If so, that write is forgotten.
    #[must_use]
    pub fn is_current<K: Resource<DynamicType = ()>>(&self, cached: &K) -> bool {
        let key = key(cached);
        let mut map = self.map();
        let Some(written) = map.get(&key).copied() else { return true };
        if version(cached).is_none_or(|version| version < written) {
            return false;
        }
        map.remove(&key);
        true
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Resource<DynamicType = ()>>(&self, gone: &K) {
        self.map().remove(&key(gone));
    }

    /// Forgets the object of that name, which is gone.
    pub fn forget_name<K: Resource<DynamicType = ()>>(&self, namespace: &str, name: &str) {
        self.map().remove(&(K::kind(&()).into_owned(), namespace.to_owned(), name.to_owned()));
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        // The map is whole between any two calls, so a panic elsewhere did not break it.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (K::kind(&()).into_owned(), object.namespace().unwrap_or_default(), object.name_any())
}

/// The version as a number. Kubernetes lets clients compare versions of one kind so since 1.35; before it was so too.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn at(version: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some("orders-config".into());
        map.metadata.namespace = Some("shop".into());
        map.metadata.resource_version = Some(version.into());
        map
    }

    #[test]
    fn a_cache_is_trusted_once_it_has_the_last_write() {
        let freshness = Freshness::default();
        assert!(freshness.is_current(&at("5")), "nothing was written");
        freshness.wrote(&at("9"));
        assert!(!freshness.is_current(&at("5")));
        assert!(freshness.is_current(&at("10")), "a later version holds the write too");
        assert!(freshness.map().is_empty());
    }

    #[test]
    fn an_object_that_is_gone_leaves_nothing() {
        let freshness = Freshness::default();
        freshness.wrote(&at("9"));
        freshness.forget(&at("12"));
        assert!(freshness.map().is_empty());
        freshness.wrote(&at("9"));
        freshness.forget_name::<ConfigMap>("shop", "orders-config");
        assert!(freshness.map().is_empty());
    }
}
