//! `Crowd`: clients that are no good: idle ones, ones that never end their line, ones that ask and ask and never read.
//!
//! What must hold: the crowd is complete before anybody measures beside it; whoever the server closes comes back at
//! once, so that the pressure stays; it ends with its owner.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the crowd does something.
const TICK: Duration = Duration::from_millis(100);
/// A slow client sends a byte in one of so many ticks.
const SLOW_TICKS: usize = 10;
/// How long a connection or an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key of the large value that clients ask for and do not read.
pub const LARGE_KEY: &str = "large";
/// How often each asks for it at once.
const LARGE_GETS: usize = 64;
/// What each asks for after that, again and again, as much as the server takes: one get of the large value for so many
/// small requests.
const SMALL_REQUESTS: usize = 200;

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Clients that asked once and say nothing more.
    pub idle: usize,
    /// Clients that send a byte of a line now and then and never end it.
    pub slow: usize,
    /// Clients that ask for large and small answers, as fast as the server takes it, and never read.
    pub deaf: usize,
}

/// What the server did to the crowd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed {
    /// Slow clients that it closed.
    pub slow: u64,
    /// Deaf clients that it closed.
    pub deaf: u64,
}

/// A crowd that is there.
#[derive(Debug)]
pub struct Gathered {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Closed>>>,
}

impl Crowd {
    /// Gathers at a server; returns when all are there.
    ///
    /// # Errors
    /// When one of them can't connect.
    pub fn gather(self, addr: SocketAddr) -> io::Result<Gathered> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (told, (sender, complete)) = (Arc::clone(&is_over), channel());
        let thread = std::thread::spawn(move || {
            let idle = (0..self.idle).map(|_| connect_idle(addr)).collect::<io::Result<Vec<_>>>()?;
            let mut slow = (0..self.slow).map(|_| connect_slow(addr)).collect::<io::Result<Vec<_>>>()?;
            let mut deaf = (0..self.deaf).map(|_| Deaf::connect(addr)).collect::<io::Result<Vec<_>>>()?;
            // Nobody waits any more if the owner has given up.
            let _ = sender.send(());
            let mut closed = Closed::default();
            let mut tick = 0;
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                tick += 1;
                for client in slow.iter_mut().skip(tick % SLOW_TICKS).step_by(SLOW_TICKS) {
                    if is_closed_for(client, b"x") {
                        closed.slow += 1;
                        *client = connect_slow(addr)?;
                    }
                }
                for client in &mut deaf {
                    if client.is_closed() {
                        closed.deaf += 1;
                        *client = Deaf::connect(addr)?;
                    }
                }
            }
            drop(idle);
            Ok(closed)
        });
        let gathered = Gathered { is_over, thread: Some(thread) };
        gathered.wait(&complete)
    }
}

impl Gathered {
    fn wait(mut self, complete: &Receiver<()>) -> io::Result<Self> {
        match complete.recv() {
            Ok(()) => Ok(self),
            Err(_) => {
                Err(self.join().err().unwrap_or_else(|| io::Error::other("the crowd went before it was complete")))
            }
        }
    }

    /// Sends the crowd away; gives how many the server closed.
    ///
    /// # Errors
    /// When one of them could not come back.
    pub fn disperse(mut self) -> io::Result<Closed> {
        self.join()
    }

    fn join(&mut self) -> io::Result<Closed> {
        self.is_over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(closed)) => closed,
            Some(Err(_)) => Err(io::Error::other("the thread of the crowd panicked")),
            None => Ok(Closed::default()),
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect_idle(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(addr)?;
    stream.write_all(b"{\"ping\":{}}\n")?;
    let mut answer = [0; 64];
    let count = stream.read(&mut answer)?;
    if !answer[..count].starts_with(b"{\"ok\"") {
        return Err(io::Error::other(format!("a ping was answered {:?}", String::from_utf8_lossy(&answer[..count]))));
    }
    Ok(stream)
}

fn connect_slow(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = connect(addr)?;
    stream.write_all(b"{\"get\":{\"key\":\"")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// A client that asks and never reads.
struct Deaf {
    stream: TcpStream,
    /// What it asks, in a round.
    requests: Vec<u8>,
    /// Bytes of the round that were sent.
    sent: usize,
}

impl Deaf {
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(addr)?;
        stream.write_all(large_get().repeat(LARGE_GETS).as_bytes())?;
        stream.set_nonblocking(true)?;
        let requests = large_get() + &"{\"ping\":{}}\n{\"get\":{\"key\":\"nobody\"}}\n".repeat(SMALL_REQUESTS / 2);
        Ok(Self { stream, requests: requests.into_bytes(), sent: 0 })
    }

    /// Sends what the server takes, a round at most; whether it has closed this connection.
    fn is_closed(&mut self) -> bool {
        let mut left = self.requests.len();
        while left > 0 {
            match self.stream.write(&self.requests[self.sent..]) {
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.sent = (self.sent + count) % self.requests.len();
                }
                // A full buffer is no end.
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

fn large_get() -> String {
    format!("{{\"get\":{{\"key\":\"{LARGE_KEY}\"}}}}\n")
}

/// Sends something more; whether the server has closed this connection. A full buffer is no end.
fn is_closed_for(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(stream.write(bytes), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
}
