//! What a document shows of a console: blocks of commands, each behind a `$ `, with what they print.

/// A command of a document, with the line on which it stands and what it prints.
pub struct Example {
    pub line: usize,
    pub command: &'static str,
    pub printed: Vec<&'static str>,
}

/// The commands of a document, from top to bottom.
pub fn examples(document: &'static str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for (number, line) in document.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => examples.push(Example { line: number + 1, command, printed: Vec::new() }),
                None => examples.last_mut().expect("a block begins with a command").printed.push(line),
            },
            (false, _) => {}
        }
    }
    examples
}

/// Whether a line is as the document has it, `[..]` standing for anything.
pub fn fits(pattern: &str, found: &str) -> bool {
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}
