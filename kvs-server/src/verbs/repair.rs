//! `kvs-server repair`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use kvs_engine::repair::{Loss, Plan, Repaired, Then};

use super::{Folder, Verdict, print_json, printing};
use crate::error::ServerError;

/// See [`Verb::Repair`](super::Verb::Repair).
#[derive(Debug, Args)]
pub struct Repair {
    #[command(flatten)]
    folder: Folder,

    /// Only says what would be saved and lost; so does leaving --to out
    #[arg(long)]
    dry_run: bool,

    /// Saves what can be saved into this folder, which must be empty or missing
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    to: Option<PathBuf>,

    /// Prints the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    saved_keys: u64,
    records: u64,
    without_manifest: bool,
    losses: &'a [Loss],
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Repaired>,
}

impl Repair {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let folder = self.folder.of_kvs("repair")?;
        let plan = kvs_engine::repair::plan(&folder)?;
        let repaired = self.to.as_ref().map(|to| plan.save_into(to)).transpose()?;
        if self.json {
            let Plan { saved_keys, records, without_manifest, ref losses, .. } = plan;
            print_json(out, &Answer { saved_keys, records, without_manifest, losses, repaired })?;
        } else {
            print(out, &plan, self.to.as_deref(), repaired.as_ref()).map_err(printing)?;
        }
        Ok(if plan.losses.is_empty() { Verdict::Sound } else { Verdict::Damaged })
    }
}

fn print(
    out: &mut dyn Write,
    plan: &Plan,
    to: Option<&std::path::Path>,
    repaired: Option<&Repaired>,
) -> std::io::Result<()> {
    for loss in &plan.losses {
        let finding = &loss.finding;
        write!(out, "lost: {} at byte {}, {} bytes", finding.file.display(), finding.offset, finding.bytes)?;
        if loss.last_sequence > 0 {
            write!(out, ", sequences {} to {}", loss.first_sequence, loss.last_sequence)?;
        }
        writeln!(out, ": {}", finding.reason)?;
        for key in &loss.keys {
            let what = if key.was_removal { "a removal of" } else { "a value of" };
            let then = match key.then {
                Then::NothingIsLost => "a newer record is intact, nothing is lost",
                Then::OlderValue => "an older value comes back",
                Then::RemovedKeyComesBack => "the removed key comes back",
                Then::Missing => "the key will be missing",
            };
            writeln!(out, "  {what} {:?}: {then}", key.key)?;
        }
        if loss.others {
            writeln!(
                out,
                "  records whose keys can't be read: their keys lose their newest value, or come back although removed"
            )?;
        }
    }
    if plan.without_manifest {
        writeln!(out, "caution: without a manifest, values that a compaction had dropped may come back")?;
    }
    let Plan { saved_keys, records, .. } = plan;
    match (to, repaired) {
        (Some(to), Some(repaired)) => {
            writeln!(out, "saved: {} keys into {}, from {records} intact records", repaired.keys, to.display())
        }
        _ => writeln!(
            out,
            "would save: {saved_keys} keys, from {records} intact records; nothing was written, --to DIR saves them"
        ),
    }
}
