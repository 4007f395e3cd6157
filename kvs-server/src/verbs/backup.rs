//! `kvs-server backup`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use kvs_engine::{KvStore, KvsEngine as _, Options};

use super::{Folder, Verdict, print_json, printing};
use crate::error::ServerError;
use crate::identity::IDENTITY_NAME;

/// See [`Verb::Backup`](super::Verb::Backup).
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    folder: Folder,

    /// Where the backup goes: a folder that is empty or missing. On the same file system it takes little space
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Prints the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let folder = self.folder.of_kvs("backup")?;
        if !folder.join("MANIFEST").exists() {
            let cause = format!("{} holds no store; name the store's with --data-dir", folder.display());
            return Err(ServerError::Configuration(cause));
        }
        let options = Options { compaction_threshold_bytes: u64::MAX, ..Options::default() };
        let store = KvStore::open_with(&folder, options)?;
        let backup = store.backup(&self.to, &[IDENTITY_NAME])?;
        store.close()?;
        if self.json {
            print_json(out, &backup)?;
        } else {
            let kvs_engine::backup::Backup { last_sequence, files, bytes, linked_files, records } = backup;
            writeln!(
                out,
                "backed up to {}: {records} records up to sequence {last_sequence}, {files} files of {bytes} bytes, {linked_files} of them linked",
                self.to.display()
            )
            .map_err(printing)?;
        }
        Ok(Verdict::Sound)
    }
}
