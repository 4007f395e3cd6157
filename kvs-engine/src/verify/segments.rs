//! Checking segments: those that are sealed byte by byte against the manifest, the others by the rule of
//! [`recovery`](crate::log::recovery).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Finding, FindingKind, Report};
use crate::error::{Error, Result};
use crate::kvs::record;
use crate::log::frame;
use crate::log::manifest::{MANIFEST_NAME, Manifest, Sealed};
use crate::log::recovery::{self, Scan, Verdict};
use crate::log::segment::{self, MAX_FILE_BYTES};
use crate::storage::{Storage, StorageFile, read_all};

/// A segment that is not sealed, with its bytes.
struct Open {
    path: PathBuf,
    bytes: Vec<u8>,
    start: usize,
    scan: Scan,
}

/// Checks every segment that the manifest lists; without a manifest, every line of every segment that is there.
pub(super) fn check_all(
    storage: &dyn Storage,
    names: &[String],
    manifest: Option<&Manifest>,
    report: &mut Report,
) -> Result<()> {
    let Some(manifest) = manifest else {
        for name in names.iter().filter(|name| segment::id_of(name).is_some()) {
            let bytes = read(storage, name, report)?.unwrap_or_default();
            check_lines(&storage.path(name), &bytes, 0, None, report);
        }
        return Ok(());
    };
    let mut open = Vec::new();
    let mut expected = manifest.sealed_through + 1;
    for entry in &manifest.segments {
        let name = segment::name_of(entry.id);
        let path = storage.path(&name);
        let Some(bytes) = read(storage, &name, report)? else {
            let reason = "the manifest lists this file, and it is missing".to_owned();
            let (bytes, sequence) = entry.sealed.map_or((0, 0), |sealed| (sealed.bytes, sealed.first));
            report.add(Finding { kind: FindingKind::MissingFile, file: path, offset: 0, bytes, sequence, reason });
            continue;
        };
        let header_bytes = segment::header_bytes_of(&bytes, &manifest.log, entry.id);
        if header_bytes.is_none() {
            report.add_damaged_header(&path);
        }
        let behind = || recovery::next_line(&bytes, 1).unwrap_or(bytes.len());
        let start = header_bytes.unwrap_or_else(behind);
        match entry.sealed {
            Some(sealed) => check_sealed(&path, &bytes, start, sealed, report),
            None => {
                let scan = recovery::scan(&bytes, start, Some(expected));
                expected = scan.expected;
                open.push(Open { path, bytes, start, scan });
            }
        }
    }
    check_open(storage, manifest, &open, report);
    Ok(())
}

/// All bytes of a file; `None` when it is missing.
fn read(storage: &dyn Storage, name: &str, report: &mut Report) -> Result<Option<Vec<u8>>> {
    let file: Arc<dyn StorageFile> = match storage.open_to_read(name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("opening {}", storage.path(name).display()), error)),
    };
    let failed = |error| Error::io(format!("reading {}", storage.path(name).display()), error);
    let length = file.length().map_err(failed)?;
    let bytes = read_all(file.as_ref(), length.min(MAX_FILE_BYTES)).map_err(failed)?;
    if length > MAX_FILE_BYTES {
        let reason = "the file is larger than any segment; what is beyond was not read".to_owned();
        let (kind, file, bytes) = (FindingKind::WrongLength, storage.path(name), length - MAX_FILE_BYTES);
        report.add(Finding { kind, file, offset: MAX_FILE_BYTES, bytes, sequence: 0, reason });
    }
    report.count_file(bytes.len() as u64);
    Ok(Some(bytes))
}

/// Checks a segment in which nothing may be damaged or missing.
pub(crate) fn check_sealed(path: &Path, bytes: &[u8], start: usize, sealed: Sealed, report: &mut Report) {
    let before = report.findings.len();
    let mut add = |kind, offset: usize, sequence, reason| {
        report.add(Finding { kind, file: path.to_owned(), offset: offset as u64, bytes: 0, sequence, reason });
    };
    if bytes.len() as u64 != sealed.bytes {
        let reason = format!("the file has {} bytes, the manifest says {}", bytes.len(), sealed.bytes);
        let end = usize::try_from(sealed.bytes).unwrap_or(usize::MAX).min(bytes.len());
        add(FindingKind::WrongLength, end, sealed.last, reason);
    }
    let expected = sealed.compacted_at.is_none().then_some(sealed.first);
    let found = check_lines(path, bytes, start, expected, report);
    let sums = Sealed { bytes: sealed.bytes, compacted_at: sealed.compacted_at, ..found };
    if sums != sealed && report.findings.len() == before {
        let reason = format!(
            "{} records from sequence {} to {} are there, the manifest says {} from {} to {}",
            found.records, found.first, found.last, sealed.records, sealed.first, sealed.last
        );
        let (kind, file) = (FindingKind::MissingRecords, path.to_owned());
        report.add(Finding { kind, file, offset: found.bytes, bytes: 0, sequence: sealed.last, reason });
    }
}

/// Checks the part of a segment that is known to be durable while the store goes on writing behind it; returns what is
/// in it.
pub(crate) fn check_durable_prefix(path: &Path, bytes: &[u8], start: usize, report: &mut Report) -> Sealed {
    let first = bytes.get(start..).and_then(|bytes| frame::read_line(bytes).ok()).map(|line| line.sequence);
    check_lines(path, bytes, start, first, report)
}

/// Checks line after line and goes on behind damage; returns what is there. `expected` is the first sequence where all
/// must follow each other.
fn check_lines(path: &Path, bytes: &[u8], start: usize, mut expected: Option<u64>, report: &mut Report) -> Sealed {
    let mut found = Sealed { bytes: 0, records: 0, first: 0, last: 0, compacted_at: None };
    let mut offset = start;
    let finding = |kind, offset: usize, end: usize, sequence: Option<u64>, reason: String| Finding {
        kind,
        file: path.to_owned(),
        offset: offset as u64,
        bytes: (end - offset) as u64,
        sequence: sequence.unwrap_or(0),
        reason,
    };
    while offset < bytes.len() {
        let line = match frame::read_line(&bytes[offset..]) {
            Ok(line) => line,
            // Zeros behind the records: whether they belong there is the caller's to judge.
            Err(_) if recovery::is_zero(&bytes[offset..]) => break,
            Err(defect) => {
                let end = recovery::next_line(bytes, offset + 1).unwrap_or(bytes.len());
                report.add(finding(FindingKind::DamagedRecord, offset, end, expected, defect.reason().to_owned()));
                offset = end;
                // How many records the damage took is not known: go on with whatever comes.
                expected = expected.and_then(|_| frame::read_line(bytes.get(end..)?).ok().map(|line| line.sequence));
                continue;
            }
        };
        let end = offset + line.bytes();
        // Without a manifest, the header line is one of them.
        let is_header = offset == 0 && line.sequence == 0 && segment::read_header(line.payload).is_some();
        if is_header {
            offset = end;
            continue;
        }
        if let Some(wanted) = expected.filter(|wanted| *wanted != line.sequence) {
            let reason = format!("sequence {} stands where {wanted} should", line.sequence);
            report.add(finding(FindingKind::MissingRecords, offset, offset, Some(wanted), reason));
        }
        if let Err(error) = record::check(line.payload) {
            report.add(finding(FindingKind::DamagedRecord, offset, end, Some(line.sequence), error.to_string()));
        }
        report.count(line.sequence);
        found.records += 1;
        found.first = if found.first == 0 { line.sequence } else { found.first.min(line.sequence) };
        found.last = found.last.max(line.sequence);
        expected = expected.map(|_| line.sequence.saturating_add(1));
        offset = end;
        found.bytes = end as u64;
    }
    found
}

/// Judges the segments that are not sealed, as an opening does.
fn check_open(storage: &dyn Storage, manifest: &Manifest, open: &[Open], report: &mut Report) {
    let durable = open.iter().map(|open| open.scan.durable).fold(manifest.durable, u64::max);
    for Open { path, bytes, start, scan } in open {
        for found in &scan.records {
            let line = frame::read_line(&bytes[found.offset..]).expect("it was read before");
            report.count(found.sequence);
            if let Err(error) = record::check(line.payload) {
                let (offset, bytes) = (found.offset as u64, found.bytes as u64);
                let (kind, reason) = (FindingKind::DamagedRecord, error.to_string());
                report.add(Finding { kind, file: path.clone(), offset, bytes, sequence: found.sequence, reason });
            }
        }
        let end = scan.end_offset;
        let used_end = bytes.iter().rposition(|byte| *byte != 0).map_or(end, |last| last + 1).max(end);
        let (kind, reason, from, until, sequence) = match scan.verdict(bytes, *start, durable) {
            Verdict::Clean => continue,
            Verdict::Torn { offset, expected } => {
                let reason = "a write that was under way when the process died";
                (FindingKind::TornTail, reason, offset, used_end, expected)
            }
            Verdict::Corrupt(reason) => {
                let next = recovery::next_line(bytes, end + 1).unwrap_or(used_end);
                (FindingKind::DamagedRecord, reason, end, next, scan.expected)
            }
        };
        report.add(Finding {
            kind,
            file: path.clone(),
            offset: from as u64,
            bytes: (until - from) as u64,
            sequence,
            reason: reason.to_owned(),
        });
        // What follows a torn tail is cut with it; what follows damage has no place in the order any more.
        return;
    }
    let end = open.last().map_or(manifest.sealed_through, |last| last.scan.expected - 1);
    if end < durable {
        let file = open.last().map_or_else(|| storage.path(MANIFEST_NAME), |last| last.path.clone());
        let reason = format!("records up to sequence {durable} were durable and are missing at the end");
        let kind = FindingKind::MissingRecords;
        report.add(Finding { kind, file, offset: 0, bytes: 0, sequence: end + 1, reason });
    }
}
