//! The bytes of one file in memory: what programs read, and everything that a crash may leave of it.
//!
//! What must hold: an edit is forgotten only when a sync made it durable or failed for it; the contents of a sector
//! are kept whole, so that any of them can be what the disk has.

use std::collections::BTreeMap;

/// The unit that a disk writes whole, in bytes.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Content {
    /// What programs read.
    pub(super) bytes: Vec<u8>,
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What happened since the last sync, in order.
    edits: Vec<Edit>,
    /// Sectors whose sync failed: on the disk or not, and no sync writes them unless they are changed again.
    doubtful: BTreeMap<usize, Vec<u8>>,
}

/// One change of a file.
#[derive(Clone)]
enum Edit {
    /// The file's new length, in bytes.
    Length(usize),
    /// A sector, by its number, and what it holds now; the file's last one may be shorter.
    Sector(usize, Vec<u8>),
}

/// Puts a sector's bytes in their place, as far as the file reaches.
fn put_sector(file: &mut [u8], sector: usize, bytes: &[u8]) {
    let start = (sector * SECTOR_BYTES).min(file.len());
    let end = (start + bytes.len()).min(file.len());
    file[start..end].copy_from_slice(&bytes[..end - start]);
}

impl Content {
    /// A file whose bytes are all durable.
    pub(super) fn of_disk(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), bytes, ..Self::default() }
    }

    /// Changes one bit, on the disk as well.
    pub(super) fn flip_bit(&mut self, byte: usize, bit: u32) {
        self.bytes[byte] ^= 1 << bit;
        let flipped = self.bytes[byte];
        if let Some(durable) = self.durable.get_mut(byte) {
            *durable = flipped;
        }
    }

    /// Writes, and extends the file if it is too short.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.set_length(end);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let start = sector * SECTOR_BYTES;
            let content = self.bytes[start..(start + SECTOR_BYTES).min(self.bytes.len())].to_vec();
            self.edits.push(Edit::Sector(sector, content));
        }
    }

    /// Cuts or extends the file.
    pub(super) fn set_length(&mut self, length: usize) {
        self.bytes.resize(length, 0);
        self.edits.push(Edit::Length(length));
    }

    /// Makes everything durable that no sync failed for.
    pub(super) fn sync(&mut self) {
        for edit in self.edits.drain(..) {
            match edit {
                Edit::Length(length) => self.durable.resize(length, 0),
                Edit::Sector(sector, bytes) => {
                    put_sector(&mut self.durable, sector, &bytes);
                    self.doubtful.remove(&sector);
                }
            }
        }
    }

    /// A sync that fails: the operating system calls the file's bytes clean, wherever they are.
    pub(super) fn fail_sync(&mut self) {
        for edit in std::mem::take(&mut self.edits) {
            match edit {
                Edit::Length(length) => self.durable.resize(length, 0),
                Edit::Sector(sector, bytes) => drop(self.doubtful.insert(sector, bytes)),
            }
        }
    }

    /// The contents of each sector that are not on the disk for certain, oldest first, with the number of the edit.
    fn versions(&self) -> BTreeMap<usize, Vec<(usize, &[u8])>> {
        let mut versions: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        let doubtful = self.doubtful.iter().map(|(sector, bytes)| (0, *sector, bytes));
        let edits = self.edits.iter().enumerate().filter_map(|(number, edit)| match edit {
            Edit::Sector(sector, bytes) => Some((number, *sector, bytes)),
            Edit::Length(_) => None,
        });
        for (number, sector, bytes) in doubtful.chain(edits) {
            versions.entry(sector).or_default().push((number, bytes));
        }
        versions
    }

    /// The file as it may be after the power failed.
    pub(super) fn after_power_loss(&self, keep: &mut impl FnMut() -> bool) -> Vec<u8> {
        // A length is metadata of the file: whichever of them is on the disk, the earlier ones were before it.
        let is_length = |(_, edit): &(usize, &Edit)| matches!(edit, Edit::Length(_));
        let edits = || self.edits.iter().enumerate();
        let last_length = edits().rev().filter(is_length).find(|_| keep()).map(|(number, _)| number);
        let mut chosen = Vec::new();
        for (sector, versions) in self.versions() {
            let start = (sector * SECTOR_BYTES).min(self.durable.len());
            let durable = &self.durable[start..(start + SECTOR_BYTES).min(self.durable.len())];
            let differs = |bytes: &[u8]| {
                let (old, new) = bytes.split_at(durable.len().min(bytes.len()));
                old != durable || new.iter().any(|byte| *byte != 0)
            };
            // Nobody sees whether a sector was written that was the same before.
            if versions.len() > 1 || differs(versions[0].1) {
                let kept = versions.into_iter().rev().find(|_| keep());
                chosen.extend(kept.map(|(number, bytes)| (number, sector, bytes)));
            }
        }
        chosen.sort_unstable_by_key(|(number, ..)| *number);
        let mut chosen = chosen.into_iter().peekable();
        let mut bytes = self.durable.clone();
        for (number, edit) in edits() {
            while let Some((_, sector, content)) = chosen.next_if(|(of, ..)| *of < number) {
                put_sector(&mut bytes, sector, content);
            }
            if let Edit::Length(length) = edit
                && last_length.is_some_and(|last| number <= last)
            {
                bytes.resize(*length, 0);
            }
        }
        chosen.for_each(|(_, sector, content)| put_sector(&mut bytes, sector, content));
        bytes
    }
}
