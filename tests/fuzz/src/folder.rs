//! Folders in memory with files of any bytes, and lines whose lengths and checksums are mended, because a fuzzer guesses
//! none.

use kvs_engine::fuzzing;
use kvs_engine::storage::{MemoryStorage, Storage};

/// The log that every fuzzed file claims to be of.
pub const LOG: &str = "00112233445566778899aabbccddeeff";
/// Bytes of a line before its payload.
pub const PREFIX_BYTES: usize = 40;

/// Puts a file into a folder.
pub fn put(storage: &MemoryStorage, name: &str, bytes: &[u8]) {
    let file = storage.create(name).expect("names are used once");
    let mut offset = 0;
    while offset < bytes.len() {
        offset += file.write_at(&bytes[offset..], offset as u64).expect("memory takes it");
    }
}

/// The name of a segment's file.
pub fn segment_name(id: u64) -> String {
    format!("{id:08}.log")
}

/// The header line of a segment.
pub fn header(id: u64) -> Vec<u8> {
    fuzzing::line(0, 0, format!(r#"{{"segment":{{"version":2,"log":"{LOG}","id":{id}}}}}"#).as_bytes())
}

/// The sequence in a line's prefix.
pub fn sequence_of(line: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(line.get(18..34)?).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Makes lines of text: what has a prefix keeps its sequence, everything else is a payload and gets the next one.
/// Length and checksum fit, and the lag where it can. `rewrite` may change a payload.
pub fn mend(text: &[u8], next: &mut u64, rewrite: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut lines = Vec::new();
    for chunk in text.split(|byte| *byte == b'\n').filter(|chunk| !chunk.is_empty()) {
        let sequence = sequence_of(chunk);
        let payload = if sequence.is_some() { chunk.get(PREFIX_BYTES..).unwrap_or(&[]) } else { chunk };
        let sequence = sequence.unwrap_or(*next);
        let lag = chunk.get(35..39).filter(|_| payload.len() < chunk.len());
        let lag = lag.and_then(|lag| u64::from_str_radix(std::str::from_utf8(lag).ok()?, 16).ok()).unwrap_or(u64::MAX);
        lines.extend(fuzzing::line(sequence, sequence.saturating_sub(lag), &rewrite(payload)));
        *next = sequence.wrapping_add(1);
    }
    lines
}

/// Records in each segment of [`two_segments`].
pub const RECORDS: u64 = 8;

/// A sound folder of two segments, of which the first is sealed, with the same keys `0` to `7`; and where the lines of the
/// first begin and end.
pub fn two_segments() -> (MemoryStorage, Vec<usize>) {
    let storage = MemoryStorage::new();
    let mut ends = Vec::new();
    for id in [1, 2] {
        let mut bytes = header(id);
        for number in 0..RECORDS {
            if id == 1 {
                ends.push(bytes.len());
            }
            let sequence = (id - 1) * RECORDS + number + 1;
            let payload = format!(r#"{{"set":{{"key":"{number}","value":"{sequence}"}}}}"#);
            bytes.extend(fuzzing::line(sequence, sequence - 1, payload.as_bytes()));
        }
        if id == 1 {
            ends.push(bytes.len());
        }
        put(&storage, &segment_name(id), &bytes);
    }
    let sealed_bytes = ends[ends.len() - 1];
    let sealed = format!(r#"{{"bytes":{sealed_bytes},"records":{RECORDS},"first":1,"last":{RECORDS}}}"#);
    put_manifest(&storage, 2 * RECORDS, RECORDS, &format!(r#"{{"id":1,"sealed":{sealed}}},{{"id":2}}"#));
    (storage, ends)
}

/// Puts a manifest into a folder; `segments` are its entries.
pub fn put_manifest(storage: &MemoryStorage, durable: u64, sealed_through: u64, segments: &str) {
    let manifest = format!(
        r#"{{"manifest":{{"version":2,"log":"{LOG}","generation":7,"durable":{durable},"sealed_through":{sealed_through},"segments":[{segments}]}}}}"#
    );
    put(storage, "MANIFEST", &fuzzing::line(7, 7, manifest.as_bytes()));
}
