//! Where a key's record is, in eight bytes.
//!
//! ```text
//! bits   meaning
//! 20     slot of the segment
//! 30     offset of the line in the segment's file
//!  1     the line is a batch, of which the key is one element
//! 13     charge: bytes of the record (of the element, in a batch), rounded up: 3 bits of exponent e and 10 bits of
//!        mantissa m mean m * 8^e bytes; 0: a tombstone, which only exists while a log is replayed
//! ```
//!
//! Nothing is rounded up to 1,023 bytes, which are most records; above, it adds less than 8 bytes up to 8 KiB and less
//! than one part in 128 beyond.

use crate::log::segment::MAX_FILE_BYTES;

pub(crate) const SLOT_BITS: u32 = u64::BITS - OFFSET_BITS - 1 - CHARGE_BITS;
pub(crate) const OFFSET_BITS: u32 = 30;
pub(crate) const CHARGE_BITS: u32 = 13;
const MANTISSA_BITS: u32 = 10;
/// The unit of a charge with exponent zero is a byte; each step of the exponent is a factor of 8.
const STEP_BITS: u32 = 3;
const MAX_MANTISSA: u64 = (1 << MANTISSA_BITS) - 1;
const CHARGE_MASK: u64 = (1 << CHARGE_BITS) - 1;
/// No record begins at or beyond this offset, so no segment is larger.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << OFFSET_BITS;
const _: () = assert!(MAX_SEGMENT_BYTES >= MAX_FILE_BYTES, "every file that is read can be pointed at");
/// No segment has this slot or a higher one.
pub(crate) const MAX_SLOTS: u32 = 1 << SLOT_BITS;

/// Where a key's record is. Never zero, so that zero can mean "no entry".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location(u64);

/// What a location is made of, each part as it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) slot: u32,
    pub(crate) offset: u64,
    pub(crate) batch: bool,
    pub(crate) charge: u64,
}

impl Location {
    /// A record, or an element of a batch, of so many bytes.
    pub(crate) fn new(slot: u32, offset: u64, batch: bool, bytes: u64) -> Self {
        Self::with_charge(slot, offset, batch, charge_of(bytes.max(1)))
    }

    /// A record that removes the key.
    pub(crate) fn tombstone(slot: u32, offset: u64, batch: bool) -> Self {
        Self::with_charge(slot, offset, batch, 0)
    }

    fn with_charge(slot: u32, offset: u64, batch: bool, charge: u64) -> Self {
        debug_assert!(offset > 0 && offset < MAX_SEGMENT_BYTES, "a record lies behind the header of a segment");
        Self(
            u64::from(slot) << (OFFSET_BITS + 1 + CHARGE_BITS)
                | offset << (1 + CHARGE_BITS)
                | u64::from(batch) << CHARGE_BITS
                | charge,
        )
    }

    /// From what [`to_bits`](Self::to_bits) returned; `None` for zero.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// A place of a checkpoint of version 2, where a charge of exponent e and mantissa m meant m * 8 * 8^e bytes; `None`
    /// for what is no place of a record.
    pub(crate) fn from_version_2(bits: u64) -> Option<Self> {
        let old = Self(bits);
        let bytes = old.charge_bytes() << STEP_BITS;
        let is_record = old.offset() > 0 && bytes > 0 && bytes <= MAX_SEGMENT_BYTES;
        is_record.then(|| Self::new(old.slot(), old.offset(), old.is_batch(), bytes))
    }

    /// Its parts.
    pub(crate) fn parts(self) -> Parts {
        Parts { slot: self.slot(), offset: self.offset(), batch: self.is_batch(), charge: self.0 & CHARGE_MASK }
    }

    /// From its parts, none of them longer than its bits; `None` for what is no place of a record.
    pub(crate) fn from_parts(parts: Parts) -> Option<Self> {
        let Parts { slot, offset, batch, charge } = parts;
        let is_record = offset > 0 && charge & MAX_MANTISSA > 0;
        is_record.then(|| Self::with_charge(slot, offset, batch, charge))
    }

    /// The slot of the segment.
    pub(crate) fn slot(self) -> u32 {
        u32::try_from(self.0 >> (OFFSET_BITS + 1 + CHARGE_BITS)).expect("20 bits")
    }

    /// Where the line begins in the segment's file.
    pub(crate) fn offset(self) -> u64 {
        self.0 >> (1 + CHARGE_BITS) & (MAX_SEGMENT_BYTES - 1)
    }

    /// Whether the line is a batch.
    pub(crate) fn is_batch(self) -> bool {
        self.0 >> CHARGE_BITS & 1 == 1
    }

    pub(crate) fn is_tombstone(self) -> bool {
        self.0 & CHARGE_MASK == 0
    }

    /// What the record counts for in the sums of live and dead bytes: its bytes, rounded up.
    pub(crate) fn charge_bytes(self) -> u64 {
        let charge = self.0 & CHARGE_MASK;
        (charge & MAX_MANTISSA) << (STEP_BITS * u32::try_from(charge >> MANTISSA_BITS).expect("3 bits"))
    }

    /// How many bytes to read to have the whole line, if that is known.
    pub(crate) fn line_bytes_at_most(self) -> Option<usize> {
        (!self.is_batch() && !self.is_tombstone())
            .then(|| usize::try_from(self.charge_bytes()).expect("a record fits into memory"))
    }
}

/// The smallest charge that stands for at least so many bytes.
fn charge_of(bytes: u64) -> u64 {
    for exponent in 0..1 << (CHARGE_BITS - MANTISSA_BITS) {
        let mantissa = bytes.div_ceil(1 << (STEP_BITS * exponent));
        if mantissa <= MAX_MANTISSA {
            return u64::from(exponent) << MANTISSA_BITS | mantissa;
        }
    }
    unreachable!("a segment is smaller than the largest charge, 2^31 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_come_back() {
        let location = Location::new(1_048_575, MAX_SEGMENT_BYTES - 1, true, 245);
        assert_eq!((location.slot(), location.offset(), location.is_batch()), (1_048_575, MAX_SEGMENT_BYTES - 1, true));
        assert_eq!(location.charge_bytes(), 245);
        assert_eq!(location.line_bytes_at_most(), None, "the charge of a batch's element says nothing of the line");
        assert_eq!(Location::new(0, 100, false, 245).line_bytes_at_most(), Some(245));
        for bytes in [1, 8, 9, 1_023, 1_024, 8_184, 8_185, 65_536, 1_000_000, 10_000_000, MAX_SEGMENT_BYTES] {
            let charged = Location::new(0, 100, false, bytes).charge_bytes();
            assert!(charged >= bytes && charged <= bytes + 8 + bytes / 100, "{charged} for {bytes}");
            assert!(bytes > 1_023 || charged == bytes, "{charged} for {bytes}");
        }
        assert_eq!(Location::from_bits(location.to_bits()), Some(location));
        assert!(Location::tombstone(3, 100, false).is_tombstone() && !location.is_tombstone());
    }
    #[test]
    fn a_place_of_an_older_checkpoint_reads_the_whole_line() {
        let old = |charge: u64| 3 << 44 | 500 << 14 | charge;
        for (exponent, mantissa) in [(0_u64, 31_u64), (0, 1_023), (1, 128), (2, 1_000), (3, 600)] {
            let bytes = (mantissa * 8) << (3 * exponent);
            let place = Location::from_version_2(old(exponent << 10 | mantissa)).unwrap();
            assert_eq!((place.slot(), place.offset(), place.is_batch()), (3, 500, false));
            assert!(place.charge_bytes() >= bytes && place.charge_bytes() <= bytes + bytes / 100, "{place:?}");
        }
        assert_eq!(Location::from_version_2(0), None);
        assert_eq!(Location::from_version_2(old(0)), None, "a removal");
        assert_eq!(Location::from_version_2(old((1 << 13) - 1)), None, "longer than any segment");
    }
}
