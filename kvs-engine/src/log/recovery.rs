//! What the end of a log means after a crash: torn tail, or corruption of acknowledged data.
//!
//! The rule, in the order in which it is applied. Let `expected` be the sequence that should come next where the
//! lines stop making sense, and D the highest sequence that the manifest or any valid line, also one behind the
//! damage, says was durable:
//! 1. only zeros follow, in this segment and in all later ones: the log ends here;
//! 2. `expected` is at most D: **corruption**, acknowledged data is damaged;
//! 3. a whole line stands there that does not fit (its newline, or what was its newline, is in place and no sector of
//!    it is missing): **corruption**, because a torn write leaves zeros and never a wrong byte;
//! 4. else it is a **torn tail**: nobody was told that it is durable, so it is cut, and all that follows it.
//!
//! A group of lines of which the last ones are missing is torn as a whole: it is cut where it begins, by rule 2 unless
//! its first line was durable.

use crate::log::frame::{self, Defect};
use crate::log::group::Unfinished;
use crate::zoo;

/// The unit that a disk writes whole, in bytes: what a torn write leaves out is a multiple of it.
pub(crate) const SECTOR_BYTES: usize = 512;
/// How many beginnings of a line are tried before one newline: more newlines than that are not damaged at once.
const MAX_TRIES: usize = 64;

/// One record found in a segment's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where its line begins.
    pub(crate) offset: usize,
    /// Bytes of its line.
    pub(crate) bytes: usize,
    /// Its number.
    pub(crate) sequence: u64,
}

/// How the lines of a segment that takes appends end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With zeros, or with the file.
    Clean,
    /// With bytes that are no line.
    Damaged(Defect),
    /// With a valid line whose sequence is not the next one.
    OutOfOrder,
}

/// What the end of one segment's lines means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The lines end there; later segments go on.
    Clean,
    /// A torn tail: it is cut, and all that follows it, in later segments as well.
    Torn {
        /// Where the cut is: the end of the lines, or the beginning of a group of which a line is missing.
        offset: usize,
        /// The sequence that is to come there.
        expected: u64,
    },
    /// Acknowledged data is damaged, for this reason.
    Corrupt(&'static str),
}

/// What the bytes of a segment that takes appends say.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The records in order.
    pub(crate) records: Vec<Found>,
    /// Where the records end.
    pub(crate) end_offset: usize,
    /// How they end.
    pub(crate) end: End,
    /// The sequence that should come next.
    pub(crate) expected: u64,
    /// The highest sequence that any valid line here says was durable.
    pub(crate) durable: u64,
    /// The group of lines that is cut off by the end.
    pub(crate) unfinished: Option<Unfinished>,
}

impl Scan {
    /// Judges how the lines of `bytes` end that began at `start`, by the rule at the top of this file. `durable` is D.
    pub(crate) fn verdict(&self, bytes: &[u8], start: usize, durable: u64) -> Verdict {
        let (offset, expected) =
            self.unfinished.map_or((self.end_offset, self.expected), |group| (group.offset, group.sequence));
        let reason = match self.end {
            End::Clean if self.unfinished.is_none() || zoo::bug("half-a-batch-accepted") => return Verdict::Clean,
            End::Clean => "lines of a group are missing",
            End::Damaged(defect) => defect.reason(),
            End::OutOfOrder => "the record before this one is missing",
        };
        let whole = match self.end {
            End::Clean => false,
            // Between two segments, the end of the earlier one may be what is torn.
            End::OutOfOrder => self.end_offset != start,
            End::Damaged(_) if zoo::bug("damage-called-torn") => false,
            End::Damaged(_) => is_whole_line(&bytes[self.end_offset..], self.end_offset),
        };
        if (expected <= durable || whole) && !zoo::bug("truncated-in-the-middle") {
            Verdict::Corrupt(reason)
        } else {
            Verdict::Torn { offset, expected }
        }
    }
}

/// Reads the lines of a segment from `start`. `expected` is the sequence of the first one, or `None` when any will do.
pub(crate) fn scan(bytes: &[u8], start: usize, mut expected: Option<u64>) -> Scan {
    let mut records = Vec::new();
    let mut offset = start;
    let mut durable = 0;
    let mut unfinished = None;
    let end = loop {
        let rest = &bytes[offset..];
        if rest.first().is_none_or(|byte| *byte == 0) {
            break if is_zero(rest) { End::Clean } else { End::Damaged(Defect::Incomplete) };
        }
        match frame::read_line(rest) {
            Ok(line) if expected.is_none_or(|sequence| sequence == line.sequence) => {
                durable = durable.max(line.durable_sequence());
                unfinished = Unfinished::after(unfinished, offset, line.sequence, line.payload);
                records.push(Found { offset, bytes: line.bytes(), sequence: line.sequence });
                offset += line.bytes();
                expected = Some(line.sequence.saturating_add(1));
            }
            Ok(_) => break End::OutOfOrder,
            Err(defect) => break End::Damaged(defect),
        }
    };
    if end != End::Clean {
        durable = durable.max(durable_behind(&bytes[offset..]));
    }
    Scan { records, end_offset: offset, end, expected: expected.unwrap_or(0), durable, unfinished }
}

/// Whether what stands at the beginning of `rest` is a whole line that does not fit, rather than a torn one. `offset`
/// is where `rest` begins in its file, for the borders of sectors.
pub(crate) fn is_whole_line(rest: &[u8], offset: usize) -> bool {
    if rest.first() == Some(&0) {
        return false;
    }
    let position = memchr::memchr2(b'\n', 0, rest).unwrap_or(rest.len());
    if rest.get(position) == Some(&b'\n') {
        return true;
    }
    // A newline that became another byte: the length says where it was.
    if frame::announced_bytes(rest) == Some(position) {
        return true;
    }
    if position == rest.len() {
        return false;
    }
    // A byte that became zero inside a line: a torn write leaves the rest of the sector zero as well.
    // Its last byte says nothing about that: there the line must end as well, because what is missing of a line that
    // goes on begins with a sector.
    let sector_end = ((offset + position) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
    let is_last = position + 1 == sector_end;
    !is_zero(&rest[position..(sector_end + usize::from(is_last)).min(rest.len())])
}

/// The highest sequence that a valid line somewhere in `rest` says was durable.
fn durable_behind(rest: &[u8]) -> u64 {
    let mut durable = 0;
    let mut offset = 0;
    while let Some(bytes) = rest.get(offset..) {
        match frame::find_line(bytes) {
            Some(line) => {
                durable = durable.max(line.durable_sequence());
                offset += line.bytes();
            }
            // A line begins behind a newline or, where sectors are missing, behind zeros.
            None => {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                if zeros > 0 {
                    offset += zeros;
                    continue;
                }
                let Some(found) = memchr::memchr2(b'\n', 0, bytes) else { break };
                offset += found + usize::from(bytes[found] == b'\n');
            }
        }
    }
    durable
}

/// Where the next valid line begins at or behind `from`, for who must go on behind damage. Every offset is tried: where
/// a newline or a length is damaged, the lines behind it are not. A value that quotes a line is none: a quote inside a
/// record is escaped, so that its payload is no record.
///
/// Before one newline only [`MAX_TRIES`] beginnings are tried whose length fits it, so that a file which is made of such
/// beginnings does not take time in proportion to the square of its length.
pub(crate) fn next_line(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut newline, mut tries) = (0, 0);
    for offset in (from..bytes.len()).filter(|offset| frame::looks_like_line(&bytes[*offset..])) {
        let payload = offset + frame::PREFIX_BYTES;
        if newline < payload {
            newline = payload + memchr::memchr(b'\n', &bytes[payload..])?;
            tries = 0;
        }
        let fits = frame::announced_bytes(&bytes[offset..]) == Some(newline + 1 - offset);
        tries += usize::from(fits);
        if fits && tries <= MAX_TRIES && frame::read_line(&bytes[offset..]).is_ok() {
            return Some(offset);
        }
    }
    None
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three records, of which the third says that the first two were durable, and 600 zeros.
    fn example() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame::append_line(&mut bytes, 1, 0, br#"{"set":{"key":"a","value":"1"}}"#);
        frame::append_line(&mut bytes, 2, 0, br#"{"set":{"key":"b","value":"2"}}"#);
        frame::append_line(&mut bytes, 3, 2, br#"{"rm":{"key":"a"}}"#);
        bytes.resize(bytes.len() + 600, 0);
        bytes
    }

    #[test]
    fn a_log_that_ends_in_zeros_is_clean() {
        let scan = scan(&example(), 0, Some(1));
        assert_eq!((scan.end, scan.expected, scan.durable, scan.records.len()), (End::Clean, 4, 2, 3));
    }

    #[test]
    fn damage_behind_which_a_line_claims_durability_is_known_as_such() {
        let mut bytes = example();
        bytes[50] ^= 1;
        let scan = scan(&bytes, 0, Some(1));
        assert_eq!((scan.end, scan.expected), (End::Damaged(Defect::Checksum), 1));
        assert_eq!(scan.durable, 2, "the third line says so");
    }

    #[test]
    fn a_cut_line_is_torn_and_a_flipped_bit_is_not() {
        let bytes = example();
        let whole = scan(&bytes, 0, Some(1));
        let last = whole.records[2];
        let line = last.offset..last.offset + last.bytes;
        for cut in line.clone().skip(1) {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            assert!(!is_whole_line(&torn[last.offset..], last.offset), "cut at {cut}");
        }
        for bit in line.start * 8..line.end * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_whole_line(&flipped[last.offset..], last.offset), "bit {bit}");
        }
    }

    #[test]
    fn the_next_line_is_found_behind_any_damage() {
        let bytes = example();
        let starts: Vec<usize> = scan(&bytes, 0, Some(1)).records.iter().map(|found| found.offset).collect();
        for damaged in starts[0]..starts[1] {
            let mut bytes = bytes.clone();
            bytes[damaged] ^= 0x11;
            assert_eq!(next_line(&bytes, 0), Some(starts[1]), "byte {damaged}");
        }
        assert_eq!(next_line(&bytes, 0), Some(0));
        assert_eq!(next_line(&bytes, starts[2] + 1), None);
    }

    #[test]
    fn what_stands_behind_damage_is_searched_in_time_in_proportion_to_its_length() {
        // Beginnings of lines that all announce the last newline; no checksum fits.
        let example = |bytes: usize, between: &str| {
            let mut example = Vec::with_capacity(bytes);
            while example.len() + 100 < bytes {
                let length = bytes - example.len() - frame::OVERHEAD_BYTES;
                example.extend_from_slice(format!("00000000 {length:08x} {:016x} ffff {between}", 1).as_bytes());
            }
            example.resize(bytes - 1, b'x');
            example.push(b'\n');
            example
        };
        let started = std::time::Instant::now();
        for between in ["\n", "\0", "x"] {
            assert_eq!(durable_behind(&example(16 * 1024 * 1024, between)), 0);
            assert_eq!(next_line(&example(4 * 1024 * 1024, between), 0), None);
        }
        // In proportion it takes a second or two; else it would take many minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    }

    #[test]
    fn a_sequence_that_is_left_out_is_noticed() {
        let mut bytes = Vec::new();
        frame::append_line(&mut bytes, 1, 0, b"{}");
        frame::append_line(&mut bytes, 3, 0, b"{}");
        let scan = scan(&bytes, 0, Some(1));
        assert_eq!((scan.end, scan.expected), (End::OutOfOrder, 2));
    }
}
