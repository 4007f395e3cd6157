//! Verification: every byte of every file of a store is read and checked, and nothing is changed.
//!
//! What must hold: [`verify`] calls every folder damaged that an opening would refuse as corrupt, and those whose damage an
//! opening does not meet (what a checkpoint knows is not read again; a checkpoint that is damaged is not used); and it
//! goes on behind the first damage, so that a person sees all of it at once. What an opening would silently take away (a torn
//! tail, left-over files) is said as well.

mod finding;
mod segments;

use std::collections::BTreeSet;
use std::path::Path;

pub use finding::{Finding, FindingKind};
use serde::Serialize;

pub(crate) use segments::{check_durable_prefix, check_sealed};

use crate::backup::{BACKUP_NAME, Contents};
use crate::error::{Error, Result};
use crate::kvs::checkpoint::{self, CHECKPOINT_NAME, NEW_CHECKPOINT_NAME};
use crate::log::coverage::Folder;
use crate::log::manifest::{Holds, MANIFEST_NAME, Manifest, NEW_MANIFEST_NAME};
use crate::log::segment;
use crate::log::segments::is_reserve;
use crate::storage::{RealStorage, Storage, read_exact_at};

/// The most findings that are kept; more are only counted, so that a folder full of noise does not fill the memory.
pub const MAX_FINDINGS: usize = 10_000;
/// How much of a file that is only compared with zeros is read at once, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Files beside the engine's own that need no word: the lock, and the server's notes whose folder this is and which backup
/// made it.
const KNOWN_NAMES: [&str; 3] = ["LOCK", "identity.json", "restored.json"];

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything that was found, in the order of the files.
    pub findings: Vec<Finding>,
    /// Damage that was found beyond [`MAX_FINDINGS`] and is not in the list.
    pub further_damage: u64,
    /// Files that were read to their end.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Intact records.
    pub records: u64,
    /// The highest sequence of them.
    pub last_sequence: u64,
}

impl Report {
    /// Whether every file is what was written, as far as data was acknowledged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.further_damage == 0 && !self.findings.iter().any(|finding| finding.kind.is_damage())
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else if finding.kind.is_damage() {
            self.further_damage += 1;
        }
    }

    /// Adds that the first line of a segment is not its header.
    pub(crate) fn add_damaged_header(&mut self, file: &Path) {
        let reason = "the first line is not the header of this segment".to_owned();
        let kind = FindingKind::DamagedHeader;
        self.add(Finding { kind, file: file.to_owned(), offset: 0, bytes: 0, sequence: 0, reason });
    }

    /// Counts an intact record.
    pub(crate) fn count(&mut self, sequence: u64) {
        self.records += 1;
        self.last_sequence = self.last_sequence.max(sequence);
    }

    /// Counts a file that was read.
    pub(crate) fn count_file(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Verifies the store of a folder that no process has open. It is locked meanwhile; nothing but the lock's file is
/// created if it is missing.
///
/// # Errors
/// [`Error::Locked`], [`Error::WrongFolder`] when no store of this engine and version is there, and I/O errors. Damage
/// is no error: the report has it.
pub fn verify(folder: impl AsRef<Path>) -> Result<Report> {
    let folder = folder.as_ref();
    let storage = RealStorage::existing(folder)
        .map_err(|error| Error::io(format!("opening the folder {}", folder.display()), error))?;
    verify_storage(&storage)
}

/// As [`verify`], of any [`Storage`].
///
/// # Errors
/// As [`verify`].
pub fn verify_storage(storage: &dyn Storage) -> Result<Report> {
    let _lock = lock(storage)?;
    check_folder(storage, &sorted_names(storage)?).map(|(report, _)| report)
}

/// As [`verify_storage`], for who has locked the folder; with the manifest, if it is there and intact.
pub(crate) fn check_folder(storage: &dyn Storage, names: &[String]) -> Result<(Report, Option<Manifest>)> {
    let mut report = Report::default();
    let manifest = read_manifest(storage, names, &mut report)?.map(|manifest| with_checkpoint(storage, manifest));
    segments::check_all(storage, names, manifest.as_ref(), &mut report)?;
    check_the_rest(storage, names, manifest.as_ref(), &mut report)?;
    check_backup(storage, &mut report)?;
    Ok((report, manifest))
}

/// Takes a folder that is only read. Where it can't be written, nobody else can write it either.
pub(crate) fn lock(storage: &dyn Storage) -> Result<Option<Box<dyn Send + Sync>>> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let folder = storage.path("");
    match storage.lock() {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Error::Locked { folder }),
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => Ok(None),
        Err(error) => Err(Error::io(format!("locking {}", folder.display()), error)),
    }
}

pub(crate) fn sorted_names(storage: &dyn Storage) -> Result<Vec<String>> {
    let failed = |error| Error::io(format!("listing {}", storage.path("").display()), error);
    let mut names = storage.list().map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

/// Checks the segments of a manifest.
pub(crate) fn check_segments(storage: &dyn Storage, manifest: &Manifest, report: &mut Report) -> Result<()> {
    segments::check_all(storage, &[], Some(manifest), report)
}

/// Compares a backup with the list of its files. What the frames have shown already is not said twice.
fn check_backup(storage: &dyn Storage, report: &mut Report) -> Result<()> {
    let finding = |kind, name: &str, reason: String| Finding {
        kind,
        file: storage.path(name),
        offset: 0,
        bytes: 0,
        sequence: 0,
        reason,
    };
    let contents = match Contents::read(storage) {
        Ok(None) => return Ok(()),
        Ok(Some((contents, bytes))) => {
            report.count_file(bytes);
            contents
        }
        Err(Error::Corruption { reason, .. }) => {
            report.add(finding(FindingKind::DamagedBackup, BACKUP_NAME, reason));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in &contents.files {
        let path = storage.path(&entry.name);
        if report.findings.iter().any(|found| found.kind.is_damage() && found.file == path) {
            continue;
        }
        let difference = match storage.open_to_read(&entry.name) {
            Ok(file) => entry
                .compare(file.as_ref(), |_, _| Ok(()))
                .map_err(|error| Error::io(format!("reading {}", path.display()), error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some("this file of the backup is missing".to_owned())
            }
            Err(error) => return Err(Error::io(format!("opening {}", path.display()), error)),
        };
        if let Some(reason) = difference {
            report.add(finding(FindingKind::DamagedBackup, &entry.name, reason));
        }
    }
    Ok(())
}

/// A manifest that calls durable what the checkpoint says was, as an opening does.
fn with_checkpoint(storage: &dyn Storage, mut manifest: Manifest) -> Manifest {
    let durable = checkpoint::durable_sequence(storage, &Folder::of(manifest.clone()));
    manifest.durable = manifest.durable.max(durable);
    manifest
}

/// The manifest, if it is there and intact.
pub(crate) fn read_manifest(storage: &dyn Storage, names: &[String], report: &mut Report) -> Result<Option<Manifest>> {
    let found =
        |kind, reason| Finding { kind, file: storage.path(MANIFEST_NAME), offset: 0, bytes: 0, sequence: 0, reason };
    match Manifest::read(storage) {
        Ok(Some(manifest)) => {
            manifest.check_holds(Holds::Records, storage)?;
            let length = storage.open_to_read(MANIFEST_NAME).and_then(|file| file.length());
            report.count_file(length.map_err(|error| Error::io("reading the manifest", error))?);
            Ok(Some(manifest))
        }
        Ok(None) if names.iter().any(|name| segment::id_of(name).is_some()) => {
            let reason = "the manifest is missing, and files of the log are there".to_owned();
            report.add(found(FindingKind::MissingManifest, reason));
            Ok(None)
        }
        Ok(None) => Err(Error::WrongFolder {
            folder: storage.path(""),
            reason: "holds no store of the kvs engine; name the right --data-dir".to_owned(),
        }),
        Err(Error::Corruption { reason, .. }) => {
            report.add(found(FindingKind::DamagedManifest, reason));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads what is no segment of the log, and names what an opening would remove.
fn check_the_rest(
    storage: &dyn Storage,
    names: &[String],
    manifest: Option<&Manifest>,
    report: &mut Report,
) -> Result<()> {
    let listed: Option<BTreeSet<u64>> =
        manifest.map(|manifest| manifest.segments.iter().map(|entry| entry.id).collect());
    for name in names {
        let found = |kind, offset, reason: &str| Finding {
            kind,
            file: storage.path(name),
            offset,
            bytes: 0,
            sequence: 0,
            reason: reason.to_owned(),
        };
        match segment::id_of(name) {
            Some(id) if listed.as_ref().is_some_and(|listed| !listed.contains(&id)) => {
                let reason = "the manifest does not list this file, which a crash left behind";
                report.add(found(FindingKind::LeftOver, 0, reason));
            }
            Some(_) => {}
            None if name == CHECKPOINT_NAME => {
                let Some(manifest) = manifest else { continue };
                let checked = checkpoint::check(storage, &Folder::of(manifest.clone()));
                let failed = |error| Error::io(format!("reading {}", storage.path(name).display()), error);
                if let Some((bytes, damage)) = checked.map_err(failed)? {
                    report.count_file(bytes);
                    damage.into_iter().for_each(|reason| report.add(found(FindingKind::DamagedCheckpoint, 0, reason)));
                }
            }
            None if name == NEW_CHECKPOINT_NAME => {
                report.add(found(
                    FindingKind::LeftOver,
                    0,
                    "a checkpoint that was being written when the process died",
                ));
            }
            None if name == NEW_MANIFEST_NAME => {
                report.add(found(FindingKind::LeftOver, 0, "a manifest that was being written when the process died"));
            }
            None if is_reserve(name) => {
                if let Some(offset) = first_not_zero(storage, name, report)? {
                    report.add(found(FindingKind::NotZero, offset, "a byte of the reserve is not zero"));
                }
            }
            None if name == MANIFEST_NAME || name == BACKUP_NAME || KNOWN_NAMES.contains(&name.as_str()) => {}
            None => report.add(found(FindingKind::UnknownFile, 0, "not a file of this engine")),
        }
    }
    Ok(())
}

/// Where the first byte of a file is that is not zero.
fn first_not_zero(storage: &dyn Storage, name: &str, report: &mut Report) -> Result<Option<u64>> {
    let failed = |error| Error::io(format!("reading {}", storage.path(name).display()), error);
    let file = storage.open_to_read(name).map_err(failed)?;
    let length = file.length().map_err(failed)?;
    report.count_file(length);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < length {
        let count = usize::try_from(length - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        read_exact_at(file.as_ref(), &mut chunk[..count], offset).map_err(failed)?;
        if let Some(place) = chunk[..count].iter().position(|byte| *byte != 0) {
            return Ok(Some(offset + place as u64));
        }
        offset += count as u64;
    }
    Ok(None)
}
