//! `LastFailure`: when a server of a folder last ended because its engine could not go on. A small file beside the
//! engine's own, so that whoever starts next, and Prometheus, learn why there was a restart: the process that met the
//! failure ends within a second, before most scrapes.
//!
//! ```text
//! last-failure.json  {"atS":1700000000,"cause":"..."}
//! ```
//!
//! What must hold: it is a note and no state: writing it may fail, and a file that makes no sense counts as none.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const NAME: &str = "last-failure.json";
/// The longest cause that is written, in bytes.
const MAX_CAUSE_BYTES: usize = 4096;

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastFailure {
    /// In seconds since 1970.
    pub(crate) at_s: u64,
    /// What the engine said.
    pub(crate) cause: String,
}

impl LastFailure {
    /// What the folder remembers.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join(NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Remembers a failure of this moment. Not synced: what it tells of is often the disk, and the process that starts next
    /// reads what this one wrote.
    pub(crate) fn write(folder: &Path, cause: &str) {
        let at_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let failure = Self { at_s, cause: cause[..cause.floor_char_boundary(MAX_CAUSE_BYTES)].to_owned() };
        let text = serde_json::to_vec(&failure).expect("a number and a text have a JSON form");
        if let Err(error) = fs::write(folder.join(NAME), text) {
            tracing::warn!(%error, "the failure could not be noted in the data folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(LastFailure::read(folder.path()), None);
        fs::write(folder.path().join(NAME), "{\"atS\":").unwrap();
        assert_eq!(LastFailure::read(folder.path()), None);
        LastFailure::write(folder.path(), &"ü".repeat(MAX_CAUSE_BYTES));
        let failure = LastFailure::read(folder.path()).unwrap();
        assert!(failure.at_s > 1_700_000_000 && failure.cause.len() <= MAX_CAUSE_BYTES);
        LastFailure::write(&folder.path().join("nowhere"), "is not written, and nothing more happens");
    }
}
