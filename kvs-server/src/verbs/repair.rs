//! `kvs-server repair`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use kvs_engine::repair::{Loss, Plan, Repaired, Then};
use kvs_protocol::termination::TERMINATION_MESSAGE_LIMIT_BYTES;

use super::{Folder, Verdict, print_json, printing};
use crate::error::ServerError;
use crate::replaced::replace;

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

    /// Saves what can be saved, and puts it in the place of the damaged folder, which is kept as DIR.damaged
    #[arg(long, conflicts_with_all = ["dry_run", "to"])]
    replace: bool,

    /// A file that gets the report as one JSON object, without the losses that don't fit 4,096 bytes, or one line with the cause
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,

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
    repaired: Option<&'a Repaired>,
    /// Losses that are not in the list, because it would be too long.
    #[serde(skip_serializing_if = "is_zero")]
    losses_left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Answer<'_> {
    /// The report in so many bytes; the last losses are left out first.
    fn within(mut self, limit_bytes: usize) -> String {
        loop {
            let text = serde_json::to_string(&self).expect("numbers and text have a JSON form");
            let [kept @ .., _] = self.losses else { return text };
            if text.len() <= limit_bytes {
                return text;
            }
            (self.losses, self.losses_left_out) = (kept, self.losses_left_out + 1);
        }
    }
}

impl Repair {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let termination_log = self.termination_log.clone();
        self.repair(out).inspect_err(|error| {
            if let Some(path) = termination_log {
                error.write_termination_log(&path);
            }
        })
    }

    fn repair(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let folder = self.folder.of_kvs("repair")?;
        let plan = kvs_engine::repair::plan(&folder)?;
        let repaired = match &self.to {
            Some(to) => Some(plan.save_into(to)?),
            None if self.replace => replace(&folder, &plan)?,
            None => None,
        };
        let to = self.to.as_deref().or_else(|| self.replace.then_some(folder.as_path()));
        let Plan { saved_keys, records, without_manifest, ref losses, .. } = plan;
        let repaired = repaired.as_ref();
        let answer = Answer { saved_keys, records, without_manifest, losses, repaired, losses_left_out: 0 };
        if self.json {
            print_json(out, &answer)?;
        } else {
            print(out, &plan, to, repaired).map_err(printing)?;
        }
        if let Some(path) = &self.termination_log
            && let Err(error) = std::fs::write(path, answer.within(TERMINATION_MESSAGE_LIMIT_BYTES))
        {
            // The report stands on standard output, too.
            tracing::warn!(%error, path = %path.display(), "cannot write the termination log");
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

#[cfg(test)]
mod tests {
    use kvs_engine::verify::{Finding, FindingKind};

    use super::*;

    #[test]
    fn a_long_report_leaves_losses_out_and_says_how_many() {
        let finding = Finding {
            kind: FindingKind::DamagedRecord,
            file: "data/00000001.log".into(),
            offset: 7,
            bytes: 60,
            sequence: 3,
            reason: "the checksum differs".into(),
        };
        let loss = Loss { finding, first_sequence: 3, last_sequence: 3, keys: Vec::new(), others: false };
        let losses = vec![loss; 100];
        let answer = |losses| Answer {
            saved_keys: 5,
            records: 9,
            without_manifest: false,
            losses,
            repaired: None,
            losses_left_out: 0,
        };
        let text = answer(&losses).within(TERMINATION_MESSAGE_LIMIT_BYTES);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listed = report["losses"].as_array().unwrap().len();
        assert!(text.len() <= TERMINATION_MESSAGE_LIMIT_BYTES && listed > 0, "{} bytes, {listed} losses", text.len());
        assert_eq!(report["lossesLeftOut"], 100 - listed);
        assert!(!answer(&losses[..1]).within(TERMINATION_MESSAGE_LIMIT_BYTES).contains("lossesLeftOut"));
    }
}
