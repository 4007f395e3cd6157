//! `FrameBuffer`: lines out of a stream of bytes, within a limit.
//!
//! What must hold: no line longer than the limit is ever held; each byte is searched for a line end once; the buffer
//! starts small, grows by doubling while a line needs it, and is small again when a long line has been taken.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a buffer holds at first, in bytes: many requests of a usual size, and little enough for 10,000 idle connections.
pub const INITIAL_BUFFER_BYTES: usize = 4 * 1024;
/// What a buffer may keep between lines, in bytes: a larger one was grown for one long line and is given back.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// A line is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame is longer than the limit of {limit_bytes} bytes")]
pub struct FrameTooLarge {
    /// The limit, in bytes without the line end.
    pub limit_bytes: usize,
}

/// Bytes that have arrived and are not yet taken as lines.
#[derive(Debug)]
pub struct FrameBuffer {
    /// Initialized over its whole length; `[start, end)` holds the bytes that have arrived.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes after `start` that hold no line end.
    searched: usize,
    limit_bytes: usize,
}

impl FrameBuffer {
    /// An empty buffer for lines of at most `limit_bytes` bytes without their line end.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { bytes: vec![0; INITIAL_BUFFER_BYTES], start: 0, end: 0, searched: 0, limit_bytes }
    }

    /// Takes lines of at most so many bytes from now on, without their line end.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// The next whole line without its line end, or `None` when more bytes must arrive first.
    ///
    /// # Errors
    /// [`FrameTooLarge`]; the buffer is of no use afterwards.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, FrameTooLarge> {
        let too_large = FrameTooLarge { limit_bytes: self.limit_bytes };
        let arrived = &self.bytes[self.start..self.end];
        match memchr::memchr(b'\n', &arrived[self.searched..]) {
            Some(distance) => {
                let length = self.searched + distance;
                if length > self.limit_bytes {
                    return Err(too_large);
                }
                let line = self.start..self.start + length;
                self.start += length + 1;
                self.searched = 0;
                Ok(Some(&self.bytes[line]))
            }
            None if arrived.len() > self.limit_bytes => Err(too_large),
            None => {
                self.searched = arrived.len();
                Ok(None)
            }
        }
    }

    /// The bytes that have arrived and are not yet taken.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes the first `count` of the pending bytes, for protocols that are no lines.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "what is taken has arrived");
        self.start += count;
        self.searched = 0;
    }

    /// Overwrites what was taken and still lies in memory: a secret need not stay where it arrived.
    pub fn wipe_taken(&mut self) {
        self.bytes[..self.start].fill(0);
    }

    /// The longest frame, in bytes without its line end.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The memory that the buffer takes, in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The memory that the buffer will take after [`space`](Self::space), in bytes.
    #[must_use]
    pub fn capacity_needed_bytes(&self) -> usize {
        let pending = self.end - self.start;
        if pending == 0 && self.bytes.len() > KEPT_BUFFER_BYTES {
            return INITIAL_BUFFER_BYTES;
        }
        if pending < self.bytes.len() {
            return self.bytes.len();
        }
        // One byte over the limit is enough to know that a line is too long; one more is its line end.
        (self.bytes.len() * 2).min((self.limit_bytes + 2).max(INITIAL_BUFFER_BYTES)).max(pending + 1)
    }

    /// Gives back all memory but the first, if no bytes are pending. For connections that have gone quiet.
    pub fn trim(&mut self) {
        if self.start == self.end && self.bytes.len() > INITIAL_BUFFER_BYTES {
            *self = Self::new(self.limit_bytes);
        }
    }

    /// Where the next bytes go: at least one byte long. Say how many came with [`filled`](Self::filled).
    pub fn space(&mut self) -> &mut [u8] {
        let needed = self.capacity_needed_bytes();
        if self.start > 0 && (self.start == self.end || self.end == self.bytes.len()) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if needed != self.bytes.len() {
            self.bytes.resize(needed, 0);
            self.bytes.shrink_to(needed);
        }
        &mut self.bytes[self.end..]
    }

    /// Takes note that `count` bytes were put at the beginning of [`space`](Self::space).
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.bytes.len(), "no more bytes can have arrived than there was space for");
    }

    /// Waits for more bytes from a reader; 0 means that it has ended. Can be cancelled without losing bytes.
    ///
    /// # Errors
    /// What the reader said.
    pub async fn fill_from(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let count = reader.read(self.space()).await?;
        self.filled(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(buffer: &mut FrameBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = buffer.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            buffer.filled(count);
            bytes = &bytes[count..];
        }
    }

    #[test]
    fn lines_come_out_whole_however_they_arrive() {
        let text = b"one\n\ntwo and more\nthree";
        for piece in 1..text.len() {
            let mut buffer = FrameBuffer::new(100);
            let mut lines = Vec::new();
            for bytes in text.chunks(piece) {
                feed(&mut buffer, bytes);
                while let Some(line) = buffer.next_line().unwrap() {
                    lines.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            assert_eq!(lines, ["one", "", "two and more"], "in pieces of {piece}");
            assert_eq!(buffer.pending(), b"three");
        }
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        for limit in [10, INITIAL_BUFFER_BYTES - 1, INITIAL_BUFFER_BYTES, 100_000] {
            let mut buffer = FrameBuffer::new(limit);
            feed(&mut buffer, &vec![b'x'; limit]);
            assert_eq!(buffer.next_line(), Ok(None));
            feed(&mut buffer, b"\n");
            assert_eq!(buffer.next_line().unwrap().unwrap().len(), limit);

            let mut buffer = FrameBuffer::new(limit);
            feed(&mut buffer, &vec![b'x'; limit + 1]);
            assert_eq!(buffer.next_line(), Err(FrameTooLarge { limit_bytes: limit }));
        }
    }

    #[test]
    fn what_was_taken_can_be_wiped_and_what_was_not_stays() {
        let mut buffer = FrameBuffer::new(100);
        feed(&mut buffer, b"secret one\nsecret two, and more");
        assert!(buffer.next_line().unwrap().is_some());
        buffer.consume(b"secret two".len());
        buffer.wipe_taken();
        assert_eq!(buffer.pending(), b", and more");
        assert!(!buffer.bytes.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn memory_follows_the_line_and_is_given_back() {
        let limit = 1024 * 1024;
        let mut buffer = FrameBuffer::new(limit);
        feed(&mut buffer, &vec![b'x'; limit]);
        assert!(buffer.capacity_bytes() <= limit + 2, "{}", buffer.capacity_bytes());
        feed(&mut buffer, b"\n");
        assert!(buffer.next_line().unwrap().is_some());
        buffer.space();
        assert_eq!(buffer.capacity_bytes(), INITIAL_BUFFER_BYTES);
    }
}
