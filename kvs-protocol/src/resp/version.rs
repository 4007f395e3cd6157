//! `Version`: how answers are spelled, RESP2 or RESP3. They differ in what is missing, in maps and in sets.
//!
//! What must hold: what a connection says of itself is spelled beforehand in version 3, which has all that version 2 has,
//! and is lowered when it is answered, because only then is it known which version the client has got.

use super::reply::write_array;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// What a connection begins with.
    #[default]
    Two,
    /// What a client asks for by `HELLO 3`.
    Three,
}

impl Version {
    /// As `HELLO` names it.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The version of this number, if it is one that is spoken here.
    pub(super) const fn of(number: u64) -> Option<Self> {
        match number {
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            _ => None,
        }
    }

    /// A value that is not there.
    pub(super) fn write_null(self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self {
            Self::Two => b"$-1\r\n",
            Self::Three => b"_\r\n",
        });
    }

    /// What was spelled in version 3.
    pub(super) fn write_spelled(self, out: &mut Vec<u8>, spelled: &[u8]) {
        match self {
            Self::Two => lower(out, spelled),
            Self::Three => out.extend_from_slice(spelled),
        }
    }
}

/// Maps and sets become arrays, and what is missing in one becomes an array that is missing.
fn lower(out: &mut Vec<u8>, mut spelled: &[u8]) {
    while let Some(&kind) = spelled.first() {
        let end = memchr::memchr(b'\n', spelled).expect("we ended each line ourselves") + 1;
        let (line, rest) = spelled.split_at(end);
        spelled = rest;
        match kind {
            b'%' => write_array(out, 2 * length(line)),
            b'~' => write_array(out, length(line)),
            b'_' => out.extend_from_slice(b"*-1\r\n"),
            b'$' => {
                let (body, rest) = rest.split_at(length(line) + b"\r\n".len());
                out.extend_from_slice(line);
                out.extend_from_slice(body);
                spelled = rest;
            }
            _ => out.extend_from_slice(line),
        }
    }
}

/// The length that a line says.
fn length(line: &[u8]) -> usize {
    let digits = line.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_2_does_not_have_is_lowered_and_the_rest_is_not_touched() {
        for (three, two) in [
            ("%1\r\n$1\r\nk\r\n:7\r\n", "*2\r\n$1\r\nk\r\n:7\r\n"),
            ("*2\r\n~12\r\n_\r\n", "*2\r\n*12\r\n*-1\r\n"),
            ("$8\r\n%1\r\n_\r\n\n\r\n+%1\r\n", "$8\r\n%1\r\n_\r\n\n\r\n+%1\r\n"),
            ("$0\r\n\r\n_\r\n", "$0\r\n\r\n*-1\r\n"),
        ] {
            for (version, expected) in [(Version::Two, two), (Version::Three, three)] {
                let mut out = Vec::new();
                version.write_spelled(&mut out, three.as_bytes());
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
