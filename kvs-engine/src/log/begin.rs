//! Where a log that was opened goes on: the segment that takes appends is chosen, the other open ones are sealed.
//!
//! What must hold: the manifest that says so is durable before anything is appended, and before a file goes that the old
//! one listed.

use std::io;

use super::manifest::{Manifest, Sealed, SegmentEntry};
use super::open::{Open, Opening};
use super::recovery::Scan;
use super::segment::{self, Filling, Segment};
use super::segments::{is_full, release_reserves, seal_entry};
use super::tail::Tail;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sync::Arc;

impl Opening<'_> {
    /// Chooses or creates the segment that takes appends, seals the other open ones, and puts that in force.
    pub(super) fn start_tail<W>(
        &mut self,
        manifest: &mut Manifest,
        mut open: Vec<Open>,
        options: &Options,
    ) -> Result<Tail<W>> {
        let failed = |error| Error::io("preparing the log for appends", error);
        let mut next_sequence = open.last().map_or(manifest.sealed_through + 1, |last| last.scan.expected);
        next_sequence = next_sequence.max(manifest.durable + 1);
        // The last one with records goes on; what stands behind it was only prepared. So a process that is killed again
        // and again does not leave one small segment each time.
        let last_used = open.iter().rposition(|open| !open.scan.records.is_empty()).unwrap_or(0);
        let prepared = if open.is_empty() { Vec::new() } else { open.split_off(last_used + 1) };
        let active = open.pop();
        let mut empty = Vec::new();
        for Open { segment, scan, .. } in open.into_iter().chain(prepared) {
            match seal_of(&scan) {
                Some(sealed) => {
                    segment.file.set_length(sealed.bytes).and_then(|()| segment.file.sync_data()).map_err(failed)?;
                    let _ = segment.sealed.set(sealed);
                    seal_entry(manifest, segment.id, sealed);
                    manifest.sealed_through = sealed.last;
                }
                None => {
                    manifest.segments.retain(|entry| entry.id != segment.id);
                    self.table.remove(&segment);
                    empty.push(segment);
                }
            }
        }
        let last = if active.is_some() { None } else { unseal_last(manifest, next_sequence, options) };
        let created = match (&active, last) {
            (None, None) => Some(self.create_first(manifest, options).map_err(failed)?),
            _ => None,
        };
        manifest.generation += 1;
        manifest.durable = next_sequence - 1;
        manifest.write(self.storage)?;
        for segment in empty {
            self.storage.remove(&segment::name_of(segment.id)).map_err(failed)?;
        }
        let (segment, end, sealed) = match (active, created, last) {
            (Some(Open { segment, scan, .. }), ..) => (segment, scan.end_offset as u64, seal_of(&scan)),
            (None, Some(segment), _) => {
                let end = segment.header_bytes;
                (segment, end, None)
            }
            (None, None, Some((id, sealed))) => {
                // Only now: while the manifest called it sealed, the file had to end with its records.
                let header_bytes = segment::header_line(&manifest.log, id).len() as u64;
                let reopened = Segment::reopen(self.storage, id, header_bytes, sealed.bytes, options.segment_bytes);
                (self.table.replace(reopened.map_err(failed)?), sealed.bytes, Some(sealed))
            }
            (None, None, None) => unreachable!("a segment was created"),
        };
        let (records, first) = sealed.map_or((0, 0), |sealed| (sealed.records, sealed.first));
        Ok(Tail::new(segment, end, records, first, next_sequence))
    }

    /// A new segment that takes appends. When there is no space for one, it has room for nothing, so that the store
    /// can be read and the log, once it runs, looks for space.
    fn create_first(&mut self, manifest: &mut Manifest, options: &Options) -> io::Result<Arc<Segment>> {
        let id = self.next_segment;
        self.next_segment += 1;
        let create = |capacity| Segment::create(self.storage, &manifest.log, id, capacity, Filling::Zeros);
        let created = create(options.segment_bytes).or_else(|error| {
            let full = is_full(&error);
            if full { create(0) } else { Err(error) }
        });
        let segment = Arc::new(created.or_else(|error| {
            let retry = is_full(&error) && release_reserves(self.storage);
            if retry { create(0) } else { Err(error) }
        })?);
        self.table.insert(Arc::clone(&segment));
        manifest.segments.push(SegmentEntry { id, sealed: None });
        Ok(segment)
    }
}

/// After a clean end: the log goes on in the last segment when it is less than half full, so that many restarts do not
/// make many small files. Lists it as one that takes appends.
fn unseal_last(manifest: &mut Manifest, next_sequence: u64, options: &Options) -> Option<(u64, Sealed)> {
    let is_last = |sealed: &Sealed| sealed.compacted_at.is_none() && sealed.last + 1 == next_sequence;
    let (entry, sealed) = manifest
        .segments
        .iter_mut()
        .find_map(|entry| entry.sealed.filter(is_last).map(|sealed| (entry, sealed)))
        .filter(|(_, sealed)| sealed.bytes < options.segment_bytes / 2)?;
    entry.sealed = None;
    manifest.sealed_through = sealed.first - 1;
    Some((entry.id, sealed))
}

/// What a segment holds after its end was judged; `None` when it holds nothing.
fn seal_of(scan: &Scan) -> Option<Sealed> {
    let first = scan.records.first()?;
    let last = scan.records.last()?;
    Some(Sealed {
        bytes: scan.end_offset as u64,
        records: scan.records.len() as u64,
        first: first.sequence,
        last: last.sequence,
        compacted_at: None,
    })
}
