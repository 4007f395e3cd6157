//! A block of a checkpoint: the entries of one shard, in no more bits than the largest of them needs.
//!
//! ```text
//! offset  bytes  meaning (little-endian)
//!      0      4  CRC-32C of what follows
//!      4      4  entries n; where there are none, nothing follows
//!      8      4  bytes h of the hashes
//!     12      3  bits of a slot s, of an offset o, of a charge c
//!     15      h  the hashes, ascending: each as its distance to the one before, the first as it is, in LEB128
//! 15 + h      p  the places, each in s + o + 1 + c bits, from the lowest bit of the first byte on: the charge in the
//!                lowest, the mark of a batch, the offset, the slot; p is what n of them need, the last bits are zero
//! ```
//!
//! Some 8 bytes an entry, where hash and place as they are take 12: a checkpoint is written beside every few of its own
//! sizes of the log, and two of them are on disk at a time.

use crate::kvs::location::{CHARGE_BITS, Location, OFFSET_BITS, Parts, SLOT_BITS};

/// Bytes of a block without entries.
pub(super) const EMPTY_BYTES: usize = 8;
/// Bytes before the hashes, behind the number of entries.
pub(super) const WIDTHS_BYTES: usize = 7;
/// The longest hash, in bytes.
const MAX_HASH_BYTES: usize = 5;

/// How many bits the parts of places take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Widths {
    slot: u32,
    offset: u32,
    charge: u32,
}

impl Widths {
    /// What the largest of these places needs.
    fn of(entries: &[(u32, Location)]) -> Self {
        let all = entries.iter().fold(Parts::default(), |all, (_, place)| {
            let Parts { slot, offset, batch: _, charge } = place.parts();
            Parts { slot: all.slot | slot, offset: all.offset | offset, batch: false, charge: all.charge | charge }
        });
        let bits = |number: u64| u64::BITS - number.leading_zeros();
        Self { slot: bits(u64::from(all.slot)), offset: bits(all.offset), charge: bits(all.charge) }
    }

    /// Bits of a place.
    fn sum(self) -> u32 {
        self.slot + self.offset + 1 + self.charge
    }

    /// Bytes of so many places.
    fn bytes_of(self, count: usize) -> usize {
        (count * self.sum() as usize).div_ceil(8)
    }

    fn pack(self, place: Location) -> u64 {
        let Parts { slot, offset, batch, charge } = place.parts();
        let front = u64::from(slot) << self.offset | offset;
        (front << 1 | u64::from(batch)) << self.charge | charge
    }

    /// `None` for what no place is.
    fn unpack(self, bits: u64) -> Option<Location> {
        let low = |bits: u64, width: u32| bits & ((1 << width) - 1);
        let (front, rest) = (bits >> (self.charge + 1), bits >> self.charge);
        let slot = u32::try_from(front >> self.offset).ok()?;
        let (offset, batch, charge) = (low(front, self.offset), rest & 1 == 1, low(bits, self.charge));
        Location::from_parts(Parts { slot, offset, batch, charge })
    }
}

/// The block of entries that come in the order of their hashes.
pub(super) fn encode(entries: &[(u32, Location)]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).expect("a shard has fewer entries than there are hashes");
    let widths = Widths::of(entries);
    let mut block = Vec::with_capacity(EMPTY_BYTES + WIDTHS_BYTES + entries.len() * 4 + widths.bytes_of(entries.len()));
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&count.to_le_bytes());
    if !entries.is_empty() {
        block.extend_from_slice(&[0; 4]);
        block.extend([widths.slot, widths.offset, widths.charge].map(|bits| u8::try_from(bits).expect("at most 30")));
        append_hashes(&mut block, entries);
        let hash_bytes = u32::try_from(block.len() - EMPTY_BYTES - WIDTHS_BYTES).expect("at most five for each");
        block[EMPTY_BYTES..EMPTY_BYTES + 4].copy_from_slice(&hash_bytes.to_le_bytes());
        append_places(&mut block, entries, widths);
    }
    let checksum = crc32c::crc32c(&block[4..]);
    block[..4].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn append_hashes(block: &mut Vec<u8>, entries: &[(u32, Location)]) {
    let mut last = 0;
    for (hash, _) in entries {
        let mut distance = hash - last;
        last = *hash;
        while distance >= 0x80 {
            block.push(u8::try_from(distance & 0x7f).expect("seven bits") | 0x80);
            distance >>= 7;
        }
        block.push(u8::try_from(distance).expect("seven bits"));
    }
}

fn append_places(block: &mut Vec<u8>, entries: &[(u32, Location)], widths: Widths) {
    // What is not in the block yet, less than 64 bits of it between two places.
    let (mut pending, mut bits) = (0_u128, 0);
    for (_, place) in entries {
        pending |= u128::from(widths.pack(*place)) << bits;
        bits += widths.sum();
        if bits >= u64::BITS {
            block.extend_from_slice(&pending.to_le_bytes()[..8]);
            pending >>= u64::BITS;
            bits -= u64::BITS;
        }
    }
    block.extend_from_slice(&pending.to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// What stands behind the number of entries, as far as it says how long the rest is.
#[derive(Debug)]
pub(super) struct Rest {
    count: usize,
    hash_bytes: usize,
    widths: Widths,
}

impl Rest {
    /// Reads lengths that are not verified yet; `None` when no block has them.
    pub(super) fn read(count: usize, bytes: &[u8; WIDTHS_BYTES]) -> Option<Self> {
        let [a, b, c, d, slot, offset, charge] = *bytes;
        let widths = Widths { slot: slot.into(), offset: offset.into(), charge: charge.into() };
        let fit = widths.slot <= SLOT_BITS && widths.offset <= OFFSET_BITS && widths.charge <= CHARGE_BITS;
        let hash_bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        // So is the number of entries, which memory is taken for: each has a byte at least.
        (fit && count <= hash_bytes && hash_bytes <= count.checked_mul(MAX_HASH_BYTES)?).then_some(Self {
            count,
            hash_bytes,
            widths,
        })
    }

    /// Bytes of the hashes and places.
    pub(super) fn bytes(&self) -> usize {
        self.hash_bytes + self.widths.bytes_of(self.count)
    }

    /// The entries, of bytes that are verified.
    ///
    /// # Errors
    /// Why nobody wrote these.
    pub(super) fn entries(&self, body: &[u8]) -> Result<Vec<(u32, Location)>, &'static str> {
        let (mut hashes, places) = body.split_at(self.hash_bytes);
        // A place is read with the sixteen bytes from its first one on.
        let mut padded = places.to_vec();
        padded.extend_from_slice(&[0; 16]);
        let mask = u128::from(u64::MAX >> (u64::BITS - self.widths.sum()));
        let mut entries = Vec::with_capacity(self.count);
        let mut last = 0_u32;
        for number in 0..self.count {
            let distance = take_number(&mut hashes).ok_or("a hash")?;
            last = last.checked_add(distance).filter(|hash| *hash > 0).ok_or("the hashes are not in order")?;
            let bit = number * self.widths.sum() as usize;
            let bytes = padded[bit / 8..].first_chunk().expect("padded");
            let bits = u64::try_from(u128::from_le_bytes(*bytes) >> (bit % 8) & mask).expect("the mask has 64 bits");
            entries.push((last, self.widths.unpack(bits).ok_or("an empty place")?));
        }
        if hashes.is_empty() { Ok(entries) } else { Err("bytes behind its hashes") }
    }
}

/// Takes a number in LEB128 from the front; `None` when there is none of 32 bits.
fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u64;
    for place in 0..MAX_HASH_BYTES {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(block: &[u8]) -> Vec<(u32, Location)> {
        let number = |offset: usize| u32::from_le_bytes(*block[offset..].first_chunk().unwrap());
        assert_eq!(number(0), crc32c::crc32c(&block[4..]));
        let count = number(4) as usize;
        if count == 0 {
            assert_eq!(block.len(), EMPTY_BYTES);
            return Vec::new();
        }
        let rest = Rest::read(count, block[EMPTY_BYTES..].first_chunk().unwrap()).unwrap();
        assert_eq!(block.len(), EMPTY_BYTES + WIDTHS_BYTES + rest.bytes());
        rest.entries(&block[EMPTY_BYTES + WIDTHS_BYTES..]).unwrap()
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_back(
            entries in proptest::collection::vec(
                (1_u32.., 0_u32..1 << SLOT_BITS, 1_u64..1 << OFFSET_BITS, any::<bool>(), 1_u64..1 << 30),
                0..60,
            ),
            shift in 0_u32..30,
        ) {
            let mut entries: Vec<(u32, Location)> = entries
                .into_iter()
                .map(|(hash, slot, offset, batch, bytes)| {
                    ((hash >> shift).max(1), Location::new(slot >> (shift / 2), (offset >> shift).max(1), batch, bytes >> shift))
                })
                .collect();
            entries.sort_by_key(|(hash, _)| *hash);
            prop_assert_eq!(decode(&encode(&entries)), entries);
        }
    }

    #[test]
    fn an_entry_of_a_usual_store_takes_at_most_9_bytes() {
        // Two million keys in 256 shards, in files of 8 MiB.
        let count = 2_000_000 / 256;
        let entries: Vec<(u32, Location)> = (0..count)
            .map(|number| {
                let offset = 100 + u64::from(number) * 7919 % (8 << 20);
                (1 + number * (u32::MAX / count), Location::new(number % 1024, offset, number % 2 == 0, 244))
            })
            .collect();
        let bytes = encode(&entries).len();
        assert!(bytes <= entries.len() * 9, "{bytes} bytes for {count} entries");
        assert_eq!(decode(&encode(&entries)), entries);
    }

    #[test]
    fn lengths_that_no_block_has_take_no_memory() {
        let read = |count, hash_bytes: u32, widths: [u8; 3]| {
            let mut bytes = [0; WIDTHS_BYTES];
            bytes[..4].copy_from_slice(&hash_bytes.to_le_bytes());
            bytes[4..].copy_from_slice(&widths);
            Rest::read(count, &bytes)
        };
        assert!(read(1, 1, [20, 30, 13]).is_some());
        for (count, hash_bytes, widths) in
            [(1, 0, [20, 30, 13]), (1, 6, [20, 30, 13]), (1, 1, [21, 1, 1]), (1, 1, [1, 31, 1]), (1, 1, [1, 1, 14])]
        {
            assert!(read(count, hash_bytes, widths).is_none(), "{count} entries, {hash_bytes} bytes, {widths:?}");
        }
    }

    #[test]
    fn what_no_entry_is_is_refused() {
        let entries = |count, hashes: &[u8], places: &[u8]| {
            let mut head = [0; WIDTHS_BYTES];
            head[0] = u8::try_from(hashes.len()).unwrap();
            head[4..].copy_from_slice(&[1, 3, 3]);
            Rest::read(count, &head).unwrap().entries(&[hashes, places].concat())
        };
        // From the highest bit: the slot, three bits of the offset, no batch, three bits of the charge.
        let place = 0b1001_0001;
        assert_eq!(entries(1, &[1], &[place]).unwrap(), [(1, Location::new(1, 1, false, 1))]);
        assert!(entries(1, &[0], &[place]).is_err(), "no hash is zero");
        assert!(entries(1, &[1], &[0b1000_0001]).is_err(), "no record begins at the beginning of a file");
        assert!(entries(1, &[1], &[0b1001_0000]).is_err(), "no record is without bytes");
        assert!(entries(1, &[1, 1], &[place]).is_err(), "a hash too many");
        assert!(entries(1, &[0xff, 0xff, 0xff, 0xff, 0x1f], &[place]).is_err(), "a hash of 33 bits");
        assert!(entries(2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1], &[place, place]).is_err(), "hashes beyond 32 bits");
    }
}
