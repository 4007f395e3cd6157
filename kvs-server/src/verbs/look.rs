//! `kvs-server dump`, `scan`, `stats` and `flush`: verbs that open a store and look at it.

use std::io::Write;

use clap::Args;
use kvs_engine::{KvsEngine, dump};

use super::{Folder, Show, Verdict, print_json, printing};
use crate::error::ServerError;

/// See [`Verb::Dump`](super::Verb::Dump).
#[derive(Debug, Args)]
pub struct Dump {
    #[command(flatten)]
    folder: Folder,

    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,

    /// Of a damaged store: prints what `repair` would save, without opening it. Exit code 65 if something is lost
    #[arg(long, conflicts_with = "prefix")]
    salvage: bool,
}

impl Dump {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        if self.salvage {
            let plan = kvs_engine::repair::plan(self.folder.of_kvs("repair")?)?;
            plan.entries(|entry| {
                out.write_all(&dump::line_of(&entry)).map_err(|error| kvs_engine::Error::io("writing the dump", error))
            })?;
            return Ok(if plan.losses.is_empty() { Verdict::Sound } else { Verdict::Damaged });
        }
        self.folder.open(DumpAll { prefix: self.prefix.into_bytes(), out })
    }
}

struct DumpAll<'a> {
    prefix: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Show for DumpAll<'_> {
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError> {
        dump::write_lines(engine, &self.prefix, self.out)?;
        Ok(Verdict::Sound)
    }
}

/// See [`Verb::Scan`](super::Verb::Scan).
#[derive(Debug, Args)]
pub struct Scan {
    #[command(flatten)]
    folder: Folder,

    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,

    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// The values as well
    #[arg(long)]
    values: bool,
}

impl Scan {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        let Self { folder, prefix, limit, values } = self;
        folder.open(ScanSome { prefix, limit: limit.unwrap_or(usize::MAX), values, out })
    }
}

struct ScanSome<'a> {
    prefix: String,
    limit: usize,
    values: bool,
    out: &'a mut dyn Write,
}

impl Show for ScanSome<'_> {
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError> {
        let (values, prefix) = (self.values, self.prefix.into_bytes());
        let scan = kvs_engine::Scan { prefix, values, ..kvs_engine::Scan::default() };
        for entry in kvs_engine::Entries::new(engine.clone(), scan).take(self.limit) {
            self.out.write_all(&dump::line_of(&entry?)).map_err(printing)?;
        }
        Ok(Verdict::Sound)
    }
}

/// See [`Verb::Stats`](super::Verb::Stats).
#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    folder: Folder,

    /// Prints them as one JSON object
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        self.folder.open(Figures { json: self.json, out })
    }
}

struct Figures<'a> {
    json: bool,
    out: &'a mut dyn Write,
}

impl Show for Figures<'_> {
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError> {
        let stats = engine.stats();
        if self.json {
            print_json(self.out, &stats)?;
            return Ok(Verdict::Sound);
        }
        let figures = serde_json::to_value(stats).expect("numbers have a JSON form");
        for (name, figure) in figures.as_object().into_iter().flatten() {
            writeln!(self.out, "{name}: {figure}").map_err(printing)?;
        }
        Ok(Verdict::Sound)
    }
}

/// See [`Verb::Flush`](super::Verb::Flush).
#[derive(Debug, Args)]
pub struct Flush {
    #[command(flatten)]
    folder: Folder,
}

impl Flush {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        self.folder.open(Settle { out })
    }
}

struct Settle<'a> {
    out: &'a mut dyn Write,
}

impl Show for Settle<'_> {
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError> {
        engine.flush()?;
        let torn_bytes = engine.stats().torn_bytes;
        writeln!(self.out, "durable; {torn_bytes} bytes of an unfinished write were cut").map_err(printing)?;
        Ok(Verdict::Sound)
    }
}
