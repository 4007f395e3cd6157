//! `Note`: how far an import or export came, in a file beside the data, so that another run goes on from there.
//!
//! What must hold: the note never says more than was done, so that going on leaves nothing out; doing again what was
//! done after the note has the same result. A note is whole or absent, however the process ends. A note that belongs to
//! another store or to a file that has changed since is refused, not guessed about.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How often a note is written: what is done twice after a kill is at most this long.
const BETWEEN_NOTES: Duration = Duration::from_secs(1);
/// The longest note, in bytes; what is longer is no note.
const MAX_NOTE_BYTES: u64 = 1024 * 1024;

/// How far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// `import` or `export`, with what else must be the same in the next run.
    pub(crate) what: String,
    /// The store, as errors name it.
    pub(crate) place: String,
    /// Bytes of the data file that are done.
    pub(crate) bytes: u64,
    /// Lines of the data file that are done.
    pub(crate) lines: u64,
    /// Import: the size of the data file and when it was last changed, in nanoseconds since 1970.
    pub(crate) file: Option<(u64, u64)>,
    /// Export: where the scan goes on.
    pub(crate) cursor: Option<String>,
}

/// The file of a note.
pub(crate) struct NoteFile {
    path: PathBuf,
    written: Instant,
}

impl NoteFile {
    /// The note of this data file.
    pub(crate) fn beside(data: &Path) -> Self {
        let mut name = data.as_os_str().to_owned();
        name.push(".resume");
        Self { path: name.into(), written: Instant::now() }
    }

    /// Its path, as an error names it.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The note of an earlier run, if there is one and it belongs to this work.
    pub(crate) fn read(&self, what: &str, place: &str) -> Result<Option<Note>, Error> {
        let name = self.name();
        let text = match fs::metadata(&self.path).and_then(|metadata| {
            if metadata.len() > MAX_NOTE_BYTES {
                Err(io::Error::other("too long for a note"))
            } else {
                fs::read(&self.path)
            }
        }) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Data(format!("cannot read {name}: {error}"))),
        };
        let anew = format!("remove {name} to begin anew");
        let note: Note = serde_json::from_slice(&text)
            .map_err(|error| Error::Data(format!("{name} is no note of how far it came: {error}; {anew}")))?;
        if note.what != what || note.place != place {
            let (before, store) = (&note.what, &note.place);
            return Err(Error::Data(format!(
                "{name} belongs to another run: {before}, {store} (this is {what}, {place}); go on with that, or {anew}"
            )));
        }
        Ok(Some(note))
    }

    /// Whether it is time for another note.
    pub(crate) fn is_due(&self) -> bool {
        self.written.elapsed() >= BETWEEN_NOTES
    }

    /// Writes a note in place of the one before.
    pub(crate) fn write(&mut self, note: &Note) -> Result<(), Error> {
        self.written = Instant::now();
        let cannot = |error: io::Error| Error::Data(format!("cannot write {}: {error}", self.path.display()));
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let mut file = File::create(&new).map_err(cannot)?;
        serde_json::to_writer(&mut file, note).map_err(|error| cannot(error.into()))?;
        // Whole before it has the name: a machine that loses power must not find half a note.
        file.write_all(b"\n").and_then(|()| file.sync_all()).map_err(cannot)?;
        fs::rename(&new, &self.path).map_err(cannot)
    }

    /// Everything is done: there is nothing to go on with.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Data(format!("all is done, but cannot remove {}: {error}", self.name())))
            }
            _ => Ok(()),
        }
    }
}

/// What tells a changed file from the same: its size in bytes and when it was last written, in nanoseconds since 1970.
pub(crate) fn mark_of(metadata: &fs::Metadata) -> (u64, u64) {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    (metadata.len(), u64::try_from(changed.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        let (what, place) = ("import jsonl".to_owned(), "127.0.0.1:4000".to_owned());
        Note { what, place, bytes: 10, lines: 2, file: Some((20, 30)), cursor: None }
    }

    #[test]
    fn a_note_is_read_back_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NoteFile::beside(&folder.path().join("data"));
        assert_eq!(file.read("import jsonl", "127.0.0.1:4000").unwrap(), None);
        file.write(&note()).unwrap();
        assert_eq!(file.read("import jsonl", "127.0.0.1:4000").unwrap(), Some(note()));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.read("import jsonl", "127.0.0.1:4000").unwrap(), None);
    }

    #[test]
    fn a_note_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = NoteFile::beside(&folder.path().join("data"));
        file.write(&note()).unwrap();
        for (what, place) in [("import csv", "127.0.0.1:4000"), ("import jsonl", "127.0.0.1:4001")] {
            let error = file.read(what, place).unwrap_err().to_string();
            assert!(error.contains("belongs to another run") && error.contains("data.resume"), "{error}");
        }
        fs::write(&file.path, "{").unwrap();
        assert!(file.read("import jsonl", "127.0.0.1:4000").unwrap_err().to_string().contains("is no note"));
    }
}
