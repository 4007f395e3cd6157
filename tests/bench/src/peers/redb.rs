//! redb: copy-on-write B-trees. Immediate durability, which is its default; a bulk load is one transaction.

use std::ops::Range;
use std::path::Path;

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::Result;
use crate::data::Data;
use crate::peer::{CACHE_BYTES, Peer, Reader};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");

struct Redb(Database);

/// Opens the store.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let database =
        Database::builder().set_cache_size(usize::try_from(CACHE_BYTES)?).create(folder.join("data.redb"))?;
    let transaction = database.begin_read()?;
    let is_new = transaction.list_tables()?.next().is_none();
    drop(transaction);
    if is_new {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
    }
    Ok(Box::new(Redb(database)))
}

type Table<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

impl Redb {
    fn write(&self, change: impl FnOnce(&mut Table<'_>) -> Result<()>) -> Result<()> {
        let transaction = self.0.begin_write()?;
        change(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    }
}

impl Peer for Redb {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|table| {
            table.insert(key, value)?;
            Ok(())
        })
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        self.write(|table| {
            for index in indexes {
                table.insert(data.key(*index).as_slice(), data.value(*index, version))?;
            }
            Ok(())
        })
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.write(|table| {
            for index in indexes {
                table.remove(data.key(index).as_slice())?;
            }
            Ok(())
        })
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.write(|table| {
            for index in indexes {
                table.insert(data.key(index).as_slice(), data.value(index, 0))?;
            }
            Ok(())
        })
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RedbReader(self.0.begin_read()?.open_table(TABLE)?)))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct RedbReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for RedbReader {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        if let Some(value) = &value {
            see(value.value());
        }
        Ok(value.is_some())
    }
}
