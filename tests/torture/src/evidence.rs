//! What a process was at when it died, told from the files that it left behind.
//!
//! What must hold: nothing here is guessed from time. A file that the manifest does not list was being made or given
//! up: a prepared segment ends in zeros, a compaction's output or input in a record. FORMAT.md says so.

use std::io;
use std::path::Path;

use serde_json::Value;

/// Where the payload of a line begins.
const PREFIX_BYTES: usize = 40;

/// What was under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// A compaction's output was not listed yet, or its inputs were not removed yet.
    pub compaction: bool,
    /// A segment was being prepared, or a full one was not sealed yet.
    pub rotation: bool,
    /// A manifest was being written.
    pub manifest: bool,
    /// A checkpoint of the index was being written.
    pub checkpoint: bool,
}

impl Evidence {
    /// Looks at a folder that no process has open.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let mut evidence = Self::default();
        let Ok(manifest) = std::fs::read(folder.join("MANIFEST")) else { return Ok(evidence) };
        let manifest: Value = serde_json::from_slice(manifest.get(PREFIX_BYTES..).unwrap_or_default())?;
        let listed = manifest["manifest"]["segments"].as_array().cloned().unwrap_or_default();
        let mut unsealed_with_records = 0;
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            evidence.manifest |= name == "MANIFEST.new";
            evidence.checkpoint |= name == "CHECKPOINT.new";
            let Some(id) = name.strip_suffix(".log").and_then(|digits| digits.parse::<u64>().ok()) else { continue };
            let bytes = std::fs::read(folder.join(&name))?;
            let ends_in_zeros = bytes.last().is_none_or(|last| *last == 0);
            let records = bytes.split(|byte| *byte == b'\n').count().saturating_sub(2);
            match listed.iter().find(|segment| segment["id"] == id) {
                None if ends_in_zeros => evidence.rotation = true,
                None => evidence.compaction = true,
                Some(segment) if segment["sealed"].is_null() && records > 0 => unsealed_with_records += 1,
                Some(_) => {}
            }
        }
        evidence.rotation |= unsealed_with_records > 1;
        Ok(evidence)
    }
}
