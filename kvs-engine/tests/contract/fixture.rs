//! How the suite opens each engine.

use kvs_engine::{KvStore, KvsEngine, MemoryEngine, Options, Result};

/// A place for one store. Opening it again after a close finds what was there, if the engine has a disk.
pub(crate) trait Fixture: Sized {
    /// The engine.
    type Engine: KvsEngine + std::fmt::Debug;

    /// A place with nothing in it.
    fn new() -> Self;

    /// Opens the store, or says why not.
    fn try_open(&self) -> Result<Self::Engine>;

    /// Opens the store.
    fn open(&self) -> Self::Engine {
        self.try_open().expect("the store opens")
    }
}

/// No place at all.
pub(crate) struct Memory;

impl Fixture for Memory {
    type Engine = MemoryEngine;

    fn new() -> Self {
        Self
    }

    fn try_open(&self) -> Result<MemoryEngine> {
        Ok(MemoryEngine::new())
    }
}

/// A folder that vanishes with the fixture.
#[cfg(feature = "sled")]
pub(crate) struct Sled(tempfile::TempDir);

#[cfg(feature = "sled")]
impl Fixture for Sled {
    type Engine = kvs_engine::SledEngine;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn try_open(&self) -> Result<kvs_engine::SledEngine> {
        kvs_engine::SledEngine::open(self.0.path())
    }
}

/// A folder that vanishes with the fixture.
pub(crate) struct Kvs(tempfile::TempDir);

impl Fixture for Kvs {
    type Engine = KvStore;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn try_open(&self) -> Result<KvStore> {
        KvStore::open(self.0.path())
    }
}

/// As [`Kvs`], with options that make it rotate and compact after a few records.
pub(crate) struct KvsSmallSegments(tempfile::TempDir);

impl Fixture for KvsSmallSegments {
    type Engine = KvStore;

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn try_open(&self) -> Result<KvStore> {
        let options = Options {
            segment_bytes: 64 * 1024,
            compaction_threshold_bytes: 4 * 1024,
            compaction_dead_percent: 1,
            ..Options::default()
        };
        KvStore::open_with(self.0.path(), options)
    }
}
