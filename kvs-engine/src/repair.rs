//! Repair: what can be saved of a damaged store, and what is lost.
//!
//! [`plan`] reads everything and writes nothing; [`Plan::save_into`] writes what it found into a **new** folder. The
//! damaged one is never changed: it may be all that a person has.
//!
//! The rule is that of every opening: of all intact records about a key the one with the highest sequence decides. So
//! where the newest record of a key is damaged, an older one decides again: an older value comes back, or, where the
//! damaged record was a removal, a removed key. [`Loss`] says for each damaged place what that means for the keys that
//! can still be read there, and that others may be concerned where none can.
//!
//! A batch of several lines of which one is damaged is saved in part: its other lines are intact records.
//!
//! What must hold: nothing that a record with a fitting checksum says is left out, but the torn tail, which nobody was
//! ever told of; nothing is made up.
//!
//! The memory it takes is that of all keys, twice.

mod salvage;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::backup::check_empty;
use crate::engine::KvsEngine as _;
use crate::error::{Error, Result};
use crate::kvs::KvStore;
use crate::limits::{HIGHEST_MAX_VALUE_BYTES, MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS};
use crate::log::segment;
use crate::operation::Mutation;
use crate::options::Options;
use crate::scan::Entry;
use crate::storage::{RealStorage, Storage};
use crate::verify::{self, Finding, FindingKind};

/// The most bytes of keys and values that are written as one batch.
const BATCH_BYTES: usize = MAX_BATCH_BYTES / 16;
/// The new store has room for its log in so many segments at least, unless they would be too small or too large.
const FEWEST_SEGMENTS: u64 = 16;
/// Smaller segments would save nothing worth having.
const SMALLEST_SEGMENT_BYTES: u64 = 1024 * 1024;

/// What a damaged place means for one key whose name can still be read in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyLoss {
    /// The key as text; what is no text in it is replaced. It comes from damaged bytes, so it may be wrong itself.
    pub key: String,
    /// Whether the damaged record removed the key.
    pub was_removal: bool,
    /// What the repaired store says of the key.
    pub then: Then,
}

/// What a repaired store says of a key whose record is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Then {
    /// A newer record is intact: nothing is lost.
    NothingIsLost,
    /// An older value comes back.
    OlderValue,
    /// A key that was removed comes back.
    RemovedKeyComesBack,
    /// The key is not there.
    Missing,
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What verification says of it.
    #[serde(flatten)]
    pub finding: Finding,
    /// The sequences that may have been there, both included; zeros when that is unknown.
    pub first_sequence: u64,
    /// See `first_sequence`.
    pub last_sequence: u64,
    /// The keys that can still be read in it, each with what becomes of it.
    pub keys: Vec<KeyLoss>,
    /// Whether there may be records in it whose keys can't be read. Each of them may lose its newest value, or come
    /// back although it was removed.
    pub others: bool,
}

/// What a repair saves and what it loses.
pub struct Plan {
    storage: Arc<dyn Storage>,
    salvage: salvage::Salvage,
    /// What is lost, place by place.
    pub losses: Vec<Loss>,
    /// Keys that are saved, with their newest intact values.
    pub saved_keys: u64,
    /// Intact records.
    pub records: u64,
    /// Whether the manifest is damaged, so that segments are read that may not be part of the log any more: what a
    /// compaction had dropped may come back.
    pub without_manifest: bool,
    /// What the damaged log takes, in bytes.
    log_bytes: u64,
    /// Keeps every other process out of the damaged folder until the plan is dropped.
    _lock: Option<Box<dyn Send + Sync>>,
}

/// What a repair wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Keys in the new store.
    pub keys: u64,
}

/// Reads a damaged folder, which no process has open, and says what a repair would save and lose. Writes nothing.
///
/// # Errors
/// [`Error::Locked`], [`Error::WrongFolder`], I/O errors.
pub fn plan(folder: impl AsRef<Path>) -> Result<Plan> {
    let folder = folder.as_ref();
    let storage = RealStorage::existing(folder)
        .map_err(|error| Error::io(format!("opening the folder {}", folder.display()), error))?;
    plan_storage(Arc::new(storage))
}

/// As [`plan`], of any [`Storage`].
///
/// # Errors
/// As [`plan`].
pub fn plan_storage(storage: Arc<dyn Storage>) -> Result<Plan> {
    let lock = verify::lock(storage.as_ref())?;
    let names = verify::sorted_names(storage.as_ref())?;
    let (report, manifest) = verify::check_folder(storage.as_ref(), &names)?;
    let salvage = salvage::Salvage::read(storage.as_ref(), &names, manifest.as_ref())?;
    // Nothing is lost with the checkpoint, which holds only what the log holds as well.
    let is_loss = |finding: &Finding| finding.kind.is_damage() && finding.kind != FindingKind::DamagedCheckpoint;
    let damage = report.findings.into_iter().filter(is_loss);
    let losses = damage.map(|finding| salvage.loss_of(storage.as_ref(), finding)).collect::<Result<_>>()?;
    let mut log_bytes = 0;
    for name in names.iter().filter(|name| segment::id_of(name).is_some()) {
        let length = storage.open(name).and_then(|file| file.length());
        log_bytes += length.map_err(|error| Error::io(format!("reading {}", storage.path(name).display()), error))?;
    }
    Ok(Plan {
        saved_keys: salvage.live_keys(),
        records: salvage.records,
        without_manifest: manifest.is_none(),
        losses,
        salvage,
        storage,
        log_bytes,
        _lock: lock,
    })
}

/// Segments for a store beside a damaged one: a volume has room for what is prepared ahead and kept in reserve once, and
/// seldom twice.
fn segment_bytes_beside(log_bytes: u64) -> u64 {
    (log_bytes / FEWEST_SEGMENTS).clamp(SMALLEST_SEGMENT_BYTES, Options::default().segment_bytes)
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("saved_keys", &self.saved_keys)
            .field("losses", &self.losses)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Shows every entry that is saved, in no order.
    ///
    /// # Errors
    /// I/O errors, and what `show` says.
    pub fn entries(&self, mut show: impl FnMut(Entry) -> Result<()>) -> Result<()> {
        self.salvage.entries(self.storage.as_ref(), &mut show)
    }

    /// Writes a new store with all that is saved into a folder, which must be empty or missing. Until that is done, the
    /// folder does not open.
    ///
    /// # Errors
    /// [`Error::WrongFolder`] when the folder is not empty, and as [`KvStore::open_with`] and `set`.
    pub fn save_into(&self, folder: impl AsRef<Path>) -> Result<Repaired> {
        let folder = folder.as_ref();
        let storage = RealStorage::create(folder)
            .map_err(|error| Error::io(format!("creating the folder {}", folder.display()), error))?;
        self.save_into_storage(Arc::new(storage))
    }

    /// As [`save_into`](Self::save_into), into any [`Storage`].
    ///
    /// # Errors
    /// As [`save_into`](Self::save_into).
    pub fn save_into_storage(&self, target: Arc<dyn Storage>) -> Result<Repaired> {
        check_empty(target.as_ref())?;
        let mut options = Options { segment_bytes: segment_bytes_beside(self.log_bytes), ..Options::default() };
        options.limits.value_bytes = HIGHEST_MAX_VALUE_BYTES;
        let keys = KvStore::build(&target, options, |store| {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            self.entries(|Entry { key, value }| {
                let value = value.unwrap_or_default();
                let entry_bytes = key.len() + value.len();
                if !batch.is_empty() && (bytes + entry_bytes > BATCH_BYTES || batch.len() == MAX_BATCH_OPERATIONS) {
                    store.write_batch(std::mem::take(&mut batch))?;
                    bytes = 0;
                }
                bytes += entry_bytes;
                batch.push(Mutation::Set { key, value });
                Ok(())
            })?;
            store.write_batch(batch)?;
            Ok(store.stats().keys)
        })?;
        Ok(Repaired { keys })
    }
}
