//! Text of others made harmless: what a terminal would obey is shown instead.
//!
//! What must hold: what comes out of [`line`] and [`bytes`] is one line without control characters, whatever a server,
//! a file or a key holds. A server that is not ours must not be able to move the cursor, set a title, or show one text
//! as another by changing the direction of writing.

use std::fmt::Write as _;

/// The longest text of an error, in characters: more than any server of ours says, and less than a screen.
const LONGEST_LINE_CHARACTERS: usize = 2_000;

/// Whether a terminal could obey this character, or show others in another order because of it.
pub(crate) fn is_dangerous(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Marks, embeddings, overrides and isolates of the direction of writing.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Ends of lines and paragraphs; a mark that is not shown.
            | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A text as one line of a bounded length.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (position, character) in text.chars().enumerate() {
        if position == LONGEST_LINE_CHARACTERS {
            shown.push_str("...");
            break;
        }
        push(&mut shown, character);
    }
    shown
}

/// Any bytes as one line that says which they are: a backslash begins `\n`, `\\`, `\u{..}` or, for what is no UTF-8, `\xNN`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                shown.push('\\');
            }
            push(&mut shown, character);
        }
        for byte in chunk.invalid() {
            write!(shown, "\\x{byte:02x}").expect("writing into a string can't fail");
        }
    }
    shown
}

/// Whether bytes can go to a terminal as they are: text of any lines.
pub(crate) fn is_harmless(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| !text.chars().any(|character| is_dangerous(character) && !matches!(character, '\n' | '\t')))
}

/// JSON whose strings hold nothing dangerous. Outside of strings JSON is plain ASCII, so every such character stands in one.
pub(crate) fn json(text: &str) -> String {
    if !text.chars().any(is_dangerous) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_dangerous(character) {
            write!(shown, "\\u{:04x}", u32::from(character)).expect("writing into a string can't fail");
        } else {
            shown.push(character);
        }
    }
    shown
}

fn push(shown: &mut String, character: char) {
    if is_dangerous(character) {
        shown.extend(character.escape_default());
    } else {
        shown.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        assert_eq!(line("plain, äöü, 漢字"), "plain, äöü, 漢字");
        assert_eq!(line("\u{1b}]0;title\u{7}\r\n"), "\\u{1b}]0;title\\u{7}\\r\\n");
        assert_eq!(line("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(line(&"x".repeat(5_000)).len(), LONGEST_LINE_CHARACTERS + 3);
    }

    #[test]
    fn bytes_are_told_apart() {
        assert_eq!(bytes(b"a\\n\n\xff\x00"), "a\\\\n\\n\\xff\\u{0}");
        assert_ne!(bytes(b"\\xff"), bytes(b"\xff"));
    }

    #[test]
    fn json_stays_the_same_value() {
        let text = serde_json::to_string("a\u{9b}\u{202e}\u{1b}").unwrap();
        let shown = json(&text);
        assert!(!shown.chars().any(is_dangerous), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "a\u{9b}\u{202e}\u{1b}");
    }

    #[test]
    fn text_of_several_lines_is_harmless_and_a_colour_is_not() {
        assert!(is_harmless(b"two\nlines\twith a tab"));
        assert!(!is_harmless(b"\x1b[31mred"));
        assert!(!is_harmless(b"\xff"));
    }
}
