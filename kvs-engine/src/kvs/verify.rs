//! Verification of an open store, beside reads and writes.
//!
//! What must hold: only bytes are judged that nobody changes any more: sealed segments whole, the others up to where
//! they may be shown. Their files stay open for whoever holds the segment, also when a compaction takes the name away.

use super::store::{Core, KvStore};
use crate::error::{Error, Result};
use crate::log::segment;
use crate::storage::read_all;
use crate::sync::atomic::Ordering;
use crate::verify::{Report, check_durable_prefix, check_sealed, read_manifest, sorted_names};

impl KvStore {
    /// Reads and checks every byte of this store that is durable, while it serves. See [`crate::verify::verify`] for a
    /// folder that is closed: it sees more (the zeros behind the end, left-over files).
    ///
    /// # Errors
    /// [`Error::Closed`] and I/O errors. Damage is no error: the report has it.
    pub fn verify(&self) -> Result<Report> {
        self.core().verify()
    }
}

impl Core {
    fn verify(&self) -> Result<Report> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let mut report = Report::default();
        read_manifest(self.storage.as_ref(), &sorted_names(self.storage.as_ref())?, &mut report)?;
        let mut segments = self.log.segments();
        segments.sort_by_key(|segment| segment.id);
        for segment in segments {
            let path = self.storage.path(&segment::name_of(segment.id));
            // In this order: what is sealed later than this look is judged by what may be shown.
            let sealed = segment.sealed.get().copied();
            let end = sealed.map_or_else(|| segment.settled.load(Ordering::Acquire), |sealed| sealed.bytes);
            let bytes = read_all(segment.file.as_ref(), end)
                .map_err(|error| Error::io(format!("reading {}", path.display()), error))?;
            report.count_file(end);
            let start = usize::try_from(segment.header_bytes).expect("a header is short");
            if !self.log.is_header_of(&segment, &bytes[..start.min(bytes.len())]) {
                report.add_damaged_header(&path);
            }
            match sealed {
                Some(sealed) => check_sealed(&path, &bytes, start, sealed, &mut report),
                None => drop(check_durable_prefix(&path, &bytes, start, &mut report)),
            }
        }
        Ok(report)
    }
}
