//! The engine of this repository, by its public interface and with its default options.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvs_engine::{Complete, Completion, Error, KvStore, KvsEngine, Mutation, Operation, Outcome};

use crate::Result;
use crate::data::Data;
use crate::peer::{BATCH, Peer, Reader};

struct Ours(KvStore);

/// Opens the store.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Ours(KvStore::open(folder)?)))
}

/// Takes the answers of a bulk load.
#[derive(Default)]
struct Answers {
    count: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl Complete for Answers {
    fn complete(&self, _token: u64, result: kvs_engine::Result<Outcome>) {
        if let Err(error) = result {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        self.count.fetch_add(1, Ordering::Release);
    }
}

impl Ours {
    /// Submits operations without waiting for each, then waits for all.
    fn pipeline(&self, operations: impl Iterator<Item = Operation>) -> Result<()> {
        let answers = Arc::new(Answers::default());
        let mut submitted = 0;
        for operation in operations {
            self.0.submit(operation, Completion::new(Arc::clone(&answers) as Arc<dyn Complete>, submitted));
            submitted += 1;
        }
        self.0.flush()?;
        // What a flush has made durable is answered by the thread that synced it, at the latest now.
        while answers.count.load(Ordering::Acquire) < submitted {
            std::thread::yield_now();
        }
        match answers.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// The ranges of a batch each that a range is made of.
fn batches(indexes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = indexes.end;
    indexes.step_by(BATCH).map(move |start| start..end.min(start + BATCH as u64))
}

impl Peer for Ours {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.set(key, value)?)
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        let set = |index: &u64| Mutation::Set { key: data.key(*index), value: data.value(*index, version).to_vec() };
        Ok(self.0.write_batch(indexes.iter().map(set).collect())?)
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        self.pipeline(
            batches(indexes)
                .map(|batch| Operation::Batch(batch.map(|index| Mutation::Remove { key: data.key(index) }).collect())),
        )
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        // KVS_BENCH_BULK compares our ways to load.
        let set = |index| Mutation::Set { key: data.key(index), value: data.value(index, 0).to_vec() };
        match std::env::var("KVS_BENCH_BULK").as_deref() {
            Ok("batches") => self.pipeline(batches(indexes).map(|batch| Operation::Batch(batch.map(set).collect()))),
            Ok("blocking") => {
                for batch in batches(indexes) {
                    self.0.write_batch(batch.map(set).collect())?;
                }
                Ok(self.0.flush()?)
            }
            // The fastest: 2.0 s for 2 M keys, where batches that are not waited for take 2.2 s.
            _ => self.pipeline(
                indexes.map(|index| Operation::Set { key: data.key(index), value: data.value(index, 0).to_vec() }),
            ),
        }
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(OursReader(&self.0)))
    }

    fn compact(&self) -> Result<bool> {
        self.0.compact()?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct OursReader<'a>(&'a KvStore);

impl Reader for OursReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }
}
