//! `Wire`: requests and answers in the two protocols, no more of each than a load needs.

use std::io::{self, Write as _};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// One JSON object a line. Keys and values must be text that needs no escapes.
    JsonLines,
    /// Redis' protocol, version 2.
    Resp,
}

/// What an answer says, as far as a load wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was done, and there is no value: a set, or a get of a key that is not there.
    Done,
    /// A value.
    Value,
    /// The server has too much to do.
    Busy,
    /// It was not done.
    Error,
}

impl Wire {
    /// Appends a set.
    pub fn set(self, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::JsonLines => {
                output.extend_from_slice(b"{\"set\":{\"key\":\"");
                output.extend_from_slice(key);
                output.extend_from_slice(b"\",\"value\":\"");
                output.extend_from_slice(value);
                output.extend_from_slice(b"\"}}\n");
            }
            Self::Resp => {
                output.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                bulk(key, output);
                bulk(value, output);
            }
        }
    }

    /// Appends a get.
    pub fn get(self, key: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::JsonLines => {
                output.extend_from_slice(b"{\"get\":{\"key\":\"");
                output.extend_from_slice(key);
                output.extend_from_slice(b"\"}}\n");
            }
            Self::Resp => {
                output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                bulk(key, output);
            }
        }
    }

    /// The first answer in the input and the bytes that it takes; `None` while it is not whole.
    ///
    /// # Errors
    /// What is there is no answer of this protocol.
    pub fn answer(self, input: &[u8]) -> io::Result<Option<(Reply, usize)>> {
        let Some(end) = memchr::memchr(b'\n', input) else { return Ok(None) };
        let line = &input[..end];
        let reply = match self {
            Self::JsonLines if line.starts_with(b"{\"ok\":null") => Reply::Done,
            Self::JsonLines if line.starts_with(b"{\"ok") => Reply::Value,
            Self::JsonLines if line.starts_with(b"{\"error\":{\"code\":\"busy\"") => Reply::Busy,
            Self::JsonLines if line.starts_with(b"{\"error\"") => Reply::Error,
            Self::Resp if line.starts_with(b"+") => Reply::Done,
            Self::Resp if line.starts_with(b":") => Reply::Value,
            Self::Resp if line.starts_with(b"-BUSY") => Reply::Busy,
            Self::Resp if line.starts_with(b"-") => Reply::Error,
            Self::Resp if line.starts_with(b"$-1") => Reply::Done,
            Self::Resp if line.starts_with(b"$") => {
                let length = line[1..].iter().take_while(|byte| byte.is_ascii_digit());
                let length = length.fold(0_usize, |sum, digit| sum.saturating_mul(10) + usize::from(digit - b'0'));
                let whole = end.saturating_add(length).saturating_add(b"\n\r\n".len());
                return Ok((input.len() >= whole).then_some((Reply::Value, whole)));
            }
            _ => {
                let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{self:?} has no answer like {shown:?}"),
                ));
            }
        };
        Ok(Some((reply, end + 1)))
    }
}

fn bulk(bytes: &[u8], output: &mut Vec<u8>) {
    write!(output, "${}\r\n", bytes.len()).expect("a vector takes what is written");
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_and_cut_off_ones_wait() {
        let cases: [(Wire, &[u8], Reply); 9] = [
            (Wire::JsonLines, b"{\"ok\":null}\n", Reply::Done),
            (Wire::JsonLines, b"{\"ok\":\"v\"}\n", Reply::Value),
            (Wire::JsonLines, b"{\"error\":{\"code\":\"busy\",\"message\":\"\"}}\n", Reply::Busy),
            (Wire::JsonLines, b"{\"error\":{\"code\":\"internal\",\"message\":\"\"}}\n", Reply::Error),
            (Wire::Resp, b"+OK\r\n", Reply::Done),
            (Wire::Resp, b"$-1\r\n", Reply::Done),
            (Wire::Resp, b"$3\r\na\nb\r\n", Reply::Value),
            (Wire::Resp, b"-BUSY try again later\r\n", Reply::Busy),
            (Wire::Resp, b"-ERR no\r\n", Reply::Error),
        ];
        for (wire, bytes, reply) in cases {
            let two = [bytes, b"next"].concat();
            assert_eq!(wire.answer(&two).unwrap(), Some((reply, bytes.len())));
            for end in 0..bytes.len() {
                assert_eq!(wire.answer(&bytes[..end]).unwrap(), None, "{end} bytes of {bytes:?}");
            }
        }
        assert!(Wire::Resp.answer(b"{\"ok\":null}\n").is_err());
        assert!(Wire::JsonLines.answer(b"+OK\r\n").is_err());
    }

    #[test]
    fn requests_are_spelled_as_the_protocols_want() {
        let mut bytes = Vec::new();
        Wire::Resp.set(b"k", b"vv", &mut bytes);
        Wire::Resp.get(b"k", &mut bytes);
        assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nvv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        bytes.clear();
        Wire::JsonLines.set(b"k", b"vv", &mut bytes);
        assert_eq!(bytes, b"{\"set\":{\"key\":\"k\",\"value\":\"vv\"}}\n");
    }
}
