//! `Command`: what can be asked for, with the flags of each.
//!
//! What must hold: every flag has a variable beside it, `KVS_` and, for the flag of one command, that command's name.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::kubectl::KubectlCommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Data(DataCommand),
    /// Sets, reads, compares and removes a key of its own, and says in one line how it went
    Check,
    /// Stores the entries of a file: JSON lines such as {"key":"k","value":"v"}, or CSV
    Import(ImportFlags),
    /// Writes every entry into a file, or to standard output, as `import` reads it
    Export(ExportFlags),
    /// Receives a backup of the running store into a folder, for `kvs-server restore`
    Backup(BackupFlags),
    /// Puts load on the server and says how fast it answered
    Bench(BenchFlags),
    /// Takes commands line by line: history, completion of commands and keys
    Repl {
        /// Where the lines are kept, empty for nowhere [default: kvs-client/history in $XDG_STATE_HOME, else in ~/.local/state]
        #[arg(long, value_name = "FILE", env = "KVS_REPL_HISTORY")]
        history: Option<PathBuf>,
    },
    /// Looks after KvsStores, as `kubectl kvs` does
    Kubectl {
        #[command(subcommand)]
        command: KubectlCommand,
    },
    /// Prints the completion script of a shell
    #[command(alias = "completions")]
    Completion {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Prints the manual page, or writes one for each command into a folder
    Man {
        /// Where to write kvs-client.1, kvs-client-get.1 and so on
        #[arg(long, value_name = "FOLDER", env = "KVS_MAN_DIR")]
        dir: Option<PathBuf>,
    },
}

/// What a prompt takes, too.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Stores a value under a key; prints nothing
    Set {
        /// The key; any bytes
        #[arg(value_name = "KEY", allow_negative_numbers = true)]
        key: OsString,
        /// The value; `-` reads it from standard input, `@FILE` from a file
        #[arg(value_name = "VALUE", allow_negative_numbers = true)]
        value: OsString,
        /// Takes VALUE as it is, also if it is `-` or begins with `@`
        #[arg(long, env = "KVS_SET_LITERAL", value_parser = BoolishValueParser::new())]
        literal: bool,
    },
    /// Prints the value of a key, or `Key not found` (exit code 0 as well)
    Get {
        /// The key; any bytes
        #[arg(value_name = "KEY", allow_negative_numbers = true)]
        key: OsString,
    },
    /// Removes a key; fails with `Key not found` if it is not there
    Rm {
        /// The key; any bytes
        #[arg(value_name = "KEY", allow_negative_numbers = true)]
        key: OsString,
    },
    /// Prints `true` or `false`; the exit code of `false` is 1
    Exists {
        /// The key; any bytes
        #[arg(value_name = "KEY", allow_negative_numbers = true)]
        key: OsString,
    },
    /// Prints the keys that begin with a prefix, in no order
    Scan {
        /// What the keys begin with; without it, all keys
        #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true, allow_negative_numbers = true)]
        prefix: OsString,
        /// The most keys to print
        #[arg(long, value_name = "NUMBER", env = "KVS_SCAN_LIMIT")]
        limit: Option<u64>,
        /// Prints the values as well
        #[arg(long, env = "KVS_SCAN_VALUES", value_parser = BoolishValueParser::new())]
        values: bool,
    },
    /// Prints how many keys begin with a prefix
    Count {
        /// What the keys begin with; without it, all keys
        #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true, allow_negative_numbers = true)]
        prefix: OsString,
    },
    /// Does all changes at once or, after a crash, none: `batch set a 1 set b 2 rm c`
    Batch {
        /// `set KEY VALUE` and `rm KEY`, as many as you like, each VALUE as `set` takes it; without any, JSON lines such as {"set":{"key":"k","value":"v"}} and {"rm":{"key":"k"}} from standard input
        #[arg(value_name = "CHANGE", allow_negative_numbers = true)]
        changes: Vec<OsString>,
        /// Takes each VALUE as it is, also if it is `-` or begins with `@`
        #[arg(long, env = "KVS_BATCH_LITERAL", value_parser = BoolishValueParser::new())]
        literal: bool,
    },
    /// Says which server answers, how fast, and how it is
    Status {
        /// Shows every second what happens: requests, latencies, the pool, the log, compaction; Ctrl-C ends it
        #[arg(long, env = "KVS_STATUS_WATCH", value_parser = BoolishValueParser::new())]
        watch: bool,
        /// With --watch, the time between two looks
        #[arg(long, value_name = "SECONDS", default_value_t = 1, env = "KVS_STATUS_EVERY",
              value_parser = clap::value_parser!(u32).range(1..=3_600))]
        every: u32,
        /// With --watch, how many looks to take; without it, no end
        #[arg(long, value_name = "NUMBER", env = "KVS_STATUS_COUNT")]
        count: Option<u64>,
        /// Shows the server's slow log instead: the last requests that took long, and where the time of each went
        #[arg(long, env = "KVS_STATUS_SLOW", value_parser = BoolishValueParser::new(), conflicts_with = "watch")]
        slow: bool,
    },
}

impl DataCommand {
    /// Whether it takes something from standard input.
    pub(crate) fn reads_input(&self) -> bool {
        match self {
            Self::Set { value, literal, .. } => !literal && value == "-",
            Self::Batch { changes, literal } => changes.is_empty() || (!literal && has_input_value(changes)),
            Self::Get { .. } | Self::Rm { .. } | Self::Exists { .. } | Self::Scan { .. } | Self::Count { .. } => false,
            Self::Status { .. } => false,
        }
    }
}

/// Whether a batch takes a value from standard input.
fn has_input_value(changes: &[OsString]) -> bool {
    let mut words = changes.iter();
    while let Some(verb) = words.next() {
        let (_key, value) = (words.next(), (verb == "set").then(|| words.next()).flatten());
        if value.is_some_and(|value| value == "-") {
            return true;
        }
    }
    false
}

/// How entries stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON object a line
    Jsonl,
    /// A line `key,value,encoding`, then one entry a line; the encoding is empty for text, `base64` for other bytes
    Csv,
}

impl FileFormat {
    /// What the flag says, else what the file's name ends with, else JSON lines.
    pub(crate) fn of(flag: Option<Self>, file: Option<&std::path::Path>) -> Self {
        let is_csv =
            || file.and_then(std::path::Path::extension).is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        flag.unwrap_or_else(|| if is_csv() { Self::Csv } else { Self::Jsonl })
    }
}

/// What `import` takes.
#[derive(Debug, Args)]
pub(crate) struct ImportFlags {
    /// The file, or `-` for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How the entries stand in the file; default: csv if its name ends with .csv, else jsonl
    #[arg(long, value_name = "FORMAT", env = "KVS_IMPORT_FORMAT")]
    pub(crate) format: Option<FileFormat>,
    /// Notes in FILE.resume how far it came, and goes on from there if that file is found
    #[arg(long, env = "KVS_IMPORT_RESUME", value_parser = BoolishValueParser::new())]
    pub(crate) resume: bool,
}

/// What `export` takes.
#[derive(Debug, Args)]
pub(crate) struct ExportFlags {
    /// The file, which must not exist yet, or `-` for standard output
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// What the keys begin with; without it, all keys
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true, env = "KVS_EXPORT_PREFIX")]
    pub(crate) prefix: OsString,
    /// How to write the entries; default: csv if the name ends with .csv, else jsonl
    #[arg(long, value_name = "FORMAT", env = "KVS_EXPORT_FORMAT")]
    pub(crate) format: Option<FileFormat>,
    /// Notes in FILE.resume how far it came, and goes on from there if that file is found
    #[arg(long, env = "KVS_EXPORT_RESUME", value_parser = BoolishValueParser::new())]
    pub(crate) resume: bool,
}

/// What `backup` takes.
#[derive(Debug, Args)]
pub(crate) struct BackupFlags {
    /// The folder, which must not exist yet; its checksums go into FOLDER.sha256
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Makes the folders on the way to FOLDER that are missing
    #[arg(long, env = "KVS_BACKUP_PARENTS", value_parser = BoolishValueParser::new())]
    pub(crate) parents: bool,
    /// If FOLDER is a whole backup already, checks every byte and reports it instead of failing
    #[arg(long, env = "KVS_BACKUP_REUSE", value_parser = BoolishValueParser::new())]
    pub(crate) reuse: bool,
    /// When the new backup is whole, removes the older one of this name beside it; can be given several times
    #[arg(long, value_name = "NAME", env = "KVS_BACKUP_REMOVE", value_delimiter = ',')]
    pub(crate) remove: Vec<String>,
    /// A file that gets the result, or the error, as one JSON object
    #[arg(long, value_name = "FILE", env = "KVS_BACKUP_TERMINATION_LOG")]
    pub(crate) termination_log: Option<PathBuf>,
}

/// What `bench` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchFlags {
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = "KVS_BENCH_DURATION",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) duration: u64,
    /// How long to put load on before measuring
    #[arg(long, value_name = "SECONDS", default_value_t = 1, env = "KVS_BENCH_WARMUP",
          value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) warmup: u64,
    /// Open loop: so many requests a second whatever the answers do; latency counts from when a request was due
    #[arg(long, value_name = "PER_SECOND", env = "KVS_BENCH_RATE",
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Connections
    #[arg(long, value_name = "NUMBER", default_value_t = 8, env = "KVS_BENCH_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Closed loop: requests of one connection under way at once
    #[arg(long, value_name = "NUMBER", default_value_t = 1, env = "KVS_BENCH_PIPELINE",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) pipeline: u32,
    /// How many of a hundred requests read; the others set
    #[arg(long, value_name = "PERCENT", default_value_t = 50, env = "KVS_BENCH_READS",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// Different keys
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, env = "KVS_BENCH_KEYS",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 150, env = "KVS_BENCH_VALUE_BYTES",
          value_parser = clap::value_parser!(u32).range(0..=67_108_864))]
    pub(crate) value_bytes: u32,
    /// Leaves the keys `kvs-client/bench/..` in the store
    #[arg(long, env = "KVS_BENCH_KEEP", value_parser = BoolishValueParser::new())]
    pub(crate) keep: bool,
    /// The result as one JSON object; the same as `-o json`
    #[arg(long, env = "KVS_BENCH_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}
