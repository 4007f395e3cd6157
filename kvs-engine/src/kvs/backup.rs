//! The way of a backup out of an open store.
//!
//! What must hold: see [`crate::backup`]. No lock is held while files are read, linked or copied.

use std::path::Path;

use super::store::{Core, KvStore};
use crate::backup::{BACKUP_NAME, Backup, Contents, FileEntry, check_empty, lock_of};
use crate::error::{Error, Result};
use crate::log::manifest::{MANIFEST_NAME, Manifest, Sealed, SegmentEntry};
use crate::log::segment;
use crate::log::snapshot::{Part, Snapshot};
use crate::storage::{RealStorage, Storage, read_all, write_all_at};
use crate::sync::atomic::Ordering;
use crate::verify::{Report, check_durable_prefix, check_sealed};

impl KvStore {
    /// Makes a backup of this store in a folder, which must be empty or missing, while the store serves. See
    /// [`crate::backup`] for what is in it.
    ///
    /// `also` are names of files of the data folder that are not the engine's and belong to the backup; one that is
    /// missing is left out.
    ///
    /// # Errors
    /// [`Error::WrongFolder`] when the folder is not empty, [`Error::Corruption`] when this store is damaged,
    /// [`Error::Poisoned`], [`Error::Closed`], and I/O errors. What is left then does not open.
    pub fn backup(&self, folder: impl AsRef<Path>, also: &[&str]) -> Result<Backup> {
        let folder = folder.as_ref();
        let storage = RealStorage::create(folder)
            .map_err(|error| Error::io(format!("creating the folder {}", folder.display()), error))?;
        self.backup_storage(&storage, also)
    }

    /// As [`backup`](Self::backup), into any [`Storage`].
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    pub fn backup_storage(&self, target: &dyn Storage, also: &[&str]) -> Result<Backup> {
        let core = self.core();
        if core.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let _lock = lock_of(target)?;
        check_empty(target)?;
        Writing { core, target, files: Vec::new(), backup: Backup::default() }.run(also)
    }
}

/// A backup that is being made.
struct Writing<'a> {
    core: &'a Core,
    target: &'a dyn Storage,
    files: Vec<FileEntry>,
    backup: Backup,
}

impl Writing<'_> {
    fn run(mut self, also: &[&str]) -> Result<Backup> {
        let Snapshot { manifest, parts, mut last_sequence } = self.core.log.snapshot()?;
        // The segment with the newest record may be gone on with, by the source or by who opens the backup.
        let newest = parts.iter().rev().find(|part| part.end > part.segment.header_bytes && !is_compacted(part));
        let newest = newest.map(|part| part.segment.id);
        let mut segments = Vec::with_capacity(parts.len());
        for part in &parts {
            let may_link = part.sealed.is_some() && newest != Some(part.segment.id);
            let sealed = self.put_segment(part, may_link)?;
            if sealed.records > 0 {
                last_sequence = last_sequence.max(sealed.last);
                segments.push(SegmentEntry { id: part.segment.id, sealed: Some(sealed) });
            }
        }
        // Before anything else has a name: a folder in which only that is left would open as an empty store.
        self.sync_names()?;
        for name in also {
            self.put_other(name)?;
        }
        let generation = manifest.generation + 1;
        let manifest =
            Manifest { generation, durable: last_sequence, sealed_through: last_sequence, segments, ..manifest };
        self.list(FileEntry::of(MANIFEST_NAME, &manifest.to_line()));
        self.backup.last_sequence = last_sequence;
        let listed = Contents::new(last_sequence, std::mem::take(&mut self.files)).write(self.target);
        listed.map_err(|error| self.failed(BACKUP_NAME, error))?;
        self.sync_names()?;
        let done = manifest.stage(self.target).and_then(|()| Manifest::commit(self.target));
        done.map_err(|error| self.failed(MANIFEST_NAME, error))?;
        Ok(self.backup)
    }

    fn failed(&self, name: &str, error: std::io::Error) -> Error {
        Error::io(format!("writing {} of the backup", self.target.path(name).display()), error)
    }

    fn sync_names(&self) -> Result<()> {
        self.target.sync_folder().map_err(|error| self.failed("the folder", error))
    }

    fn list(&mut self, entry: FileEntry) {
        self.backup.files += 1;
        self.backup.bytes += entry.bytes;
        self.files.push(entry);
    }

    /// Checks a segment and puts it into the backup, unless it has no record; returns what it holds.
    fn put_segment(&mut self, part: &Part, may_link: bool) -> Result<Sealed> {
        let name = segment::name_of(part.segment.id);
        let path = self.core.storage.path(&name);
        let bytes = read_all(part.segment.file.as_ref(), part.end)
            .map_err(|error| Error::io(format!("reading {}", path.display()), error))?;
        let start = usize::try_from(part.segment.header_bytes).expect("a header is short");
        let mut report = Report::default();
        if !self.core.log.is_header_of(&part.segment, &bytes[..start.min(bytes.len())]) {
            report.add_damaged_header(&path);
        }
        let sealed = match part.sealed {
            Some(sealed) => {
                check_sealed(&path, &bytes, start, sealed, &mut report);
                sealed
            }
            None => Sealed { bytes: part.end, ..check_durable_prefix(&path, &bytes, start, &mut report) },
        };
        if let Some(finding) = report.findings.first() {
            return Err(Error::Corruption {
                file: path,
                offset: finding.offset,
                sequence: finding.sequence,
                reason: finding.reason.clone(),
            });
        }
        if sealed.records == 0 {
            return Ok(sealed);
        }
        // Where there is no link to be had (another file system, a compaction has taken the name away), it is copied.
        let linked = may_link && self.target.link_from(&path, &name).is_ok();
        if linked {
            self.backup.linked_files += 1;
        } else {
            self.put(&name, &bytes)?;
        }
        self.backup.records += sealed.records;
        self.list(FileEntry::of(&name, &bytes));
        Ok(sealed)
    }

    /// Copies a file that is not the engine's, if it is there.
    fn put_other(&mut self, name: &str) -> Result<()> {
        let read = self.core.storage.open_to_read(name).and_then(|file| read_all(file.as_ref(), file.length()?));
        match read {
            Ok(bytes) => {
                self.put(name, &bytes)?;
                self.list(FileEntry::of(name, &bytes));
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(format!("reading {}", self.core.storage.path(name).display()), error)),
        }
    }

    /// Writes a file of the backup and syncs it.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = self.target.create(name).and_then(|file| {
            write_all_at(file.as_ref(), bytes, 0)?;
            file.sync_data()
        });
        written.map_err(|error| self.failed(name, error))
    }
}

fn is_compacted(part: &Part) -> bool {
    part.sealed.is_some_and(|sealed| sealed.compacted_at.is_some())
}
