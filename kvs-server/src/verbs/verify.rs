//! `kvs-server verify`.

use std::io::Write;

use clap::Args;
use kvs_engine::KvsEngine;
use kvs_engine::verify::Report;
use kvs_protocol::names::EngineName;

use super::{Folder, Show, Verdict, print_json, printing};
use crate::error::ServerError;

/// See [`Verb::Verify`](super::Verb::Verify).
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    folder: Folder,

    /// Prints the report as one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let folder = self.folder.clone().choose()?;
        if folder.engine == EngineName::Sled {
            return self.folder.open(ReadAll { out });
        }
        let report = kvs_engine::verify::verify(&folder.path)?;
        if self.json {
            #[derive(serde::Serialize)]
            struct Verified<'a> {
                sound: bool,
                #[serde(flatten)]
                report: &'a Report,
            }
            print_json(out, &Verified { sound: report.is_sound(), report: &report })?;
        } else {
            print_report(out, &report).map_err(printing)?;
        }
        Ok(if report.is_sound() { Verdict::Sound } else { Verdict::Damaged })
    }
}

fn print_report(out: &mut dyn Write, report: &Report) -> std::io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
    }
    if report.further_damage > 0 {
        writeln!(out, "damaged: {} places more", report.further_damage)?;
    }
    let word = if report.is_sound() { "sound" } else { "damaged" };
    let Report { files, bytes, records, last_sequence, .. } = report;
    writeln!(
        out,
        "{word}: {files} files, {bytes} bytes, {records} intact records, the last with sequence {last_sequence}"
    )
}

/// sled has no verification of its own: all that it can read is read.
struct ReadAll<'a> {
    out: &'a mut dyn Write,
}

impl Show for ReadAll<'_> {
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError> {
        let mut entries = 0_u64;
        for entry in engine.entries("") {
            entry?;
            entries += 1;
        }
        let caution = "sled can't tell a torn end from damage before it, so some may be missing";
        writeln!(self.out, "readable: {entries} entries; {caution}").map_err(printing)?;
        Ok(Verdict::Sound)
    }
}
