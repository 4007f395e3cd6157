//! Reading a checkpoint's file, part after part. Nothing is believed that a checksum does not cover, and memory is taken
//! only for bytes that are there.

use super::block::{self, Rest};
use super::{Unusable, frame};
use crate::kvs::location::Location;
use crate::storage::{StorageFile, read_exact_at};
use crate::zoo;

/// Bytes of an entry of version 2.
const ENTRY_BYTES_2: usize = 12;
/// The longest line that is read, in bytes: 100,000 segments with room.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;
/// What is wrong with most damaged blocks.
const WRONG_CHECKSUM: Unusable = Unusable::Damaged("a block's checksum does not fit");

/// Reads one part after the other.
pub(super) struct Reader<'a> {
    pub(super) file: &'a dyn StorageFile,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<Vec<u8>, Unusable> {
        if count as u64 > self.bytes - self.offset {
            return Err(Unusable::Damaged("it is too short"));
        }
        let mut buffer = vec![0; count];
        read_exact_at(self.file, &mut buffer, self.offset)?;
        self.offset += count as u64;
        Ok(buffer)
    }

    /// A line's sequence and payload.
    pub(super) fn line(&mut self) -> Result<(u64, Vec<u8>), Unusable> {
        let start = self.offset;
        let prefix = self.take(frame::PREFIX_BYTES)?;
        let count = frame::announced_bytes(&prefix)
            .filter(|count| *count as u64 <= MAX_LINE_BYTES)
            .ok_or(Unusable::Damaged("a line's prefix"))?;
        self.offset = start;
        let bytes = self.take(count)?;
        let line = frame::read_line(&bytes).map_err(|defect| Unusable::Damaged(defect.reason()))?;
        Ok((line.sequence, line.payload.to_vec()))
    }

    /// The head of a block: its checksum, that of the number of entries, and this number.
    fn head(&mut self) -> Result<(u32, u32, usize), Unusable> {
        let head = self.take(block::EMPTY_BYTES)?;
        Ok((u32_at(&head, 0), crc32c::crc32c(&head[4..]), u32_at(&head, 4) as usize))
    }

    /// The entries of one shard.
    pub(super) fn block(&mut self) -> Result<Vec<(u32, Location)>, Unusable> {
        let (wanted, checksum, count) = self.head()?;
        if count == 0 {
            return if wanted == checksum { Ok(Vec::new()) } else { Err(WRONG_CHECKSUM) };
        }
        let widths = self.take(block::WIDTHS_BYTES)?;
        let rest = Rest::read(count, widths.first_chunk().expect("so many were read"));
        let rest = rest.ok_or(Unusable::Damaged("a block's lengths"))?;
        let body = self.take(rest.bytes())?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, &widths), &body);
        if checksum != wanted && !zoo::bug("checkpoint-without-checksum") {
            return Err(WRONG_CHECKSUM);
        }
        rest.entries(&body).map_err(Unusable::Damaged)
    }

    /// As [`block`](Self::block), of version 2.
    pub(super) fn block_of_version_2(&mut self) -> Result<Vec<(u32, Location)>, Unusable> {
        let (wanted, checksum, count) = self.head()?;
        let bytes = count.checked_mul(ENTRY_BYTES_2).ok_or(Unusable::Damaged("a block's length"))?;
        let body = self.take(bytes)?;
        if crc32c::crc32c_append(checksum, &body) != wanted {
            return Err(WRONG_CHECKSUM);
        }
        let (hashes, places) = body.split_at(count * size_of::<u32>());
        let mut entries = Vec::with_capacity(count);
        let mut last = 1;
        for (hash, place) in hashes.as_chunks().0.iter().zip(places.as_chunks().0) {
            let hash = u32::from_le_bytes(*hash);
            let place =
                Location::from_version_2(u64::from_le_bytes(*place)).ok_or(Unusable::Damaged("an empty place"))?;
            if hash < last {
                return Err(Unusable::Damaged("the hashes are not in order"));
            }
            last = hash;
            entries.push((hash, place));
        }
        Ok(entries)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(*bytes[offset..].first_chunk().expect("the caller read so many bytes"))
}
