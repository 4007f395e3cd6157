//! A client of RESP for tests: it sends commands and reads whole replies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Word(String),
    Error(String),
    Number(i64),
    Bulk(Vec<u8>),
    /// As version 2 says that there is nothing.
    Nil,
    /// As version 3 says it.
    Null,
    Array(Vec<Reply>),
    /// Names and values in turn.
    Map(Vec<Reply>),
}

/// A bulk reply of a text.
pub fn bulk(text: impl AsRef<[u8]>) -> Reply {
    Reply::Bulk(text.as_ref().to_vec())
}

/// `+OK`.
pub fn ok() -> Reply {
    Reply::Word("OK".into())
}

/// The text of an error.
pub fn error(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Error(text) => Some(text),
        _ => None,
    }
}

/// Whether a reply is an error that begins so.
pub fn is_error(reply: &Reply, beginning: &str) -> bool {
    error(reply).is_some_and(|text| text.starts_with(beginning))
}

/// The bytes of a command.
pub fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.as_ref().len()).bytes());
        bytes.extend(word.as_ref());
        bytes.extend(b"\r\n");
    }
    bytes
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends one command and gives its reply.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        self.send(command(words));
        self.reply().expect("the server answers")
    }

    /// The next reply; `None` when the server has closed.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no reply came: {error}"),
        }
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("a reply ends with CR LF: {line:?}"));
        let (kind, rest) = line.split_at(1);
        let mut items = |count: usize| (0..count).map(|_| self.reply().unwrap()).collect();
        Some(match (kind, rest) {
            ("+", word) => Reply::Word(word.to_owned()),
            ("-", text) => Reply::Error(text.to_owned()),
            (":", number) => Reply::Number(number.parse().unwrap()),
            ("$" | "*", "-1") => Reply::Nil,
            ("$", length) => {
                let mut bytes = vec![0; length.parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                assert!(bytes.ends_with(b"\r\n"));
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            ("_", "") => Reply::Null,
            ("*" | "~", length) => Reply::Array(items(length.parse().unwrap())),
            ("%", pairs) => Reply::Map(items(2 * pairs.parse::<usize>().unwrap())),
            _ => panic!("no reply: {line:?}"),
        })
    }
}
