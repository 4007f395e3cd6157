//! `kvs-server restore`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use kvs_protocol::backup_record::is_sha256;
use serde_json::json;

use super::{Folder, Verdict, print_json, printing};
use crate::error::ServerError;
use crate::restored::{Order, Restored};

/// See [`Verb::Restore`](super::Verb::Restore).
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    folder: Folder,

    /// The folder that `backup` wrote
    #[arg(long, value_name = "DIR")]
    from: PathBuf,

    /// The SHA-256 of DIR.sha256, as the backup was reported with: without the file, or with another one, nothing is restored
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,

    /// The store that the data is to belong to from now on, with ids of its own [default: the one that was backed up]
    #[arg(long, value_name = "NAMESPACE/NAME")]
    store: Option<String>,

    /// A file that gets one line with the cause when nothing was restored
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,

    /// Prints the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let termination_log = self.termination_log.clone();
        self.restore(out).inspect_err(|error| {
            if let Some(path) = termination_log {
                error.write_termination_log(&path);
            }
        })
    }

    fn restore(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let Self { folder, from, sha256, store, termination_log: _, json } = self;
        let folder = folder.new_of_kvs("restore")?;
        let order = Order { from: &from, to: &folder, sha256: sha256.as_deref(), store: store.as_deref() };
        let name = folder.display();
        match order.carry_out()? {
            Restored::Now(restored) if json => print_json(out, &restored)?,
            Restored::Before if json => print_json(out, &json!({"restoredBefore": true}))?,
            Restored::Now(restored) => {
                let kvs_engine::backup::Restored { last_sequence, files, bytes, records } = restored;
                writeln!(
                    out,
                    "restored into {name}: {records} records up to sequence {last_sequence}, {files} files of {bytes} bytes, every one checked"
                )
                .map_err(printing)?;
            }
            Restored::Before => {
                writeln!(
                    out,
                    "nothing was done: this backup made {name} before, and what was written since is in it; to have the backup as it was, name another folder"
                )
                .map_err(printing)?;
            }
        }
        Ok(Verdict::Sound)
    }
}

fn sha256(text: &str) -> Result<String, &'static str> {
    if is_sha256(text) { Ok(text.to_owned()) } else { Err("want 64 lower-case hexadecimal digits") }
}
