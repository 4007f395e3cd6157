//! The command line: `kvs-operator run | crd | selftest`.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use kvs_protocol::config::ADMIN_PORT;

use crate::names;

/// The server image that belongs to this version of the operator.
pub const DEFAULT_SERVER_IMAGE: &str = concat!("localhost/aryavarth/kvs-server:", env!("CARGO_PKG_VERSION"));

/// The Kubernetes operator of Aryavarth KVS.
#[derive(Debug, Parser)]
#[command(name = "kvs-operator", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile KvsStores until SIGTERM.
    Run(RunArguments),
    /// Print the definitions of KvsStore, KvsBackup and KvsBackupSchedule as YAML.
    Crd,
    /// Print the schema of chart kvs-store's values, which is made from the definition.
    #[command(hide = true)]
    StoreValuesSchema,
    /// Make a store, wait until it is Ready, delete it with its data.
    Selftest(SelftestArguments),
}

/// `kvs-operator run`.
#[derive(Debug, clap::Args)]
pub struct RunArguments {
    /// Image of stores that name none.
    #[arg(long, env = "KVS_SERVER_IMAGE", default_value = DEFAULT_SERVER_IMAGE)]
    pub server_image: String,
    /// The one namespace to serve; without it, all of them.
    #[arg(long, env = "KVS_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "KVS_ADMIN_ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], ADMIN_PORT)), value_name = "IP:PORT")]
    pub admin_addr: SocketAddr,
    /// Reconciles at a time, 1 to 256.
    #[arg(long, env = "KVS_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// The Lease whose holder works, while every other operator of the same stores stands by.
    #[arg(long, env = "KVS_LEASE_NAME", default_value = names::OPERATOR, value_name = "NAME")]
    pub lease_name: String,
    /// The Lease's namespace; without it, that of the pod or of the kubeconfig.
    #[arg(long, env = "KVS_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// The name of the operator's pod: the sender of events, and a part of who holds the Lease.
    #[arg(long, env = "POD_NAME", hide = true)]
    pub pod_name: Option<String>,
    /// The uid of the operator's pod.
    #[arg(long, env = "POD_UID", hide = true)]
    pub pod_uid: Option<String>,
}

/// `kvs-operator selftest`.
#[derive(Debug, clap::Args)]
pub struct SelftestArguments {
    /// Where to make the store; without it, the namespace of the kubeconfig or of the pod.
    #[arg(long)]
    pub namespace: Option<String>,
    /// The longest wait for Ready, in seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout_seconds: u64,
    /// Size of the volume.
    #[arg(long, default_value = "64Mi")]
    pub storage_size: String,
    /// Class of the volume; without it, the cluster's default.
    #[arg(long)]
    pub storage_class: Option<String>,
}
