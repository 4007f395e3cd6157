//! Taking entries away from a [`FramedLog`](super::FramedLog): the last ones by moving the end back, the first ones by
//! giving up whole segments.
//!
//! The end moves back in one step: a new segment gets a copy of what is kept of the segment that is cut, and one
//! manifest lists it in the place of that segment and all behind it. Nothing is changed in place, so a crash leaves the
//! old log or the new one, and no line behind the cut is in any file that the manifest lists. That matters twice: such
//! a line must not come back as an entry, and it says that sequences behind the cut were durable, which would make the
//! next opening look for them.
//!
//! | crash after …                              | leaves …                               | next open …               |
//! |--------------------------------------------|----------------------------------------|---------------------------|
//! | everything that was appended is synced     | the old log                            | has all of it             |
//! | the copy's file is created, or half filled | a file that the manifest does not list | has the old log, removes it |
//! | the copy is synced                         | the same                               | the same                  |
//! | `MANIFEST.new` is written                  | the old manifest                       | the same                  |
//! | it is renamed                              | the old or the new manifest            | has the old or the new log |
//! | the folder is synced                       | the new one; the cut files are not listed | has the new log, removes them |
//! | some of the cut files are removed          | the same                               | the same                  |
//!
//! Giving up old segments is the last three lines. Both run on the thread that prepares and seals segments, so that
//! nobody else changes the list of segments meanwhile.

use super::lines::Lines;
use super::manifest::SegmentEntry;
use super::notices::Notices;
use super::places::{Mark, Place, Places};
use super::segment::{self, Filling, Segment};
use super::segments::is_full;
use super::tail::Job;
use super::{Log, Waiter};
use crate::error::{Error, Result};
use crate::storage::write_all_at;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex, PoisonError};

/// How much of a copy is written at once, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Where the log ends from now on.
struct NewEnd {
    /// The segments that begin at or behind this sequence go.
    gone_from: u64,
    /// The lines of the first of them that stay: from the first mark up to, not including, the second.
    kept: Option<(Arc<Segment>, Mark, Mark)>,
    /// The sequence of the next entry.
    next_sequence: u64,
}

/// Lets appends go on when it is dropped.
struct Hold<'a, W: Waiter>(&'a Log<W>);

impl<W: Waiter> Drop for Hold<'_, W> {
    fn drop(&mut self) {
        self.0.lock().appends_held = false;
        self.0.segment_ready.notify_all();
    }
}

impl<W: Waiter> Log<W> {
    /// Has the thread that prepares and seals segments do something; it is dropped undone if the log ends first. One for
    /// each caller, who waits for it.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub(super) fn post(&self, job: Job<W>) -> Result<()> {
        let mut tail = self.lock();
        tail.check_open()?;
        tail.jobs.push(job);
        self.segment_work.notify_one();
        Ok(())
    }

    /// Has appends wait, and everything that was appended made durable and told.
    fn hold_appends(&self, notices: &Notices) -> Result<Hold<'_, W>> {
        self.lock().appends_held = true;
        let hold = Hold(self);
        self.flush()?;
        notices.wait_until_quiet();
        Ok(hold)
    }

    /// Takes away every entry behind `after`, durably.
    ///
    /// # Errors
    /// [`Error::NotInLog`] when entries before the first one would go, [`Error::NoSpace`], [`Error::Corruption`] and
    /// I/O errors: the log is as it was. [`Error::Poisoned`]: the next opening finds the old log or the new one.
    pub(super) fn truncate(&self, places: &Mutex<Places>, notices: &Notices, after: u64) -> Result<()> {
        let hold = self.hold_appends(notices)?;
        let (first, next, start) = {
            let places = places.lock().unwrap_or_else(PoisonError::into_inner);
            (places.first_sequence(), places.next_sequence(), places.locate(after.saturating_add(1)))
        };
        if after.saturating_add(1) >= next {
            return Ok(());
        }
        let start = start.ok_or(Error::NotInLog { sequence: after, first, next })?;
        let mut lines = Lines::new(self, Arc::clone(&start.segment), start.mark);
        while lines.position().sequence <= after {
            lines.next()?;
        }
        let kept = (start.first.sequence <= after).then(|| (start.segment, start.first, lines.position()));
        let end = NewEnd { gone_from: start.first.sequence, kept, next_sequence: after + 1 };
        self.move_end(places, &end)?;
        drop(hold);
        Ok(())
    }

    /// Gives up every sealed segment whose entries are all below `before`; where that is all there is, everything goes
    /// and the next entry has this sequence.
    ///
    /// # Errors
    /// As [`truncate`](Self::truncate).
    pub(super) fn purge(&self, places: &Mutex<Places>, notices: &Notices, before: u64) -> Result<()> {
        let lock = || places.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = || {
            let places = lock();
            (places.first_sequence(), places.next_sequence())
        };
        if before >= bounds().1 {
            let _hold = self.hold_appends(notices)?;
            let (first, next) = bounds();
            // With appends held, nothing more comes in between.
            if before >= next {
                let nothing_to_do = before == next && first == next;
                let end = NewEnd { gone_from: 0, kept: None, next_sequence: before };
                return if nothing_to_do { Ok(()) } else { self.move_end(places, &end) };
            }
        }
        self.seal_retired()?;
        let below = lock().below(before);
        let gone: Vec<_> = below.into_iter().take_while(|segment| segment.sealed.get().is_some()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.with_reserve(|_| {
            self.change_manifest(|manifest| {
                manifest.segments.retain(|entry| gone.iter().all(|segment| segment.id != entry.id));
            })
        })?;
        lock().drop_oldest(gone.len());
        self.forget_all(&gone);
        Ok(())
    }

    /// Seals what waits for it, as far as there is space for that.
    fn seal_retired(&self) -> Result<()> {
        let mut retired = std::mem::take(&mut self.lock().retired).into_iter();
        while let Some(next) = retired.next() {
            match self.seal(&next) {
                Ok(()) => {}
                Err(error) => {
                    self.lock().retired.splice(0..0, std::iter::once(next).chain(retired));
                    return if matches!(error, Error::NoSpace) { Ok(()) } else { Err(error) };
                }
            }
        }
        Ok(())
    }

    /// Tries something; when there is no space for it, once more with that of the reserve. Told whether it is the
    /// second time.
    fn with_reserve(&self, attempt: impl Fn(bool) -> Result<()>) -> Result<()> {
        match attempt(false) {
            Err(Error::NoSpace) => {
                self.release_reserve();
                let result = attempt(true);
                self.end_reserve_use();
                result
            }
            result => result,
        }
    }

    /// Puts a new last segment in the place of all that go. Only while appends are held and everything is durable.
    fn move_end(&self, places: &Mutex<Places>, end: &NewEnd) -> Result<()> {
        self.with_reserve(|last_attempt| {
            let room_bytes = if last_attempt { 0 } else { self.options.segment_bytes };
            let (segment, copied) = self.create_end(end, room_bytes)?;
            let id = segment.id;
            self.commit_end(places, end, segment, copied).inspect_err(|error| {
                if matches!(error, Error::NoSpace) {
                    let _ = self.storage.remove(&segment::name_of(id));
                }
            })
        })
    }

    /// A new segment that holds what is kept, synced and listed nowhere yet.
    fn create_end(&self, end: &NewEnd, room_bytes: u64) -> Result<(Arc<Segment>, Option<Place>)> {
        let kept_bytes = end.kept.as_ref().map_or(0, |(_, first, cut)| cut.offset - first.offset);
        let capacity = room_bytes.max(kept_bytes + segment::MAX_HEADER_BYTES as u64);
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let failed = |error| {
            let full = is_full(&error);
            if full { Error::NoSpace } else { Error::io("writing what is kept of a segment that is cut", error) }
        };
        let segment = Segment::create(self.storage.as_ref(), &self.id, id, capacity, Filling::Zeros).map_err(failed)?;
        let segment = Arc::new(segment);
        let copied = match &end.kept {
            None => Ok(None),
            Some((source, first, cut)) => self
                .copy(source, *first, *cut, &segment)
                .and_then(|place| segment.file.sync_data().map(|()| Some(place)).map_err(failed)),
        };
        let place = copied.inspect_err(|_| {
            let _ = self.storage.remove(&segment::name_of(id));
        })?;
        segment.settle(segment.header_bytes + kept_bytes);
        Ok((segment, place))
    }

    /// Copies lines to the beginning of a new segment, each one verified.
    fn copy(&self, source: &Arc<Segment>, first: Mark, cut: Mark, target: &Arc<Segment>) -> Result<Place> {
        let mut lines = Lines::new(self, Arc::clone(source), first);
        let mut place = Place::new(Arc::clone(target), Mark { offset: target.header_bytes, ..first });
        let mut buffer = Vec::new();
        let mut written = target.header_bytes;
        while lines.position().sequence < cut.sequence {
            let line = lines.next()?;
            place.note(Mark { offset: written + buffer.len() as u64, ..line.mark });
            buffer.extend_from_slice(line.raw);
            let is_last = line.mark.sequence + 1 == cut.sequence;
            if buffer.len() >= WRITE_BYTES || is_last {
                write_all_at(target.file.as_ref(), &buffer, written).map_err(|error| {
                    let full = is_full(&error);
                    if full { Error::NoSpace } else { Error::io("copying what is kept of a segment", error) }
                })?;
                written += buffer.len() as u64;
                buffer.clear();
            }
        }
        Ok(place)
    }

    /// Lists the new last segment instead of those that go, appends to it from now on, and removes what went.
    fn commit_end(
        &self,
        places: &Mutex<Places>,
        end: &NewEnd,
        segment: Arc<Segment>,
        copied: Option<Place>,
    ) -> Result<()> {
        let lock = || places.lock().unwrap_or_else(PoisonError::into_inner);
        // What holds no entries goes as well: it would stand before the new segment, and must not take appends.
        let kept: Vec<u64> = lock().below(end.gone_from).iter().map(|segment| segment.id).collect();
        let gone: Vec<_> = self.segments().into_iter().filter(|segment| !kept.contains(&segment.id)).collect();
        let durable = end.next_sequence - 1;
        self.change_manifest(|manifest| {
            manifest.segments.retain(|entry| kept.contains(&entry.id));
            manifest.segments.push(SegmentEntry { id: segment.id, sealed: None });
            // The first segment that is not sealed begins behind it: the new one, unless an earlier one is not sealed yet.
            manifest.sealed_through = match end.gone_from {
                0 => durable,
                gone_from => manifest.sealed_through.min(gone_from - 1),
            };
            manifest.durable = durable;
        })?;
        self.change_table(|table| table.insert(Arc::clone(&segment)));
        let records = end.kept.as_ref().map_or(0, |(_, first, cut)| cut.sequence - first.sequence);
        let mut tail = self.lock();
        tail.retired.retain(|retired| kept.contains(&retired.segment.id));
        tail.spare = None;
        tail.end = segment.written.load(Ordering::Relaxed);
        tail.records = records;
        tail.first_sequence = if records == 0 { 0 } else { end.gone_from };
        tail.next_sequence = end.next_sequence;
        tail.synced_sequence = durable;
        // Sequences begin again behind the cut: with the old one, who counts what is queued would count below zero.
        tail.flight_target = durable;
        tail.active = segment;
        let mut places = lock();
        places.move_end(end.gone_from, copied, end.next_sequence);
        self.settled_sequence.store(durable, Ordering::Release);
        drop(places);
        drop(tail);
        self.forget_all(&gone);
        Ok(())
    }

    /// Removes files that the manifest does not list any more; there may be space for appends again.
    fn forget_all(&self, gone: &[Arc<Segment>]) {
        self.forget(gone);
        self.lock().no_space = false;
    }
}
