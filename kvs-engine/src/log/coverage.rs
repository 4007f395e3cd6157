//! What is known of a log without reading it: the part that a checkpoint stands for.

use std::collections::BTreeMap;

use super::manifest::{Manifest, Sealed};

/// The part of a log that need not be read when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// Everything up to this sequence is known, and was durable.
    pub(crate) sequence: u64,
    /// Segments that were there, by number. What is in another one is not known, whatever its sequence: a compaction
    /// may have moved it there.
    pub(crate) segments: BTreeMap<u64, CoveredSegment>,
    /// The highest number that the checkpoint knows, also of a segment that is gone: a new one must not get it, or the
    /// checkpoint, which stays, would take it for the old one.
    pub(crate) highest_segment: u64,
}

/// A segment of which a checkpoint knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoveredSegment {
    /// The slot that the checkpoint calls it by.
    pub(crate) slot: u32,
    /// Its length when it was sealed; `None` when it was not.
    pub(crate) sealed_bytes: Option<u64>,
}

impl Coverage {
    /// Whether nothing of a sealed segment has to be read.
    pub(super) fn is_complete(&self, id: u64, sealed: Sealed) -> bool {
        self.segments.get(&id).is_some_and(|known| known.sealed_bytes == Some(sealed.bytes))
    }

    /// Whether a record is known.
    pub(super) fn knows(&self, id: u64, sequence: u64) -> bool {
        sequence <= self.sequence && self.segments.contains_key(&id)
    }
}

/// What a folder's manifest says, as far as others need it before the log is opened.
pub(crate) struct Folder {
    pub(super) manifest: Manifest,
}

impl Folder {
    /// What this manifest says.
    pub(crate) fn of(manifest: Manifest) -> Self {
        Self { manifest }
    }

    /// 32 hexadecimal digits that tell this log from every other.
    pub(crate) fn log(&self) -> &str {
        &self.manifest.log
    }

    /// Lists segments that take appends.
    #[cfg(test)]
    pub(crate) fn manifest_for_tests(&mut self, ids: &[u64]) {
        self.manifest.segments = ids.iter().map(|id| super::manifest::SegmentEntry { id: *id, sealed: None }).collect();
    }

    /// Whether a segment is part of the log.
    pub(crate) fn lists(&self, id: u64) -> bool {
        self.manifest.lists(id)
    }
}
