//! The log's files while it runs: prepared ahead, sealed behind, replaced by compaction.
//!
//! What must hold, and what a crash leaves:
//!
//! | crash after …                         | leaves …                                     | next open …          |
//! |---------------------------------------|----------------------------------------------|----------------------|
//! | a segment's file is created           | a file that the manifest does not list       | removes it           |
//! | the manifest lists the new segment    | an empty segment                             | appends to it        |
//! | a full segment is cut to its records  | a shorter file that is not sealed yet        | reads it to its end  |
//! | the manifest says that it is sealed   | the wanted state                             |                      |
//! | a compaction's output is synced       | a file that the manifest does not list       | removes it           |
//! | the manifest lists output, not inputs | inputs that the manifest does not list       | removes them         |
//!
//! One of those inputs may become the next output (`recycle.rs`).
//!
//! This thread takes the manifest's lock and then the tail's, and never a lock of the index, so that an append which
//! waits for a segment under its key's lock always gets one.

use std::collections::BTreeSet;
use std::io;

use super::manifest::{Manifest, Sealed, SegmentEntry};
use super::segment::{self, Filling, Segment};
use super::table::{SegmentTable, View};
use super::tail::{Job, Retired};
use super::{IDLE_TICK, Log, SPACE_RETRY, Waiter};
use crate::error::{Error, Result};
use crate::repeated::Repeated;
use crate::storage::Storage;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, PoisonError};
use crate::zoo;

/// Files that are given up when the disk is full: the first, of one segment's size, so that a compaction has room for
/// its output; the second so that removals can be logged until it has given space back.
const COMPACTION_RESERVE_NAME: &str = "RESERVE.compaction";
const REMOVAL_RESERVE_NAME: &str = "RESERVE.removals";
/// The size of the second, in bytes: some ten thousand removals.
const REMOVAL_RESERVE_BYTES: u64 = 1024 * 1024;

/// What the thread has to do next.
enum Task<W> {
    Run(Job<W>),
    Seal(Retired),
    Prepare { capacity: u64, for_removal: bool },
}

impl<W: Waiter> Log<W> {
    /// The segments of this moment.
    pub(crate) fn view(&self) -> View {
        View(self.view.load())
    }

    /// All segments, in no order.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.view.load().iter().flatten().cloned().collect()
    }

    /// Changes the table, and shows the change to whoever takes a view from now on.
    pub(super) fn change_table(&self, change: impl FnOnce(&mut SegmentTable)) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut table);
        self.view.store(table.view());
    }

    /// Whether bytes are the header line of a segment of this log.
    pub(crate) fn is_header_of(&self, segment: &Segment, bytes: &[u8]) -> bool {
        segment::header_bytes_of(bytes, &self.id, segment.id).is_some()
    }

    /// The loop of the thread that prepares and seals segments. Ends when the log is closed or poisoned.
    pub(crate) fn run_segments(&self) {
        let unsealed = Repeated::default();
        while let Some(task) = self.next_task() {
            match task {
                Task::Run(job) => job(self),
                Task::Seal(retired) => {
                    if let Err(error) = self.seal(&retired) {
                        if let Some(failed) = unsealed.count() {
                            let segment = retired.segment.id;
                            tracing::warn!(%error, failed, segment, "a segment could not be sealed yet");
                        }
                        self.retry_later(retired);
                    }
                }
                Task::Prepare { capacity, for_removal } => self.prepare(capacity, for_removal),
            }
        }
    }

    /// Puts a segment back that could not be sealed and lets some time pass.
    fn retry_later(&self, retired: Retired) {
        let mut tail = self.lock();
        tail.retired.insert(0, retired);
        if !tail.stopping {
            drop(self.segment_work.wait_timeout(tail, SPACE_RETRY));
        }
    }

    /// Waits until there is something to do; `None` when the log ends.
    fn next_task(&self) -> Option<Task<W>> {
        let mut tail = self.lock();
        loop {
            if tail.stopping || tail.poisoned.is_some() {
                // Those who wait for them hear that nothing was done.
                tail.jobs.clear();
                return None;
            }
            if !tail.jobs.is_empty() {
                return Some(Task::Run(tail.jobs.remove(0)));
            }
            if tail.spare.is_none() && (!tail.no_space || tail.removal_waits) {
                let wanted_bytes = std::mem::take(&mut tail.wanted_bytes) + segment::MAX_HEADER_BYTES as u64;
                let capacity = self.options.segment_bytes.max(wanted_bytes);
                return Some(Task::Prepare { capacity, for_removal: tail.removal_waits });
            }
            if !tail.retired.is_empty() {
                return Some(Task::Seal(tail.retired.remove(0)));
            }
            let pause = if tail.no_space { SPACE_RETRY } else { IDLE_TICK };
            let (guard, timeout) = self.segment_work.wait_timeout(tail, pause).unwrap_or_else(PoisonError::into_inner);
            tail = guard;
            if tail.no_space && timeout.timed_out() {
                // Asks for a segment once more; if there is still no space, the flag comes back.
                tail.no_space = false;
            }
        }
    }

    /// Creates the next segment and lists it, or says that there is no space.
    fn prepare(&self, capacity: u64, for_removal: bool) {
        // While there is none to spare for the reserves, there is none for new data.
        let mut full = !self.restore_reserves();
        let mut created = if full && !for_removal { Err(Error::NoSpace) } else { self.create_listed(capacity) };
        if for_removal && matches!(created, Err(Error::NoSpace)) && self.storage.remove(REMOVAL_RESERVE_NAME).is_ok() {
            created = self.create_listed(capacity.min(REMOVAL_RESERVE_BYTES / 2));
        }
        full |= created.is_err();
        let mut tail = self.lock();
        if let Ok(segment) = created {
            self.change_table(|table| table.insert(Arc::clone(&segment)));
            tail.spare = Some(segment);
        }
        if full && tail.poisoned.is_none() && !self.no_space.load(Ordering::Relaxed) {
            tracing::error!("no space for the log: writes are refused, reads and removals go on");
        }
        tail.no_space = full;
        tail.removal_waits = false;
        self.no_space.store(full, Ordering::Relaxed);
        self.segment_ready.notify_all();
    }

    /// A new segment that the manifest lists.
    fn create_listed(&self, capacity: u64) -> Result<Arc<Segment>> {
        let filling = Filling::for_groups_of(self.group_bytes.load(Ordering::Relaxed));
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let segment = Segment::create(self.storage.as_ref(), &self.id, id, capacity, filling)
            .map_err(|error| self.space_or_poison("preparing a segment", error))?;
        let entry = SegmentEntry { id, sealed: None };
        self.change_manifest(|manifest| manifest.segments.push(entry)).inspect_err(|error| {
            if matches!(error, Error::NoSpace) {
                let _ = self.storage.remove(&segment::name_of(id));
            }
        })?;
        Ok(Arc::new(segment))
    }

    /// Cuts a full segment to its records and lists it as sealed; one without records goes.
    pub(super) fn seal(&self, retired: &Retired) -> Result<()> {
        self.flush()?;
        let Retired { segment, sealed } = retired;
        if sealed.records == 0 {
            return self.discard(segment);
        }
        let cut = segment.file.set_length(sealed.bytes).and_then(|()| segment.file.sync_data());
        cut.map_err(|error| self.space_or_poison("sealing a segment", error))?;
        self.change_manifest(|manifest| {
            seal_entry(manifest, segment.id, *sealed);
            manifest.sealed_through = manifest.sealed_through.max(sealed.last);
        })?;
        let _ = segment.sealed.set(*sealed);
        Ok(())
    }

    /// Takes a segment without records out of the log.
    fn discard(&self, segment: &Arc<Segment>) -> Result<()> {
        self.change_manifest(|manifest| manifest.segments.retain(|entry| entry.id != segment.id))?;
        self.forget(std::slice::from_ref(segment));
        Ok(())
    }

    /// Seals everything, when nothing is appended any more.
    pub(super) fn seal_segments(&self) -> Result<()> {
        let (retired, active, sealed, spare) = {
            let mut tail = self.lock();
            let retired = std::mem::take(&mut tail.retired);
            (retired, Arc::clone(&tail.active), tail.seal_of_active(), tail.spare.take())
        };
        for retired in retired {
            self.seal(&retired)?;
        }
        self.seal(&Retired { segment: active, sealed })?;
        match spare {
            Some(segment) => self.discard(&segment),
            None => Ok(()),
        }
    }

    /// A file for the output of a compaction, listed nowhere yet: one that was kept, which may be longer than what is
    /// written to it, or a new one that is empty but for its header.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn create_output(&self) -> io::Result<Segment> {
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        match self.recycle(id) {
            Some(segment) => Ok(segment),
            None => Segment::create(self.storage.as_ref(), &self.id, id, 0, Filling::Zeros),
        }
    }

    /// Gives up the reserve of compactions, until [`end_reserve_use`](Self::end_reserve_use). Returns whether there was
    /// one.
    pub(crate) fn release_reserve(&self) -> bool {
        self.reserve_in_use.store(true, Ordering::SeqCst);
        let released = self.storage.remove(COMPACTION_RESERVE_NAME).is_ok();
        if released && let Some(times) = self.reserve_told.count() {
            tracing::warn!(times, "the disk is full: compaction uses its reserve");
        }
        released
    }

    /// The compaction that may have used the reserve has ended: it can be set aside again.
    pub(crate) fn end_reserve_use(&self) {
        self.reserve_in_use.store(false, Ordering::SeqCst);
    }

    /// Sets the reserves aside, where they are missing; returns whether both are there.
    fn restore_reserves(&self) -> bool {
        if zoo::bug("reserve-not-kept") {
            return true;
        }
        if self.reserve_in_use.load(Ordering::SeqCst) {
            // Its space must not be taken away from the compaction that needs it.
            return false;
        }
        let segment_bytes = self.options.segment_bytes;
        let reserves = [
            (COMPACTION_RESERVE_NAME, segment_bytes),
            (REMOVAL_RESERVE_NAME, segment_bytes.min(REMOVAL_RESERVE_BYTES)),
        ];
        reserves.into_iter().all(|(name, bytes)| self.restore_reserve(name, bytes).is_ok())
    }

    /// Sets one reserve aside, unless it is there.
    fn restore_reserve(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = match self.storage.create(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.storage.open(name)?.length()? >= bytes {
                    return Ok(());
                }
                // A crash left it half filled: it keeps too little free.
                self.storage.remove(name)?;
                self.storage.create(name)?
            }
            Err(error) => return Err(error),
        };
        segment::fill(file.as_ref(), &[], bytes).inspect_err(|_| {
            let _ = self.storage.remove(name);
        })
    }

    /// Lists a compaction's output instead of its inputs, durably. From here on the inputs are garbage.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing changed; [`Error::Poisoned`].
    pub(crate) fn replace(&self, inputs: &[Arc<Segment>], output: Option<(&Segment, Sealed)>) -> Result<()> {
        let gone: BTreeSet<u64> = inputs.iter().map(|segment| segment.id).collect();
        self.change_manifest(|manifest| {
            manifest.segments.retain(|entry| !gone.contains(&entry.id));
            if let Some((segment, sealed)) = output {
                manifest.segments.push(SegmentEntry { id: segment.id, sealed: Some(sealed) });
            }
        })
    }

    /// Gives a compaction's output a slot, so that the index can name it.
    pub(crate) fn adopt(&self, segment: Segment, sealed: Sealed) -> Arc<Segment> {
        segment.settle(sealed.bytes);
        let _ = segment.sealed.set(sealed);
        let segment = Arc::new(segment);
        self.change_table(|table| table.insert(Arc::clone(&segment)));
        segment
    }

    /// Removes the files and slots of segments that the manifest does not list and the index does not name any more.
    pub(crate) fn forget(&self, segments: &[Arc<Segment>]) {
        self.remove_files(segments);
        self.change_table(|table| segments.iter().for_each(|segment| table.remove(segment)));
    }

    pub(super) fn remove_files(&self, segments: &[Arc<Segment>]) {
        for segment in segments {
            if let Err(error) = self.storage.remove(&segment::name_of(segment.id)) {
                tracing::warn!(segment = segment.id, %error, "a file that is no longer needed could not be removed");
            }
        }
    }

    /// Changes the manifest and makes the change durable.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing changed; [`Error::Poisoned`].
    pub(super) fn change_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = manifest.clone();
        next.durable = self.lock().synced_sequence;
        change(&mut next);
        next.segments.sort_by_key(|entry| entry.id);
        next.generation += 1;
        if let Err(error) = next.stage(self.storage.as_ref()) {
            drop(manifest);
            return Err(self.space_or_poison("writing the manifest", error));
        }
        // From here on it is unknown which manifest a crash would leave, so a failure ends writing, a full disk as well.
        if let Err(error) = Manifest::commit(self.storage.as_ref()) {
            drop(manifest);
            return Err(self.poison(format!("replacing the manifest failed: {error}")));
        }
        *manifest = next;
        Ok(())
    }

    /// What a failure beside the tail means: a full disk passes, anything else ends writing for good.
    fn space_or_poison(&self, context: &str, error: io::Error) -> Error {
        if is_full(&error) { Error::NoSpace } else { self.poison(format!("{context} failed: {error}")) }
    }
}

/// Gives up both reserves, for an opening that has no space to write a manifest; returns whether there was one.
pub(super) fn release_reserves(storage: &dyn Storage) -> bool {
    let released = [REMOVAL_RESERVE_NAME, COMPACTION_RESERVE_NAME].map(|name| storage.remove(name).is_ok());
    released.contains(&true)
}

/// Whether a file keeps space free and holds nothing.
pub(crate) fn is_reserve(name: &str) -> bool {
    [COMPACTION_RESERVE_NAME, REMOVAL_RESERVE_NAME].contains(&name)
}

/// Whether an error says that there is no space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Marks a listed segment as sealed.
pub(super) fn seal_entry(manifest: &mut Manifest, id: u64, sealed: Sealed) {
    for entry in manifest.segments.iter_mut().filter(|entry| entry.id == id) {
        entry.sealed = Some(sealed);
    }
}
