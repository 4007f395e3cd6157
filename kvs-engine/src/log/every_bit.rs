//! Every single bit of a log of 1 MiB is flipped, and the reader of segments says what it makes of it.
//!
//! A segment is read line by line, each line by itself: what a flip does is decided by the line that holds the bit and,
//! for the judgement after a crash, by the bytes behind it. So each flip costs the reading of one line, and all of
//! them, more than eight million, take seconds. That a whole folder is opened for a flip is what `tests/bit_flips.rs`
//! does, on a small one.

use super::frame;
use super::recovery::{self, End, SECTOR_BYTES};
use super::segment;

/// The size of the log, in bytes.
const LOG_BYTES: usize = 1024 * 1024;
/// Zeros behind it, in bytes: sectors enough for a flip in any place of one.
const TAIL_BYTES: usize = 4 * SECTOR_BYTES;

/// Characters with many and few bits set, in one and in several bytes: a flip makes zeros, newlines and spaces of some.
const CHARACTERS: [char; 12] = ['a', 'z', '0', '9', ' ', ' ', '@', 'J', '*', '\u{c0}', '\u{2000}', '\\'];

/// A log of records of many lengths, and where each line begins.
fn example() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = segment::header_line("0123456789abcdef0123456789abcdef", 1);
    let mut starts = Vec::new();
    let mut sequence = 1;
    let mut dice = 1_usize;
    while bytes.len() < LOG_BYTES {
        starts.push(bytes.len());
        let mut value = String::new();
        for _ in 0..40 + sequence % 173 {
            // A linear congruence; its high bits are random enough for text (Knuth, TAOCP volume 2, section 3.2.1).
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value.push(CHARACTERS[(dice >> 33) % CHARACTERS.len()]);
        }
        let payload = serde_json::json!({"set": {"key": format!("key-{sequence}"), "value": value}}).to_string();
        frame::append_line(&mut bytes, sequence, sequence - 1, payload.as_bytes());
        sequence += 1;
    }
    starts.push(bytes.len());
    bytes.resize(bytes.len() + TAIL_BYTES, 0);
    (bytes, starts)
}

#[test]
fn no_flipped_bit_of_a_log_is_accepted_and_none_in_a_whole_line_is_called_torn() {
    let (mut bytes, starts) = example();
    let mut flips = 0_u64;
    for line in starts.windows(2) {
        let (start, end) = (line[0], line[1]);
        for bit in start * 8..end * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let rest = &bytes[start..];
            // After a clean end the segment is sealed: a line that can't be read is corruption.
            assert!(frame::read_line(rest).is_err(), "bit {bit} was accepted");
            // After a kill the line is judged together with what follows it.
            assert!(
                recovery::is_whole_line(rest, start),
                "bit {bit}, {} in its line, was called torn",
                bit / 8 - start
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    assert!(flips > 8_000_000, "only {flips} bits");
}

/// Lines whose first byte is at each place of a sector: what is said of a flip must not depend on where a line lies.
#[test]
fn what_a_flip_means_does_not_depend_on_the_borders_of_sectors() {
    let mut line = Vec::new();
    frame::append_line(&mut line, 1, 0, br#"{"set":{"key":"a  @@","value":"  b @ c"}}"#);
    let mut bytes = line.clone();
    bytes.resize(line.len() + TAIL_BYTES, 0);
    for start in 0..SECTOR_BYTES {
        for bit in 0..line.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(recovery::is_whole_line(&bytes, start), "bit {bit} of a line at {start} was called torn");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A line of which a sector or the end is missing is torn, wherever it lies.
#[test]
fn a_line_without_a_sector_or_without_its_end_is_torn() {
    let mut line = Vec::new();
    let payload = serde_json::json!({"set": {"key": "key", "value": " @".repeat(700)}}).to_string();
    frame::append_line(&mut line, 1, 0, payload.as_bytes());
    for start in (0..SECTOR_BYTES).step_by(7) {
        let end = start + line.len();
        for sector in start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let mut bytes = line.clone();
            let lost = (sector * SECTOR_BYTES).max(start) - start..((sector + 1) * SECTOR_BYTES).min(end) - start;
            bytes[lost].fill(0);
            bytes.resize(line.len() + TAIL_BYTES, 0);
            assert!(frame::read_line(&bytes).is_err());
            assert!(!recovery::is_whole_line(&bytes, start), "a line at {start} without sector {sector}");
        }
        for cut in 1..line.len() {
            let mut bytes = line[..cut].to_vec();
            bytes.resize(line.len() + TAIL_BYTES, 0);
            assert!(!recovery::is_whole_line(&bytes, start), "a line at {start} that was cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_behind_a_log_is_seen() {
    let (mut bytes, starts) = example();
    // The last lines stand for all: what comes before is read the same way.
    let last = starts[starts.len() - 3];
    let end = starts[starts.len() - 1];
    for bit in end * 8..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let scan = recovery::scan(&bytes, last, None);
        assert!(matches!(scan.end, End::Damaged(_)), "bit {bit} behind the log was not seen");
        assert_eq!((scan.end_offset, scan.records.len()), (end, 2), "bit {bit} behind the log took a record away");
        assert!(!recovery::is_whole_line(&bytes[end..], end), "bit {bit} behind the log was called a line");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
