//! The gets and sets of most clients, read without a parser: one spelling each, with strings that need no escape.
//!
//! What must hold: what is read here is read by the parser in the same way; whatever is spelled otherwise is left to it.

use super::Verb;
use crate::text::is_plain;

/// The verb of a line of this shape.
pub(super) fn read(line: &[u8]) -> Option<Verb> {
    let verb = line.strip_prefix(b"{\"")?.strip_suffix(b"\"}}")?;
    if let Some(key) = verb.strip_prefix(b"get\":{\"key\":\"") {
        return is_plain(key).then(|| Verb::Get { key: key.to_vec() });
    }
    let rest = verb.strip_prefix(b"set\":{\"key\":\"")?;
    let (key, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
    let value = rest.strip_prefix(b"\",\"value\":\"")?;
    (is_plain(key) && is_plain(value)).then(|| Verb::Set { key: key.to_vec(), value: value.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn plain_gets_and_sets_have_this_shape() {
        assert_eq!(read(br#"{"get":{"key":"a b"}}"#), Some(Verb::Get { key: b"a b".to_vec() }));
        let set = Verb::Set { key: "k".into(), value: "é".into() };
        assert_eq!(read(r#"{"set":{"key":"k","value":"é"}}"#.as_bytes()), Some(set));
        for other in [
            r#"{"get":{"key":"a\u0041"}}"#,
            r#"{"get":{"key":"a"}}}"#,
            r#"{"get":{"key":"a"},"id":"}}"#,
            r#"{"get":{"key":"a","key":"b"}}"#,
            r#"{"set":{"key":"k","value":"v","old":"}}"#,
            r#"{"set":{"key":"k","value64":"dg=="}}"#,
            "{\"get\":{\"key\":\"a\tb\"}}",
            r#"{"set":{"key":"k"}}"#,
        ] {
            assert_eq!(read(other.as_bytes()), None, "{other}");
        }
        assert_eq!(read(b"{\"get\":{\"key\":\"\xff\"}}"), None);
    }

    #[test]
    fn the_parser_agrees() {
        const WORDS: [&str; 13] = [
            "{\"",
            "\"}}",
            "get\":{\"key\":\"",
            "set\":{\"key\":\"",
            "\",\"value\":\"",
            "\"",
            "\\",
            "a",
            "é",
            "\u{7f}",
            "\u{1f}",
            "}",
            ",",
        ];
        let mut read_here = 0;
        // Every text of up to four words, alone and inside of a get and of a set.
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer = texts.iter().flat_map(|text| WORDS.map(|word| format!("{text}{word}"))).collect::<Vec<_>>();
            texts.extend(longer);
            texts.sort_unstable();
            texts.dedup();
        }
        for text in texts {
            let get = format!("{{\"get\":{{\"key\":\"{text}\"}}}}");
            let set = format!("{{\"set\":{{\"key\":\"{text}\"}}}}");
            for line in [text, get, set] {
                if let Some(verb) = read(line.as_bytes()) {
                    read_here += 1;
                    assert_eq!(Request::parse(line.as_bytes()), Ok(Request { verb, id: None }), "{line}");
                }
            }
        }
        assert!(read_here > 1_000, "{read_here}");
    }
}
