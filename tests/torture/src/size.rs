//! How long the tests run, and how they tell their figures.

use std::io::Write as _;

/// Whether `KVS_TORTURE=full` asks for the long versions, which `make torture-engine` runs.
///
/// # Panics
/// When the variable holds another word: a misspelt one must not run the short versions.
#[must_use]
pub fn is_full() -> bool {
    match std::env::var("KVS_TORTURE").as_deref() {
        Err(_) | Ok("") => false,
        Ok("full") => true,
        Ok(other) => panic!("KVS_TORTURE is {other:?}; say KVS_TORTURE=full, or leave it out"),
    }
}

/// Prints one line of figures, which the test runner would keep to itself if the test passes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}
