//! Bugs that are planted on purpose, one chosen by `KVS_ZOO`, to see that a test catches each. Only in builds with
//! `--cfg zoo`; `tests/bin/zoo` has the list, with the test that must fail.
//!
//! What must hold: without the cfg this is the constant `false`, so that nothing of a bug is in the program.

/// Whether this planted bug is the chosen one.
#[cfg(zoo)]
pub(crate) fn bug(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("KVS_ZOO").ok()).as_deref() == Some(name)
}

/// There are no bugs in this build.
#[cfg(not(zoo))]
pub(crate) const fn bug(_name: &str) -> bool {
    false
}
