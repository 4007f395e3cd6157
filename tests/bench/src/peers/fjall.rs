//! fjall: an LSM tree with a journal. `SyncData` for every durable change, no compression; a bulk load is batches that
//! are not synced, and one sync at the end.

use std::ops::Range;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use crate::Result;
use crate::data::Data;
use crate::peer::{BATCH, CACHE_BYTES, Peer, Reader};

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

/// Opens the store. Compression is off because this build of fjall has none.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let database = Database::builder(folder).cache_size(CACHE_BYTES).open()?;
    let keyspace = database.keyspace("data", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Fjall {
    /// Commits batches of a range without a sync, and syncs once.
    fn in_batches(&self, indexes: Range<u64>, mut put: impl FnMut(&mut OwnedWriteBatch, u64)) -> Result<()> {
        for start in indexes.clone().step_by(BATCH) {
            let mut batch = self.database.batch();
            for index in start..indexes.end.min(start + BATCH as u64) {
                put(&mut batch, index);
            }
            batch.commit()?;
        }
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}

impl Peer for Fjall {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for index in indexes {
            batch.insert(&self.keyspace, data.key(*index), data.value(*index, version));
        }
        Ok(batch.commit()?)
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| batch.remove(&self.keyspace, data.key(index)))
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| {
            batch.insert(&self.keyspace, data.key(index), data.value(index, 0));
        })
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(FjallReader(&self.keyspace)))
    }

    fn compact(&self) -> Result<bool> {
        self.keyspace.rotate_memtable_and_wait()?;
        self.keyspace.major_compact()?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

struct FjallReader<'a>(&'a Keyspace);

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }
}
