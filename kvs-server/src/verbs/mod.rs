//! Verbs: looking after the data of a store that no server has open, from the command line.
//!
//! What must hold: without a verb the program serves, as ever; a verb never touches a folder that a server has open
//! (the engine's lock says so); what it prints on standard output is its result alone, so that it can be piped.

mod backup;
mod look;
mod repair;
mod restore;
mod verify;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use kvs_engine::{KvsEngine, Options};
use kvs_protocol::config::ServerConfig;
use kvs_protocol::names::EngineName;

use crate::config::ConfigVerb;
use crate::data_folder::DataFolder;
use crate::error::ServerError;
use crate::settings::Settings;

/// What a verb says beside its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Sound,
    /// Data is damaged.
    Damaged,
}

/// What to do with a data folder instead of serving it. No server may have it open.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Reads every byte of a store and checks it; changes nothing
    ///
    /// Prints one line for each finding, with what to do about it. Exit code 0: sound, 65: damaged, 74: the disk can't be
    /// read. Works on a backup as well.
    Verify(verify::Verify),
    /// Says what can be saved of a damaged store, and what is lost; with --to, saves it into a new folder
    ///
    /// Never changes the damaged folder; --replace gives it another name. Of all intact records about a key the newest decides; so where a newer one is
    /// damaged, an older value, or a removed key, can come back: the report says which. Exit code 0: nothing is lost,
    /// 65: something is.
    Repair(repair::Repair),
    /// Makes a backup of a store: a folder that can be verified, restored, or opened as a store
    Backup(backup::Backup),
    /// Makes a store out of a backup, after checking every byte of it
    ///
    /// The data folder must be empty or missing, and has its name when all is done. Where this backup made the folder
    /// before, nothing is done, so that it can be called again. Exit code 65: the backup is damaged.
    Restore(restore::Restore),
    /// Prints every entry as a line of JSON, which `kvs-client import` reads back
    Dump(look::Dump),
    /// Prints keys as lines of JSON, in no order
    Scan(look::Scan),
    /// Prints figures of a store
    Stats(look::Stats),
    /// Checks a configuration file, or prints what the server would run with
    Config(ConfigVerb),
    /// Opens a store, so that what a dead process left is recovered, makes it durable, and closes it
    Flush(look::Flush),
}

/// The folder that a verb works on.
#[derive(Debug, Clone, Args)]
pub(crate) struct Folder {
    /// The folder of the data [default: ./kvs or ./sled, whichever is there]
    #[arg(long, value_name = "DIR", env = "KVS_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,

    /// kvs or sled [default: the engine whose data the folder holds]
    #[arg(long, value_name = "NAME", env = "KVS_ENGINE", hide_env_values = true)]
    engine: Option<EngineName>,
}

impl Verb {
    /// Does it; the result goes to `out`.
    ///
    /// # Errors
    /// Every [`ServerError`] but [`ServerError::Listen`].
    pub fn run(self, out: &mut dyn Write) -> Result<Verdict, ServerError> {
        match self {
            Self::Verify(verb) => verb.run(out),
            Self::Repair(verb) => verb.run(out),
            Self::Backup(verb) => verb.run(out),
            Self::Restore(verb) => verb.run(out),
            Self::Dump(verb) => verb.run(out),
            Self::Scan(verb) => verb.run(out),
            Self::Stats(verb) => verb.run(out),
            Self::Config(verb) => verb.run(out),
            Self::Flush(verb) => verb.run(out),
        }
    }
}

/// The path of a folder of the engine `kvs`.
fn only_kvs(folder: DataFolder, verb: &str) -> Result<PathBuf, ServerError> {
    match folder.engine {
        EngineName::Kvs => Ok(folder.path),
        EngineName::Sled => Err(ServerError::Configuration(format!(
            "{} holds data of the sled engine, which has no {verb}; use dump, and import it into a store of the kvs engine",
            folder.path.display()
        ))),
    }
}

impl Folder {
    /// The folder and its engine, as a server would choose them; there must be a folder.
    pub(crate) fn choose(self) -> Result<DataFolder, ServerError> {
        let folder = self.chosen()?;
        if folder.path.is_dir() {
            return Ok(folder);
        }
        let cause = format!("{} is no folder; name the store's with --data-dir", folder.path.display());
        Err(ServerError::Configuration(cause))
    }

    /// As [`choose`](Self::choose), for a folder that may be missing.
    pub(crate) fn chosen(self) -> Result<DataFolder, ServerError> {
        let config = ServerConfig { data_dir: self.data_dir, engine: self.engine, ..ServerConfig::default() };
        DataFolder::choose(&Settings::from_config(config)?)
    }

    /// As [`choose`](Self::choose), for verbs that only the engine `kvs` has.
    pub(crate) fn of_kvs(self, verb: &str) -> Result<PathBuf, ServerError> {
        only_kvs(self.choose()?, verb)
    }

    /// As [`of_kvs`](Self::of_kvs), for a folder that may be missing.
    pub(crate) fn new_of_kvs(self, verb: &str) -> Result<PathBuf, ServerError> {
        only_kvs(self.chosen()?, verb)
    }

    /// Opens the store and shows it.
    pub(crate) fn open(self, show: impl Show) -> Result<Verdict, ServerError> {
        let folder = self.choose()?;
        if !folder.holds_data()? {
            let cause = format!("{} holds no store; name the store's with --data-dir", folder.path.display());
            return Err(ServerError::Configuration(cause));
        }
        // Looking at a store is no reason to rewrite it.
        let options = Options { compaction_threshold_bytes: u64::MAX, ..Options::default() };
        match folder.engine {
            EngineName::Kvs => shown(show, kvs_engine::KvStore::open_with(&folder.path, options)?),
            #[cfg(feature = "sled")]
            EngineName::Sled => shown(show, kvs_engine::SledEngine::open_with(&folder.path, options)?),
            #[cfg(not(feature = "sled"))]
            EngineName::Sled => {
                drop(options);
                Err(ServerError::Configuration("this server was built without the sled engine".into()))
            }
        }
    }
}

/// What a verb does with an open store, whichever engine it has.
pub(crate) trait Show {
    /// Does it.
    fn show(self, engine: &impl KvsEngine) -> Result<Verdict, ServerError>;
}

fn shown(show: impl Show, engine: impl KvsEngine) -> Result<Verdict, ServerError> {
    let verdict = show.show(&engine)?;
    engine.close()?;
    Ok(verdict)
}

/// What standard output said.
pub(crate) fn printing(source: std::io::Error) -> ServerError {
    ServerError::io("cannot print the result", source)
}

/// A value as one line of JSON.
pub(crate) fn print_json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), ServerError> {
    let line = serde_json::to_string(value).expect("numbers and text have a JSON form");
    writeln!(out, "{line}").map_err(printing)
}
