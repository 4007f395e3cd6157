//! heed, which is LMDB: one writer, a map of the file. Its default flags sync every commit; a bulk load is one
//! transaction.

use std::ops::Range;
use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithTls};

use crate::Result;
use crate::data::Data;
use crate::peer::{Peer, Reader};

/// The most that the file can grow to. Only address space, so that no figure meets it.
const MAP_BYTES: usize = 64 << 30;
/// Threads that may read at once: every thread of a figure.
const READERS: u32 = 126;

struct Heed {
    environment: Env<WithTls>,
    table: Database<Bytes, Bytes>,
}

/// Opens the store.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(READERS);
    #[expect(unsafe_code, reason = "nobody else changes the mapped file: it lies in a folder of this run")]
    let environment = unsafe { options.open(folder) }?;
    let transaction = environment.read_txn()?;
    let found = environment.open_database(&transaction, None)?;
    transaction.commit()?;
    let table = match found {
        Some(table) => table,
        None => {
            let mut transaction = environment.write_txn()?;
            let table = environment.create_database(&mut transaction, None)?;
            transaction.commit()?;
            table
        }
    };
    Ok(Box::new(Heed { environment, table }))
}

impl Heed {
    fn write(&self, change: impl FnOnce(&mut RwTxn<'_>) -> Result<()>) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        change(&mut transaction)?;
        Ok(transaction.commit()?)
    }
}

impl Peer for Heed {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|transaction| Ok(self.table.put(transaction, key, value)?))
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        self.write(|transaction| {
            for index in indexes {
                self.table.put(transaction, &data.key(*index), data.value(*index, version))?;
            }
            Ok(())
        })
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.write(|transaction| {
            for index in indexes {
                self.table.delete(transaction, &data.key(index))?;
            }
            Ok(())
        })
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.write(|transaction| {
            for index in indexes {
                self.table.put(transaction, &data.key(index), data.value(index, 0))?;
            }
            Ok(())
        })
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(HeedReader { transaction: self.environment.read_txn()?, table: self.table }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

struct HeedReader<'a> {
    transaction: RoTxn<'a, WithTls>,
    table: Database<Bytes, Bytes>,
}

impl Reader for HeedReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.table.get(&self.transaction, key)?;
        if let Some(value) = value {
            see(value);
        }
        Ok(value.is_some())
    }
}
