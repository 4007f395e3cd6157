//! `kubectl kvs`: looks after the KvsStores of a cluster through its API server. The same as `kvs-client kubectl`.
//!
//! What must hold: it works with the rights of whoever calls it and asks for no more of them than the command at hand
//! needs; what is refused is said with the right that is missing; a Secret's value gets into no output.

mod backup;
mod change;
mod cluster;
mod collect;
mod doctor;
mod error;
mod logs;
mod repair;
mod report;
mod restore;
mod status;

use std::time::Duration;

use crate::arguments::KubectlCommand;
use crate::error::Error;
use crate::output::Output;
use crate::store::ClusterAccess;

use cluster::Cluster;
pub(crate) use error::KubectlError;

/// Runs one command to its end.
pub(crate) async fn run(
    command: KubectlCommand,
    access: &ClusterAccess,
    timeout: Duration,
    output: Output,
) -> Result<(), Error> {
    match command {
        KubectlCommand::Status { store } => {
            let cluster = Cluster::connect(access, store.place, timeout).await?;
            status::run(&cluster, &store.name, output).await
        }
        KubectlCommand::Doctor { store } => {
            let cluster = Cluster::connect(access, store.place, timeout).await?;
            doctor::run(&cluster, &store.name, output).await
        }
        KubectlCommand::Logs(flags) => {
            let cluster = Cluster::connect(access, flags.store.place.clone(), timeout).await?;
            logs::run(&cluster, &flags).await
        }
        KubectlCommand::Report(flags) => {
            let cluster = Cluster::connect(access, flags.store.place.clone(), timeout).await?;
            report::run(&cluster, &flags, output).await
        }
        KubectlCommand::Backup(flags) => {
            let cluster = Cluster::connect(access, flags.store.place.clone(), timeout).await?;
            backup::run(&cluster, &flags, output).await
        }
        KubectlCommand::Restore(flags) => {
            let cluster = Cluster::connect(access, flags.store.place.clone(), timeout).await?;
            restore::run(&cluster, &flags, output).await
        }
        KubectlCommand::Repair(flags) => {
            let cluster = Cluster::connect(access, flags.store.place.clone(), timeout).await?;
            repair::run(&cluster, &flags, output).await
        }
        KubectlCommand::Hibernate(flags) => change(&change::HIBERNATE, access, flags, timeout, output).await,
        KubectlCommand::Resume(flags) => change(&change::RESUME, access, flags, timeout, output).await,
        KubectlCommand::Pause(flags) => change(&change::PAUSE, access, flags, timeout, output).await,
        KubectlCommand::Unpause(flags) => change(&change::UNPAUSE, access, flags, timeout, output).await,
    }
}

async fn change(
    change: &change::Change,
    access: &ClusterAccess,
    flags: crate::arguments::ChangeFlags,
    timeout: Duration,
    output: Output,
) -> Result<(), Error> {
    let cluster = Cluster::connect(access, flags.store.place, timeout).await?;
    change.carry_out(&cluster, &flags.store.name, flags.wait.limit(), output).await
}
