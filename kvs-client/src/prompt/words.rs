//! The words of a line at the prompt, and a word as it is written there.
//!
//! ```text
//! set greeting "two\nlines"     set 'it is' \x00\xff     set "" empty
//! ```
//! Between single quotes everything stands for itself. Elsewhere a backslash begins `\n`, `\r`, `\t`, `\0`, `\xNN` (a byte),
//! `\u{..}` (a character), and makes any other character stand for itself: what `scan` prints can be typed.

use std::ffi::OsString;
use std::iter::Peekable;
use std::os::unix::ffi::OsStringExt as _;
use std::str::Chars;

use crate::escape;

/// The words of a line, or what is wrong with it.
pub(super) fn split(line: &str) -> Result<Vec<OsString>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), character) if character == open => quote = None,
            (None | Some('"'), '\\') => escaped(&mut characters, word.get_or_insert_default())?,
            (_, character) => push(word.get_or_insert_default(), character),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("the line ends inside of {quote}; quote twice, or write \\{quote}"));
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

/// What follows a backslash.
fn escaped(characters: &mut Peekable<Chars<'_>>, word: &mut Vec<u8>) -> Result<(), String> {
    let character = characters.next().ok_or("the line ends with a backslash; write it twice")?;
    match character {
        'n' => word.push(b'\n'),
        'r' => word.push(b'\r'),
        't' => word.push(b'\t'),
        '0' => word.push(0),
        'x' => {
            let digits: String = characters.by_ref().take(2).collect();
            let byte = (digits.len() == 2).then(|| u8::from_str_radix(&digits, 16).ok()).flatten();
            word.push(byte.ok_or_else(|| format!("\\x{digits} is no byte; want two hexadecimal digits"))?);
        }
        'u' => {
            let digits: String = characters.by_ref().take_while(|character| *character != '}').collect();
            let number = digits.strip_prefix('{').and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let character = number.and_then(char::from_u32);
            push(word, character.ok_or_else(|| format!("\\u{digits}}} is no character; want \\u{{NUMBER}}"))?);
        }
        other => push(word, other),
    }
    Ok(())
}

fn push(word: &mut Vec<u8>, character: char) {
    word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A word as [`split`] reads it back.
pub(super) fn quoted(word: &[u8]) -> String {
    let escaped = escape::bytes(word);
    let is_plain = !escaped.is_empty()
        && !escaped.starts_with('-')
        && !escaped.chars().any(|character| character.is_whitespace() || matches!(character, '\'' | '"'));
    if is_plain { escaped } else { format!("\"{}\"", escaped.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line).unwrap().into_iter().map(OsString::into_vec).collect()
    }

    #[test]
    fn words_are_split_and_unquoted() {
        assert_eq!(words("  set  a b "), [b"set", &b"a"[..], b"b"]);
        assert_eq!(words(r#"a" b"'c "' "" "#), [&b"a bc \""[..], b""]);
        assert_eq!(words(r#"two\ words "\n\x00\xff\u{e9}" '\n'"#), [&b"two words"[..], b"\n\x00\xff\xc3\xa9", b"\\n"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["'a", "\"a", "a\\", "\\xg0", "\\x1", "\\u{110000}", "\\u41"] {
            assert!(split(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_quoted_word_is_read_back() {
        for word in
            [&b"plain"[..], b"", b"two words", b"it's", b"\"", b"\\", b"\xff\x00\n", "\u{202e}ä".as_bytes(), b"-x"]
        {
            assert_eq!(words(&quoted(word)), [word], "{}", quoted(word));
        }
    }
}
