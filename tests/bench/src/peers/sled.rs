//! sled 0.34. Its `flush` is no barrier (it asks for writeback, not for the device's cache), so an `fdatasync` of its
//! file follows each; without compression, which this build of sled doesn't have.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use sled::{Batch, Db};

use crate::Result;
use crate::data::Data;
use crate::peer::{BATCH, CACHE_BYTES, Peer, Reader};

struct Sled {
    database: Db,
    /// Everything but large values, which no figure has, lies in this one file.
    file: File,
}

/// Opens the store.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let database = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()?;
    let file = File::options().write(true).open(folder.join("db"))?;
    Ok(Box::new(Sled { database, file }))
}

impl Sled {
    fn sync(&self) -> Result<()> {
        self.database.flush()?;
        Ok(self.file.sync_data()?)
    }

    fn in_batches(&self, indexes: Range<u64>, mut put: impl FnMut(&mut Batch, u64)) -> Result<()> {
        for start in indexes.clone().step_by(BATCH) {
            let mut batch = Batch::default();
            for index in start..indexes.end.min(start + BATCH as u64) {
                put(&mut batch, index);
            }
            self.database.apply_batch(batch)?;
        }
        self.sync()
    }
}

impl Peer for Sled {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.database.insert(key, value)?;
        self.sync()
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        let mut batch = Batch::default();
        for index in indexes {
            batch.insert(data.key(*index), data.value(*index, version));
        }
        self.database.apply_batch(batch)?;
        self.sync()
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| batch.remove(data.key(index)))
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| batch.insert(data.key(index), data.value(index, 0)))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(SledReader(&self.database)))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

struct SledReader<'a>(&'a Db);

impl Reader for SledReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }
}
