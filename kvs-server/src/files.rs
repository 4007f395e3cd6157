//! `WatchedFiles`: files whose content counts anew when it changes.
//!
//! What must hold: files that are being replaced one after the other are not taken for what belongs together: a change
//! counts when it has been seen twice, or when somebody says that all is in place; what was refused once is not tried,
//! and not complained about, until it changes again; a file is never read beyond a limit.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::access::{Digest, digest};
use crate::limits::MAX_FILE_BYTES;

/// Reads a file that a person or Kubernetes wrote for us.
///
/// # Errors
/// What the operating system said; and a file that is too long.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("is longer than the limit of {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Files that are looked at now and then.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    /// What was last taken over or refused.
    judged: Digest,
    /// What was seen at the last look, if it was something else.
    seen: Option<Digest>,
}

impl WatchedFiles {
    /// Watches files of which the present content is known already.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let judged = Self::look(&paths);
        Self { paths, judged, seen: None }
    }

    /// Whether the files have changed and should be read again now. `at_once`: somebody said that all is in place.
    pub(crate) fn have_changed(&mut self, at_once: bool) -> bool {
        let now = Self::look(&self.paths);
        let has_settled = at_once || self.seen == Some(now);
        self.seen = Some(now);
        if now == self.judged && !at_once || !has_settled {
            return false;
        }
        self.judged = now;
        self.seen = None;
        true
    }

    /// One digest over all that is there, and over what is missing.
    fn look(paths: &[PathBuf]) -> Digest {
        let mut all = Vec::new();
        for path in paths {
            match read_bounded(path) {
                Ok(bytes) => {
                    all.push(1);
                    all.extend_from_slice(&digest(&bytes));
                }
                Err(error) => {
                    all.push(0);
                    all.extend_from_slice(error.kind().to_string().as_bytes());
                }
            }
        }
        digest(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_has_settled_and_only_once() {
        let here = tempfile::tempdir().unwrap();
        let (one, other) = (here.path().join("one"), here.path().join("other"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&other, "1").unwrap();
        let mut files = WatchedFiles::new(vec![one.clone(), other.clone()]);
        assert!(!files.have_changed(false) && !files.have_changed(false), "nothing happened");
        std::fs::write(&one, "2").unwrap();
        assert!(!files.have_changed(false), "the other one may follow");
        std::fs::write(&other, "2").unwrap();
        assert!(!files.have_changed(false));
        assert!(files.have_changed(false), "now they stand still");
        assert!(!files.have_changed(false) && !files.have_changed(false));
        std::fs::remove_file(&one).unwrap();
        assert!(!files.have_changed(false));
        assert!(files.have_changed(false), "a missing file is a change, too");
        assert!(files.have_changed(true), "whoever asks is told each time");
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("long");
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_FILE_BYTES).unwrap() + 1]).unwrap();
        assert!(read_bounded(&path).unwrap_err().to_string().contains("limit of 1048576 bytes"));
    }
}
