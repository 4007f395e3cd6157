//! RocksDB, Debian's library. `sync = true` for every durable change, logs recycled and the write pipelined (both are
//! faster than the defaults), no compression; a bulk load is batches that are not synced, and one sync at the end.

use std::ops::Range;
use std::path::Path;

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType, Options, WriteBatch,
    WriteOptions,
};

use crate::Result;
use crate::data::Data;
use crate::peer::{BATCH, CACHE_BYTES, Peer, Reader};

/// Logs that are kept to be written again, so that a sync changes no metadata.
const RECYCLED_LOGS: usize = 4;
/// Bits of the filter for each key, as RocksDB's own guide has it.
const FILTER_BITS: f64 = 10.0;

struct Rocksdb(DB);

/// Opens the store.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(usize::try_from(CACHE_BYTES)?)?);
    blocks.set_bloom_filter(FILTER_BITS, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_recycle_log_file_num(RECYCLED_LOGS);
    options.set_enable_pipelined_write(true);
    options.set_block_based_table_factory(&blocks);
    Ok(Box::new(Rocksdb(DB::open(&options, folder)?)))
}

fn write_options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

impl Rocksdb {
    /// Commits batches of a range without a sync, and syncs with the last one.
    fn in_batches(&self, indexes: Range<u64>, mut put: impl FnMut(&mut WriteBatch, u64)) -> Result<()> {
        for start in indexes.clone().step_by(BATCH) {
            let end = indexes.end.min(start + BATCH as u64);
            let mut batch = WriteBatch::default();
            for index in start..end {
                put(&mut batch, index);
            }
            self.0.write_opt(batch, &write_options(end == indexes.end))?;
        }
        Ok(())
    }
}

impl Peer for Rocksdb {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.put_opt(key, value, &write_options(true))?)
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        let mut batch = WriteBatch::default();
        for index in indexes {
            batch.put(data.key(*index), data.value(*index, version));
        }
        Ok(self.0.write_opt(batch, &write_options(true))?)
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| batch.delete(data.key(index)))
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.in_batches(indexes, |batch, index| batch.put(data.key(index), data.value(index, 0)))
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(RocksdbReader(&self.0)))
    }

    fn compact(&self) -> Result<bool> {
        // The last level too: a full compaction is one that leaves no dead bytes anywhere.
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.0.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct RocksdbReader<'a>(&'a DB);

impl Reader for RocksdbReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get_pinned(key)?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }
}
