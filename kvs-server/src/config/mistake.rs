//! What is wrong in a configuration file: the cause, a guess at what was meant, and the place.
//!
//! What must hold: one line; line and column wherever they can be known.

use super::fields::FIELDS;

/// A mistake that YAML or the form of the file shows.
pub(crate) fn of_form(error: &serde_yaml::Error) -> String {
    let text = error.to_string().replace('\n', " ");
    // The library says what is wrong with an address and not what would be right: a port alone, or a host's name, is not.
    let text = text.replace("invalid socket address syntax", "not of the form IP:PORT, such as 127.0.0.1:4000,");
    let Some((word, known)) = unknown_field(&text) else {
        // serde_yaml says no place for what is wrong from the first byte on.
        let place =
            if text.contains(" at line ") { "" } else { ", at line 1 column 1: a file has lines like `pool: inline`" };
        return text + place;
    };
    let place = error.location().map(|place| format!(" at line {} column {}", place.line(), place.column()));
    let meant = match closest(word, &known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    format!("unknown field `{word}`{}; {meant}", place.unwrap_or_default())
}

/// Where the field stands whose value was refused with this cause, which begins with the field's name as a flag.
pub(crate) fn place_of_value(text: &str, cause: &str) -> Option<(usize, usize)> {
    let name = if cause.starts_with("log level ") { "log-level" } else { cause.split(' ').next()? };
    let field = FIELDS.iter().find(|field| field.flag().strip_prefix("--") == Some(name))?;
    let (group, word) = field.path.split_once('.').map_or((None, field.path), |(group, word)| (Some(group), word));
    let mut inside = group.is_none();
    for (number, line) in (1..).zip(text.lines()) {
        let indent = line.len() - line.trim_start().len();
        let Some((key, _)) = line.trim_start().split_once(':') else { continue };
        let key = key.trim().trim_matches(['"', '\'']);
        if indent == 0 {
            inside = group.is_none_or(|group| key == group);
        }
        if inside && key == word && (indent == 0) == group.is_none() {
            return Some((number, indent + 1));
        }
    }
    None
}

/// The word and the known ones, out of serde's sentence about an unknown field.
fn unknown_field(text: &str) -> Option<(&str, Vec<&str>)> {
    let (_, rest) = text.split_once("unknown field `")?;
    let (word, rest) = rest.split_once('`')?;
    // Every second piece stands between back quotes.
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((word, known))
}

/// The known word that is nearest, if one is near enough to have been meant.
fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace(['-', '_'], "");
    let (distance, found) =
        known.iter().map(|name| (distance(&word, &name.to_ascii_lowercase()), *name)).min_by_key(|(far, _)| *far)?;
    (distance <= 1 + found.len() / 4).then_some(found)
}

/// How many letters must be put in, taken out or changed (Levenshtein 1965).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (place, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *wanted);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(row[place] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use kvs_protocol::config::ServerConfig;

    use super::*;

    #[test]
    fn a_word_that_is_nearly_right_is_guessed() {
        for (text, expected) in [
            ("engine: kvs\npoool: rayon\n", "unknown field `poool` at line 2 column 1; did you mean `pool`?"),
            ("data-dir: x\n", "did you mean `dataDir`?"),
            ("auth_tokens: x\n", "did you mean `authTokens`?"),
            ("log:\n  levle: info\n", "unknown field `levle` at line 2 column 3; did you mean `level`?"),
            ("limits: {conections: 3}\n", "did you mean `connections`?"),
            ("frobnicate: 1\n", "unknown field `frobnicate` at line 1 column 1; there are addr, adminAddr"),
        ] {
            let found = of_form(&ServerConfig::from_yaml(text).unwrap_err());
            assert!(found.contains(expected), "{found}");
        }
        let found = of_form(&ServerConfig::from_yaml("threads: many\n").unwrap_err());
        assert!(found.contains("threads") && found.contains("line 1 column 10"), "{found}");
        let found = of_form(&ServerConfig::from_yaml("addr: 4000\n").unwrap_err());
        assert_eq!(found, "addr: not of the form IP:PORT, such as 127.0.0.1:4000, at line 1 column 7");
    }

    #[test]
    fn a_value_out_of_bounds_is_found_in_its_group() {
        let text = "# threads: 1\naddr: 127.0.0.1:1\nlimits:\n  # a remark\n  queueJobs: 0\nthreads: 0\n";
        assert_eq!(place_of_value(text, "threads must be 1 to 1024, not 0"), Some((6, 1)));
        assert_eq!(place_of_value(text, "limits-queue-jobs must be 1 to 9, not 0"), Some((5, 3)));
        assert_eq!(place_of_value(text, "store 'x' is wrong"), None);
    }
}
