//! What the log consists of at one moment, for a backup.
//!
//! What must hold: everything that was appended before is in it, and nothing of a record without the records before it.
//! So the manifest is looked at first, after a flush, and the ends of the segments that take appends after it, the last
//! segment first. Whoever holds a segment can read it, even when a compaction has taken its name away.

use std::time::{Duration, Instant};

use super::manifest::{Manifest, Sealed};
use super::segment::Segment;
use super::{Log, Waiter};
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, PoisonError, thread};

/// Between the manifest's and the table's change by a compaction: how long to wait for the second, and how often to look.
const TABLE_WAIT: Duration = Duration::from_secs(10);
const TABLE_POLL: Duration = Duration::from_millis(1);

/// What the log consists of at one moment.
pub(crate) struct Snapshot {
    /// As it was; its segments are those of `parts`.
    pub(crate) manifest: Manifest,
    /// By ascending number.
    pub(crate) parts: Vec<Part>,
    /// Every sequence up to this one is in it.
    pub(crate) last_sequence: u64,
}

/// One segment of a snapshot.
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    /// What it holds, if nothing was appended to it any more.
    pub(crate) sealed: Option<Sealed>,
    /// Where its part of the snapshot ends.
    pub(crate) end: u64,
}

impl<W: Waiter> Log<W> {
    /// What the log consists of now.
    ///
    /// # Errors
    /// [`Error::Poisoned`], or [`Error::Io`] when a compaction stands still halfway.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.flush()?;
        let last_sequence = self.settled_sequence();
        let deadline = Instant::now() + TABLE_WAIT;
        loop {
            let manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let segments = self.segments();
            let listed = |id| segments.iter().find(|segment| segment.id == id).cloned();
            let found: Option<Vec<_>> =
                manifest.segments.iter().map(|entry| Some((listed(entry.id)?, entry.sealed))).collect();
            if let Some(found) = found {
                let part = |(segment, sealed): (Arc<Segment>, Option<Sealed>)| {
                    let end = sealed.map_or_else(|| segment.settled.load(Ordering::Acquire), |sealed| sealed.bytes);
                    Part { segment, sealed, end }
                };
                let mut parts: Vec<Part> = found.into_iter().rev().map(part).collect();
                parts.reverse();
                return Ok(Snapshot { manifest, parts, last_sequence });
            }
            if Instant::now() > deadline {
                let context = "waiting for a segment that the manifest lists and the table does not";
                return Err(Error::io(context, std::io::ErrorKind::TimedOut.into()));
            }
            thread::sleep(TABLE_POLL);
        }
    }
}
