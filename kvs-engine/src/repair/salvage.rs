//! `Salvage`: the newest intact record of each key, wherever it is, and what damaged bytes still show.

use std::collections::{BTreeSet, HashMap};

use super::{KeyLoss, Loss, Then};
use crate::error::{Error, Result};
use crate::kvs::record;
use crate::log::manifest::Manifest;
use crate::log::recovery::{self, Scan, Verdict};
use crate::log::{frame, group, segment};
use crate::operation::Mutation;
use crate::scan::Entry;
use crate::storage::{Storage, read_all, read_exact_at};
use crate::verify::{Finding, FindingKind};

/// The most keys that are looked for in one damaged place; more are only said to be there.
const MAX_KEYS_OF_A_LOSS: usize = 1_000;

/// Where the newest intact record of a key is.
#[derive(Debug, Clone, Copy)]
struct Place {
    sequence: u64,
    /// The place of the file's name in the list.
    file: usize,
    offset: u64,
    bytes: usize,
    removed: bool,
}

/// What is intact.
pub(super) struct Salvage {
    files: Vec<String>,
    keys: HashMap<Vec<u8>, Place>,
    pub(super) records: u64,
    /// The sequences of all intact records, as ranges would be shorter, and are not needed.
    sequences: BTreeSet<u64>,
}

impl Salvage {
    /// Reads every segment that the manifest lists; without a manifest, every one that is there.
    pub(super) fn read(storage: &dyn Storage, names: &[String], manifest: Option<&Manifest>) -> Result<Self> {
        let mut salvage = Self { files: Vec::new(), keys: HashMap::new(), records: 0, sequences: BTreeSet::new() };
        let listed: Option<BTreeSet<u64>> =
            manifest.map(|manifest| manifest.segments.iter().map(|entry| entry.id).collect());
        let is_listed = |name: &&String| {
            segment::id_of(name).is_some_and(|id| listed.as_ref().is_none_or(|listed| listed.contains(&id)))
        };
        let mut durable = manifest.map_or(0, |manifest| manifest.durable);
        for name in names.iter().filter(|name| is_open(name, manifest)) {
            let bytes = read_file(storage, name)?;
            durable = durable.max(scan_of(&bytes).map_or(0, |(_, scan)| scan.durable));
        }
        for name in names.iter().filter(is_listed) {
            let bytes = read_file(storage, name)?;
            let end = if is_open(name, manifest) { torn_from(&bytes, durable) } else { bytes.len() };
            salvage.take(name, &bytes[..end]);
        }
        Ok(salvage)
    }

    /// Takes in every intact record of a file, whatever stands between them.
    fn take(&mut self, name: &str, bytes: &[u8]) {
        let file = self.files.len();
        self.files.push(name.to_owned());
        let mut offset = 0;
        while let Some(start) = recovery::next_line(bytes, offset) {
            let line = frame::read_line(&bytes[start..]).expect("a line was found here");
            offset = start + line.bytes();
            if line.sequence == 0 || group::announced(line.payload).is_some() {
                self.sequences.insert(line.sequence);
                continue;
            }
            let Ok((elements, _)) = record::decode(line.payload) else { continue };
            self.records += 1;
            self.sequences.insert(line.sequence);
            for element in elements {
                let removed = matches!(element.mutation, Mutation::Remove { .. });
                let key = element.mutation.key();
                let place = Place { sequence: line.sequence, file, offset: start as u64, bytes: line.bytes(), removed };
                match self.keys.get_mut(key) {
                    Some(known) if known.sequence > line.sequence => {}
                    Some(known) => *known = place,
                    None => drop(self.keys.insert(key.to_vec(), place)),
                }
            }
        }
    }

    pub(super) fn live_keys(&self) -> u64 {
        self.keys.values().filter(|place| !place.removed).count() as u64
    }

    /// Shows every entry that is saved.
    pub(super) fn entries(&self, storage: &dyn Storage, show: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        // File by file, so that one is open at a time, and front to back.
        let mut places: Vec<_> = self.keys.iter().filter(|(_, place)| !place.removed).collect();
        places.sort_unstable_by_key(|(_, place)| (place.file, place.offset));
        for of_file in places.chunk_by(|(_, one), (_, other)| one.file == other.file) {
            let name = &self.files[of_file[0].1.file];
            let failed = |error| Error::io(format!("reading {}", storage.path(name).display()), error);
            let file = storage.open_to_read(name).map_err(failed)?;
            for (key, place) in of_file {
                let mut bytes = vec![0; place.bytes];
                read_exact_at(file.as_ref(), &mut bytes, place.offset).map_err(failed)?;
                let damaged = |reason: &str| Error::Corruption {
                    file: storage.path(name),
                    offset: place.offset,
                    sequence: place.sequence,
                    reason: reason.to_owned(),
                };
                let line = frame::read_line(&bytes).map_err(|defect| damaged(defect.reason()))?;
                let word = record::last_word(line.payload, key).map_err(|error| damaged(&error.to_string()))?;
                let value = word.flatten().ok_or_else(|| damaged("the record changed while it was read"))?;
                show(Entry { key: (*key).clone(), value: Some(value) })?;
            }
        }
        Ok(())
    }

    /// What one finding means.
    pub(super) fn loss_of(&self, storage: &dyn Storage, finding: Finding) -> Result<Loss> {
        let name = finding.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_segment = segment::id_of(&name).is_some();
        let has_records = !matches!(finding.kind, FindingKind::DamagedHeader | FindingKind::WrongLength);
        let bytes = match finding.kind {
            FindingKind::DamagedRecord if is_segment => {
                let all = read_file(storage, &name)?;
                let start = usize::try_from(finding.offset).unwrap_or(usize::MAX).min(all.len());
                let end = start.saturating_add(usize::try_from(finding.bytes).unwrap_or(usize::MAX)).min(all.len());
                all[start..end].to_vec()
            }
            _ => Vec::new(),
        };
        let (first_sequence, last_sequence) = self.missing_at(finding.sequence);
        let found = keys_in(&bytes);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| line.iter().any(|byte| *byte != 0)).count();
        let keys = found.iter().map(|(key, removed)| self.key_loss(key, *removed, last_sequence)).collect::<Vec<_>>();
        let others = has_records && (keys.is_empty() || keys.len() < lines);
        Ok(Loss { finding, first_sequence, last_sequence, keys, others })
    }

    /// The sequences around one that no intact record has.
    fn missing_at(&self, sequence: u64) -> (u64, u64) {
        if sequence == 0 || self.sequences.contains(&sequence) {
            return (0, 0);
        }
        let before = self.sequences.range(..sequence).next_back().map_or(1, |below| below + 1);
        let behind = self.sequences.range(sequence..).next().map_or(sequence, |above| above - 1);
        (before, behind)
    }

    /// What becomes of a key of a damaged record.
    fn key_loss(&self, key: &[u8], was_removal: bool, last_sequence: u64) -> KeyLoss {
        let then = match self.keys.get(key) {
            Some(place) if last_sequence > 0 && place.sequence > last_sequence => Then::NothingIsLost,
            Some(place) if place.removed => Then::Missing,
            Some(_) if was_removal => Then::RemovedKeyComesBack,
            Some(_) => Then::OlderValue,
            None => Then::Missing,
        };
        KeyLoss { key: String::from_utf8_lossy(key).into_owned(), was_removal, then }
    }
}

fn read_file(storage: &dyn Storage, name: &str) -> Result<Vec<u8>> {
    let read = storage.open_to_read(name).and_then(|file| read_all(file.as_ref(), file.length()?));
    read.map_err(|error| Error::io(format!("reading {}", storage.path(name).display()), error))
}

/// Whether a file is a segment that takes appends.
fn is_open(name: &str, manifest: Option<&Manifest>) -> bool {
    let id = segment::id_of(name);
    manifest
        .is_some_and(|manifest| manifest.segments.iter().any(|entry| Some(entry.id) == id && entry.sealed.is_none()))
}

/// What the lines of a segment say, and where the first one begins; `None` where its header is damaged.
fn scan_of(bytes: &[u8]) -> Option<(usize, Scan)> {
    let start = frame::read_line(bytes).ok()?.bytes();
    Some((start, recovery::scan(bytes, start, None)))
}

/// Where the torn tail of a segment that takes appends begins: nobody was told of what follows. Where the end is
/// damaged instead, all of it is looked at. `durable` is what any segment says was durable.
fn torn_from(bytes: &[u8], durable: u64) -> usize {
    let Some((start, scan)) = scan_of(bytes) else { return bytes.len() };
    match scan.verdict(bytes, start, durable) {
        Verdict::Torn { offset, .. } => offset,
        Verdict::Clean | Verdict::Corrupt(_) => bytes.len(),
    }
}

/// The keys that can be read in damaged bytes, each with whether its record was a removal.
fn keys_in(bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut found = Vec::new();
    for (before, removed) in [(&br#"{"set":{"key":""#[..], false), (br#"{"rm":{"key":""#, true)] {
        for place in memchr::memmem::find_iter(bytes, before) {
            let rest = &bytes[place + before.len()..];
            let Some(end) = record::shape::end_of_text(rest) else { continue };
            let quoted = [b"\"", &rest[..end], b"\""].concat();
            if let Ok(key) = serde_json::from_slice::<String>(&quoted) {
                found.push((key.into_bytes(), removed));
            }
            if found.len() == MAX_KEYS_OF_A_LOSS {
                return found;
            }
        }
    }
    found
}
