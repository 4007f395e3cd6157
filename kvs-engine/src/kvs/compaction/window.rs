//! A sealed segment, read from front to back through a small buffer, so that a compaction takes little memory.

use std::io;

use crate::log::frame;
use crate::storage::{StorageFile, read_exact_at};

/// How much is read at once, in bytes; more only for a line that is longer.
const READ_BYTES: usize = 256 * 1024;

/// A part of a file.
pub(super) struct Window<'a> {
    file: &'a dyn StorageFile,
    /// Where the file's lines end.
    end: u64,
    /// Where the buffer begins in the file.
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn StorageFile, end: u64) -> Self {
        Self { file, end, start: 0, buffer: Vec::new() }
    }

    /// The bytes from the line at `offset` on: the whole line and perhaps some behind it, unless it is damaged, which the
    /// caller is to find out.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn from(&mut self, offset: u64) -> io::Result<&[u8]> {
        let held = usize::try_from(offset - self.start).ok().filter(|held| *held <= self.buffer.len());
        let rest = held.map_or(&[][..], |held| &self.buffer[held..]);
        if frame::announced_bytes(rest).is_none_or(|line_bytes| line_bytes > rest.len()) {
            self.read(offset, READ_BYTES)?;
            // A length that is not verified yet is believed only as far as there are bytes.
            let line_bytes = frame::announced_bytes(&self.buffer).unwrap_or(0);
            if line_bytes > self.buffer.len() {
                self.read(offset, line_bytes)?;
            }
        }
        let held = usize::try_from(offset - self.start).expect("within the buffer");
        Ok(&self.buffer[held..])
    }

    fn read(&mut self, offset: u64, count: usize) -> io::Result<()> {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.start = offset;
        self.buffer.resize(count.min(left), 0);
        read_exact_at(self.file, &mut self.buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Storage, write_all_at};

    #[test]
    fn every_line_is_seen_whole_whatever_its_length() {
        let storage = MemoryStorage::new();
        let file = storage.create("file").unwrap();
        let mut bytes = vec![b'x'; 70];
        let lengths = [10, READ_BYTES - 200, 5, 3 * READ_BYTES, 0, 100_000, READ_BYTES, 7];
        for (sequence, length) in lengths.iter().enumerate() {
            frame::append_line(&mut bytes, sequence as u64, 0, &vec![b'{'; *length]);
        }
        write_all_at(file.as_ref(), &bytes, 0).unwrap();
        let mut window = Window::new(file.as_ref(), bytes.len() as u64);
        let mut offset = 70;
        for length in lengths {
            let line = frame::read_line(window.from(offset).unwrap()).unwrap();
            assert_eq!(line.payload.len(), length);
            offset += line.bytes() as u64;
        }
        assert_eq!(offset, bytes.len() as u64);
    }
}
