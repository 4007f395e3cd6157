//! `Finding`: one thing that verification saw, where, and what to do about it.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FindingKind {
    /// There are segments, and no manifest that says which of them count.
    MissingManifest,
    /// The manifest is not what was written.
    DamagedManifest,
    /// A file that the manifest lists is not there.
    MissingFile,
    /// The first line of a segment is not its own.
    DamagedHeader,
    /// A file is longer or shorter than the manifest says.
    WrongLength,
    /// A record that was acknowledged is not what was written.
    DamagedRecord,
    /// Records that were durable are not there.
    MissingRecords,
    /// The checkpoint is not what was written. No data is lost with it: an opening reads the log instead.
    DamagedCheckpoint,
    /// A file of a backup, or the list of them, is not what the backup was made with.
    DamagedBackup,
    /// The end of a write that was under way when the process died. Nobody was told that it is durable: the next
    /// opening cuts it off.
    TornTail,
    /// A file that a crash left behind. The next opening removes it.
    LeftOver,
    /// A byte that is not zero in a file that only keeps space free. It holds no data.
    NotZero,
    /// A file that the engine does not know and did not read.
    UnknownFile,
}

impl FindingKind {
    /// Whether a file is not what was written. Everything else is only said.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        match self {
            Self::MissingManifest
            | Self::DamagedManifest
            | Self::MissingFile
            | Self::DamagedHeader
            | Self::WrongLength
            | Self::DamagedRecord
            | Self::DamagedBackup
            | Self::DamagedCheckpoint
            | Self::MissingRecords => true,
            Self::TornTail | Self::LeftOver | Self::NotZero | Self::UnknownFile => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::TornTail => "nothing: the next opening cuts it off, and nothing acknowledged is in it",
            Self::LeftOver => "nothing: the next opening removes it",
            Self::NotZero => "nothing: the file holds no data",
            Self::UnknownFile => "nothing: it is not the engine's",
            Self::DamagedCheckpoint => {
                "no data is lost: the next opening reads the log instead and writes another one; look at the disk"
            }
            Self::DamagedBackup => "take another backup of this store, and do not restore this one",
            _ => "restore a backup; without one, see what `repair --dry-run` can save, and keep this folder as it is",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// In which file.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it concerns; 0 where that is unknown.
    pub bytes: u64,
    /// The sequence of the record, or the one that should stand there; 0 where there is none.
    pub sequence: u64,
    /// What does not fit.
    pub reason: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.kind.is_damage() { "damaged" } else { "note" };
        write!(formatter, "{word}: {} at byte {}", self.file.display(), self.offset)?;
        if self.sequence > 0 {
            write!(formatter, " (sequence {})", self.sequence)?;
        }
        write!(formatter, ": {}; {}", self.reason, self.kind.remedy())
    }
}

/// A path as JSON has it: what is no text in it is replaced.
pub(crate) fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
