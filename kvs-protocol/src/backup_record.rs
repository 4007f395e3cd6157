//! What a finished backup says of itself: the file of its checksums, and one line for whoever ordered it.
//!
//! `kvs-client backup` writes both, `kvs-server restore` checks the first, the operator reads the second from a pod's
//! termination message. The form of the checksums is that of `sha256sum`, so that a person can check them without us:
//!
//! ```text
//! 3b7c..64 hexadecimal digits..  monday/00000001.log
//! ```
//!
//! What must hold: a line names a plain file in the backup's folder, and each file once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the name of the file of checksums ends with; it stands beside the backup's folder and begins with its name.
pub const CHECKSUMS_SUFFIX: &str = ".sha256";
/// Hexadecimal digits of a SHA-256.
pub const SHA256_DIGITS: usize = 64;
/// The largest file of checksums that is read, in bytes: some hundred thousand files.
pub const MAX_CHECKSUMS_BYTES: u64 = 64 * 1024 * 1024;

/// The SHA-256 of each file of a backup, by name, in lower-case hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums(pub BTreeMap<String, String>);

impl Checksums {
    /// The file's text, for a backup whose folder has this name.
    #[must_use]
    pub fn to_text(&self, folder: &str) -> String {
        self.0.iter().map(|(name, sum)| format!("{sum}  {folder}/{name}\n")).collect()
    }

    /// Reads the file's text. The folder in it is not looked at: a backup may have been moved.
    ///
    /// # Errors
    /// The number of the first line that is none of ours.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut sums = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let parsed = line.split_once("  ").and_then(|(sum, path)| Some((sum, path.rsplit_once('/')?.1)));
            match parsed {
                Some((sum, name)) if is_sha256(sum) && !name.is_empty() && !sums.contains_key(name) => {
                    sums.insert(name.to_owned(), sum.to_owned());
                }
                _ => return Err(number + 1),
            }
        }
        Ok(Self(sums))
    }
}

/// Whether a text is a SHA-256 in lower-case hexadecimal digits.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == SHA256_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a backup came to, as `kvs-client backup -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// The backup's folder.
    pub folder: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Every write up to this sequence is in it.
    pub last_sequence: u64,
    /// The SHA-256 of the file of checksums, and so of everything.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let (one, two) = ("0".repeat(64), "9f".repeat(32));
        let sums = Checksums([("MANIFEST".to_owned(), one.clone()), ("1.log".to_owned(), two.clone())].into());
        let text = sums.to_text("monday");
        assert_eq!(text, format!("{two}  monday/1.log\n{one}  monday/MANIFEST\n"));
        assert_eq!(Checksums::parse(&text), Ok(sums));
        assert_eq!(Checksums::parse(""), Ok(Checksums::default()));
        for wrong in [
            "x".to_owned(),
            format!("{one} monday/1.log"),
            format!("{one}  1.log"),
            format!("{one}  monday/"),
            format!("{}  monday/1.log", "A".repeat(64)),
            format!("{one}  a/1.log\n{one}  b/1.log"),
        ] {
            assert!(Checksums::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
