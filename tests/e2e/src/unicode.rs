//! Real data: the name of every character, from Debian's package unicode-data.

use std::path::Path;

use crate::failure::Failure;

/// Where the package puts it.
const FILE: &str = "/usr/share/unicode/UnicodeData.txt";
/// Fewer names than any Unicode of the last years has.
const LEAST_NAMES: usize = 30_000;

/// One character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Character {
    /// Its code point, such as `U+0041`.
    pub code_point: String,
    /// Its name, such as `LATIN CAPITAL LETTER A`.
    pub name: String,
}

impl Character {
    /// The line that `kvs-client import` reads.
    #[must_use]
    pub fn json_line(&self) -> String {
        let Self { code_point, name } = self;
        format!("{}\n", serde_json::json!({"key": code_point, "value": name}))
    }
}

/// Every character that has a line of its own, about 35,000.
///
/// # Errors
/// When the package is not installed.
pub fn characters() -> Result<Vec<Character>, Failure> {
    let text = std::fs::read_to_string(Path::new(FILE))
        .map_err(|error| Failure::Setup(format!("{FILE}: {error}; run `apt-get install unicode-data`")))?;
    let characters: Vec<Character> = text.lines().filter_map(parse).collect();
    if characters.len() < LEAST_NAMES {
        return Err(Failure::Setup(format!("{FILE} names only {} characters", characters.len())));
    }
    Ok(characters)
}

/// `0041;LATIN CAPITAL LETTER A;Lu;0;...`
fn parse(line: &str) -> Option<Character> {
    let mut fields = line.split(';');
    let (code_point, name) = (fields.next()?, fields.next()?);
    Some(Character { code_point: format!("U+{code_point}"), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_line() {
        let letter = parse("0041;LATIN CAPITAL LETTER A;Lu;0;L;;;;;N;;;;0061;").unwrap();
        assert_eq!(letter.json_line(), "{\"key\":\"U+0041\",\"value\":\"LATIN CAPITAL LETTER A\"}\n");
        assert_eq!(parse("nothing"), None);
    }
}
