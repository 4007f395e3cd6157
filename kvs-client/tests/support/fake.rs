//! A server of a few lines that misbehaves as a test wants, where the real one would not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// Listens on a free port and gives each connection to `serve`, one after the other.
pub fn listen(mut serve: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            serve(stream);
        }
    });
    addr
}

/// Answers each line as `answer` says; `None` closes the connection. The lines come out at the other end.
pub fn answer_lines(
    mut answer: impl FnMut(&str) -> Option<&'static str> + Send + 'static,
) -> (SocketAddr, Receiver<String>) {
    let (sender, lines) = mpsc::channel();
    let addr = listen(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let answer = answer(&line);
            let _ = sender.send(line);
            let Some(answer) = answer else { return };
            if writeln!(writer, "{answer}").is_err() {
                return;
            }
        }
    });
    (addr, lines)
}

/// An address at which nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
