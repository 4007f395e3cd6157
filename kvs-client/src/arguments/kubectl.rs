//! `KubectlCommand`: what `kubectl kvs` can be asked for, with the flags of each.
//!
//! What must hold: what follows after the plugin's name is the same as after `kvs-client kubectl`; every flag has a
//! variable beside it.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use super::connection::ConnectionFlags;
use super::{Arguments, Command};
use crate::error::EXIT_CODES;
use crate::output::Format;

/// The command line of the plugin, `kubectl kvs ...`.
#[derive(Debug, Parser)]
#[command(name = "kubectl-kvs", bin_name = "kubectl kvs", version, propagate_version = true)]
#[command(about = "Looks after KvsStores", after_long_help = EXIT_CODES)]
#[command(mut_args(|argument| if BELONGS_TO_CONNECTIONS.contains(&argument.get_id().as_str()) { argument.hide(true) } else { argument }))]
pub(super) struct PluginArguments {
    #[command(flatten)]
    connection: ConnectionFlags,
    /// How to print answers
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "text", env = "KVS_OUTPUT")]
    #[arg(help_heading = "Output")]
    output: Format,
    #[command(subcommand)]
    command: KubectlCommand,
}

/// Flags of connections into a store; here they would only be in the way.
const BELONGS_TO_CONNECTIONS: [&str; 7] =
    ["addr", "store", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file"];

impl From<PluginArguments> for Arguments {
    fn from(arguments: PluginArguments) -> Self {
        let PluginArguments { connection, output, command } = arguments;
        Self { connection, output, command: Command::Kubectl { command } }
    }
}

/// What to do with a store of a cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum KubectlCommand {
    /// Says how a store is, and what to do next
    Status {
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Names the cause when something is wrong with a store, and what to type next
    Doctor {
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Prints the logs of a store's servers, those of the run before too
    Logs(LogsFlags),
    /// Collects what a maintainer needs to know into a folder, without any Secret's value
    Report(ReportFlags),
    /// Stops a store and keeps its data
    Hibernate(ChangeFlags),
    /// Starts a hibernated store on its data
    Resume(ChangeFlags),
    /// Keeps the operator from changing anything of a store
    Pause(ChangeFlags),
    /// Lets the operator look after a store again
    Unpause(ChangeFlags),
    /// Makes a backup of a store onto a volume of its namespace
    Backup(BackupsFlags),
    /// Makes a new store that begins with a backup
    Restore(RestoreFlags),
    /// Says what of a hibernated store's damaged data can be saved; with --yes, saves it
    Repair(RepairFlags),
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreFlags {
    /// The store's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
}

/// Which namespace.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceFlags {
    /// The namespace; default: that of the kubeconfig's context
    #[arg(long, short, value_name = "NAME", env = "KVS_NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Whether to wait for what was asked for, and how long.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WaitFlags {
    /// Ends when it is asked for, not when it is done
    #[arg(long, env = "KVS_KUBECTL_NO_WAIT", value_parser = BoolishValueParser::new())]
    no_wait: bool,
    /// The longest wait until it is done
    #[arg(long, value_name = "SECONDS", default_value_t = 300, env = "KVS_KUBECTL_WAIT",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
}

impl WaitFlags {
    /// The longest wait; `None` for none.
    pub(crate) fn limit(self) -> Option<Duration> {
        (!self.no_wait).then(|| Duration::from_secs(self.wait))
    }
}

/// What `hibernate`, `resume`, `pause` and `unpause` take.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    #[command(flatten)]
    pub(crate) wait: WaitFlags,
}

/// What `logs` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogsFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    /// The most lines of each run of each server, counted from its end
    #[arg(long, value_name = "LINES", default_value_t = 1_000, env = "KVS_LOGS_TAIL",
          value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub(crate) tail: i64,
    /// Only the run before the present one
    #[arg(long, short, env = "KVS_LOGS_PREVIOUS", value_parser = BoolishValueParser::new())]
    pub(crate) previous: bool,
}

/// What `report` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    /// The folder, which must not exist yet; default: NAME-report
    #[arg(long, value_name = "FOLDER", env = "KVS_REPORT_TO")]
    pub(crate) to: Option<PathBuf>,
}

/// What `backup` takes; that of `kvs-client backup` is another one.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupsFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    /// The volume claim that gets the backup; it must exist
    #[arg(long, value_name = "CLAIM", env = "KVS_KUBECTL_BACKUP_CLAIM")]
    pub(crate) claim: String,
    /// The folder of the volume that gets a folder for each backup; default: the store's name
    #[arg(long, value_name = "FOLDER", env = "KVS_KUBECTL_BACKUP_PATH")]
    pub(crate) path: Option<String>,
    /// What the KvsBackup is called; default: the store's name and the time
    #[arg(long = "name", value_name = "NAME", env = "KVS_KUBECTL_BACKUP_NAME")]
    pub(crate) backup: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitFlags,
}

/// What `restore` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    /// The KvsBackup, of the same namespace
    #[arg(long, value_name = "BACKUP", env = "KVS_RESTORE_FROM")]
    pub(crate) from: String,
    /// The store whose spec the new one gets; default: the one that was backed up
    #[arg(long, value_name = "STORE", env = "KVS_RESTORE_LIKE")]
    pub(crate) like: Option<String>,
    #[command(flatten)]
    pub(crate) wait: WaitFlags,
}

/// What `repair` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepairFlags {
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    /// Puts what can be saved in the place of the damaged data, which is kept beside it
    #[arg(long, env = "KVS_REPAIR_YES", value_parser = BoolishValueParser::new())]
    pub(crate) yes: bool,
    /// The longest wait for each of the two Jobs
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, env = "KVS_REPAIR_WAIT",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) wait: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_plugins_command_line_is_consistent_and_hides_what_it_has_no_use_for() {
        PluginArguments::command().debug_assert();
        let help = PluginArguments::command().render_long_help().to_string();
        assert!(help.contains("Usage: kubectl kvs") && help.contains("--kubeconfig"), "{help}");
        assert!(!help.contains("--addr") && !help.contains("--token-file"), "{help}");
    }
}
