//! `Socket`: one connection that never blocks, with what is still to be sent and what is not yet understood.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::wire::{Reply, Wire};

/// A request that was sent, or is about to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// When it was due, in nanoseconds from the beginning.
    pub(crate) due_ns: u64,
    pub(crate) is_get: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    /// Requests without an answer, in order.
    pub(crate) asked: VecDeque<Asked>,
    pub(crate) output: Vec<u8>,
    /// Those before this place are sent.
    sent: usize,
    /// The beginning of an answer that is not whole.
    rest: Vec<u8>,
    /// The kernel tells when it takes more.
    pub(crate) waits_to_send: bool,
    pub(crate) is_closed: bool,
}

impl Socket {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            asked: VecDeque::new(),
            output: Vec::new(),
            sent: 0,
            rest: Vec::new(),
            waits_to_send: false,
            is_closed: false,
        })
    }

    /// Sends what the kernel takes; whether that is all.
    pub(crate) fn send(&mut self) -> bool {
        while self.sent < self.output.len() && !self.is_closed {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => self.is_closed = true,
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_closed = true,
            }
        }
        self.output.clear();
        self.sent = 0;
        true
    }

    /// Takes what has come, through a buffer that all sockets share, and tells each answer with its request.
    pub(crate) fn receive(
        &mut self,
        wire: Wire,
        buffer: &mut [u8],
        mut tell: impl FnMut(Asked, Reply, &[u8]),
    ) -> io::Result<()> {
        let kept = self.rest.len();
        if kept >= buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer is longer than the buffer"));
        }
        buffer[..kept].copy_from_slice(&self.rest);
        let count = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => {
                self.is_closed = true;
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(_) => {
                self.is_closed = true;
                return Ok(());
            }
        };
        let mut input = &buffer[..kept + count];
        while let Some((reply, bytes)) = wire.answer(input)? {
            let asked = self.asked.pop_front();
            let asked =
                asked.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer that nobody asked"))?;
            tell(asked, reply, &input[..bytes]);
            input = &input[bytes..];
        }
        self.rest.clear();
        self.rest.extend_from_slice(input);
        Ok(())
    }
}
