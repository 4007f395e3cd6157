//! One line of the log: an integrity prefix, a payload that is JSON text, a newline.
//!
//! ```text
//! offset  bytes  field      meaning
//!      0      8  checksum   CRC-32C of bytes 8 up to, not including, the newline
//!      8      1  space
//!      9      8  length     bytes of the payload
//!     17      1  space
//!     18     16  sequence   number of the record, from 1
//!     34      1  space
//!     35      4  lag        sequence minus the highest sequence known durable when this was written;
//!                           ffff: at least that far, so the line claims nothing
//!     39      1  space
//!     40      n  payload    JSON, without a raw newline
//!   40+n      1  newline
//! ```
//!
//! Numbers are hexadecimal in lower case. Upper case is refused: bit 5 of a letter flipped must not pass.
//!
//! What must hold: no line with a flipped bit is accepted; a line says by itself where it ends, and that agrees with
//! its newline.

use crate::zoo;

/// Bytes before the payload.
pub(crate) const PREFIX_BYTES: usize = 40;
/// Bytes of a line that are not payload.
pub(crate) const OVERHEAD_BYTES: usize = PREFIX_BYTES + 1;
/// The lag from which on a line claims nothing.
pub(crate) const LAG_UNKNOWN: u16 = u16::MAX;

/// A line that is whole and whose checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Number of the record, from 1.
    pub(crate) sequence: u64,
    /// See the table above.
    pub(crate) lag: u16,
    /// JSON text.
    pub(crate) payload: &'a [u8],
}

impl Line<'_> {
    /// Bytes of the whole line, newline included.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    /// The highest sequence that was durable for certain when this line was written; 0 when it claims nothing.
    pub(crate) fn durable_sequence(&self) -> u64 {
        if self.lag == LAG_UNKNOWN { 0 } else { self.sequence.saturating_sub(u64::from(self.lag)) }
    }
}

/// Why bytes are not a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// The bytes end before the line does, or are zero where it should go on.
    Incomplete,
    /// The prefix is not what this format writes.
    Prefix,
    /// There is no newline where the length says that the line ends.
    End,
    /// The checksum does not fit.
    Checksum,
}

impl Defect {
    /// What to tell a person.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Incomplete => "the line is incomplete",
            Self::Prefix => "the line's prefix is damaged",
            Self::End => "the line does not end where its length says",
            Self::Checksum => "the line's checksum does not fit",
        }
    }
}

/// Appends one line. The lag is how far the record is ahead of what is durable.
pub(crate) fn append_line(buffer: &mut Vec<u8>, sequence: u64, durable_sequence: u64, payload: &[u8]) {
    debug_assert!(!payload.contains(&b'\n'), "serde_json escapes newlines");
    let lag = u16::try_from(sequence.saturating_sub(durable_sequence)).unwrap_or(LAG_UNKNOWN);
    let start = buffer.len();
    let mut prefix = [b' '; PREFIX_BYTES];
    put_hex(&mut prefix[9..17], payload.len() as u64);
    put_hex(&mut prefix[18..34], sequence);
    put_hex(&mut prefix[35..39], u64::from(lag));
    buffer.reserve(payload.len() + OVERHEAD_BYTES);
    buffer.extend_from_slice(&prefix);
    buffer.extend_from_slice(payload);
    let checksum = crc32c::crc32c(&buffer[start + 8..]);
    put_hex(&mut buffer[start..start + 8], u64::from(checksum));
    buffer.push(b'\n');
}

/// Bytes of the line of a payload.
pub(crate) fn line_bytes(payload: &[u8]) -> u64 {
    (payload.len() + OVERHEAD_BYTES) as u64
}

/// Reads the line at the beginning of `bytes`, which may go on behind it.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn read_line(bytes: &[u8]) -> Result<Line<'_>, Defect> {
    let Some(prefix) = bytes.get(..PREFIX_BYTES) else { return Err(Defect::Incomplete) };
    if prefix.contains(&0) {
        return Err(Defect::Incomplete);
    }
    let (length, sequence, lag, checksum) = read_prefix(prefix).ok_or(Defect::Prefix)?;
    let end = PREFIX_BYTES + length;
    let Some(&newline) = bytes.get(end) else { return Err(Defect::Incomplete) };
    if newline != b'\n' && !zoo::bug("trusted-length") {
        return Err(if newline == 0 { Defect::Incomplete } else { Defect::End });
    }
    if crc32c::crc32c(&bytes[8..end]) != checksum && !zoo::bug("skipped-checksum") {
        return Err(Defect::Checksum);
    }
    Ok(Line { sequence, lag, payload: &bytes[PREFIX_BYTES..end] })
}

/// The line at the beginning of `bytes`, for who tries many beginnings behind damage. No payload holds a newline or a
/// zero byte, so where the first of them is not the end that is announced, the checksum is not even computed: trying
/// what stands behind each of them takes time in proportion to the bytes, whatever lengths they announce.
pub(crate) fn find_line(bytes: &[u8]) -> Option<Line<'_>> {
    let end = announced_bytes(bytes)?;
    let stop = PREFIX_BYTES + memchr::memchr2(b'\n', 0, &bytes[PREFIX_BYTES..])?;
    if end == stop + 1 { read_line(bytes).ok() } else { None }
}

/// The length of the whole line, newline included, that a prefix announces; `None` when it is no prefix. Not checked
/// by the checksum yet: whoever allocates by it must bound it first.
pub(crate) fn announced_bytes(prefix: &[u8]) -> Option<usize> {
    read_prefix(prefix.get(..PREFIX_BYTES)?).map(|(length, ..)| length + OVERHEAD_BYTES)
}

/// Whether bytes can be a line at all: cheap, and false nearly everywhere but at the beginning of one.
pub(crate) fn looks_like_line(bytes: &[u8]) -> bool {
    let space = |place: usize| bytes.get(place) == Some(&b' ');
    space(8) && space(17) && space(34) && space(39)
}

/// Length, sequence, lag and checksum of a prefix.
fn read_prefix(prefix: &[u8]) -> Option<(usize, u64, u16, u32)> {
    let spaces = [prefix[8], prefix[17], prefix[34], prefix[39]];
    if spaces != [b' '; 4] {
        return None;
    }
    let checksum = u32::try_from(get_hex(&prefix[0..8])?).ok()?;
    let length = usize::try_from(get_hex(&prefix[9..17])?).ok()?;
    let sequence = get_hex(&prefix[18..34])?;
    let lag = u16::try_from(get_hex(&prefix[35..39])?).ok()?;
    Some((length, sequence, lag, checksum))
}

fn put_hex(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// A number in strict lower-case hexadecimal, of at most 16 digits.
fn get_hex(field: &[u8]) -> Option<u64> {
    let (mut number, mut all) = (0_u64, 0_u8);
    for digit in field {
        let value = DIGITS[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value);
    }
    (all < 16).then_some(number)
}

/// What each byte means as a digit; 255 for those that are none.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u64, durable: u64, payload: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        append_line(&mut bytes, sequence, durable, payload.as_bytes());
        bytes
    }

    #[test]
    fn a_line_is_what_the_format_document_shows() {
        let bytes = line(167, 160, r#"{"set":{"key":"k","value":"v"}}"#);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(&text[8..], " 0000001f 00000000000000a7 0007 {\"set\":{\"key\":\"k\",\"value\":\"v\"}}\n");
        let line = read_line(text.as_bytes()).unwrap();
        assert_eq!((line.sequence, line.lag, line.durable_sequence()), (167, 7, 160));
        assert_eq!(line.bytes(), text.len());
    }

    #[test]
    fn a_lag_that_does_not_fit_claims_nothing() {
        let bytes = line(1_000_000, 5, "{}");
        assert_eq!(read_line(&bytes).unwrap().durable_sequence(), 0);
    }

    #[test]
    fn no_flipped_bit_passes() {
        let bytes = line(1, 0, r#"{"set":{"key":"abcdef","value":"some value"}}"#);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_line(&damaged).is_err(), "bit {bit} flipped and nobody noticed");
        }
    }

    #[test]
    fn every_cut_is_incomplete() {
        let bytes = line(1, 0, r#"{"rm":{"key":"abc"}}"#);
        for end in 0..bytes.len() {
            assert_eq!(read_line(&bytes[..end]), Err(Defect::Incomplete), "cut at {end}");
            let mut zeroed = bytes.clone();
            zeroed[end..].fill(0);
            assert_eq!(read_line(&zeroed), Err(Defect::Incomplete), "zero from {end}");
        }
    }
}
