//! What each subcommand does, from the parsed arguments to the exit code.
//!
//! What must hold: a mistake of the person who called ends in one clear line on stderr and exit code 1; SIGTERM ends
//! `run` within `SHUTDOWN_LIMIT` with exit code 0, after the Lease was given back; a lost Lease ends it with exit code 1
//! at once, because a process that starts anew knows nothing that is old.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderValue, USER_AGENT};
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, RunArguments, SelftestArguments};
use crate::controller;
use crate::health::{self, Health};
use crate::leader::gate::{GateLayer, Permit};
use crate::leader::{self, Candidate};
use crate::metrics::Metrics;
use crate::resource::{definitions_yaml, store_values_schema};
use crate::selftest;
use crate::validate::Settings;

/// From SIGTERM to the end, whatever is under way. A reconcile that is cut off is done again by the next operator.
///
/// Short, because nobody works meanwhile: with the second that another one takes to see the Lease free, stores are without
/// an operator for at most 2 s or so.
const SHUTDOWN_LIMIT: Duration = Duration::from_millis(1500);
/// To reach the API server at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to talk to. The caller must give one.
    #[error("no cluster to talk to: {0}; set KUBECONFIG, or run it in a pod with a service account")]
    NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The admin port can't be opened. The caller must choose another.
    #[error("can't listen on {address}: {source}; choose another --admin-addr")]
    AdminPort {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process may lead now. Nobody must act: this one is started again and stands by.
    #[error("the Lease {lease} was not confirmed in time, or taken; another operator may lead now")]
    LeaseLost {
        /// Its namespace and name.
        lease: String,
    },
    /// The self-test failed.
    #[error("selftest: {0}")]
    Selftest(#[from] selftest::Error),
    /// The standard output is closed.
    #[error("can't write to the standard output: {0}")]
    Output(#[source] std::io::Error),
    /// The operating system denied something that a start needs.
    #[error("{0}")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Does what the command line says.
///
/// # Errors
/// One line for the person who called.
pub async fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Crd => print(&definitions_yaml()),
        Command::StoreValuesSchema => print(&store_values_schema()),
        Command::Run(arguments) => run_operator(arguments).await,
        Command::Selftest(arguments) => run_selftest(arguments).await,
    }
}

async fn run_operator(arguments: RunArguments) -> Result<(), Error> {
    let RunArguments {
        server_image,
        watch_namespace,
        admin_addr,
        concurrency,
        lease_name,
        lease_namespace,
        pod_name,
        pod_uid,
    } = arguments;
    start_log();
    // An empty variable is how a chart says "none".
    let watch_namespace = watch_namespace.filter(|namespace| !namespace.is_empty());
    let permit = Arc::new(Permit::default());
    // The Lease's own writes are what a permit comes from, so they pass no gate.
    let (free_client, client) = (client().await?, gated_client(&permit).await?);
    let metrics = Arc::new(Metrics::new().map_err(|error| Error::Start(error.into()))?);
    let health = Arc::new(Health::default());
    let admin_port = |source| Error::AdminPort { address: admin_addr, source };
    let listener = health::bind(admin_addr).await.map_err(admin_port)?;
    let admin_addr = listener.local_addr().map_err(admin_port)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %admin_addr,
        server_image,
        namespace = watch_namespace.as_deref().unwrap_or("(all)"),
        "kvs-operator starts"
    );
    let admin = tokio::spawn(health::serve(listener, Arc::clone(&health), Arc::clone(&metrics)));
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Error::Start(error.into()))?;
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping; reconciles under way finish first");
        // The controller may have ended already.
        let _ = stopping.send(true);
    });
    let lease = leader::Options {
        namespace: lease_namespace
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| free_client.default_namespace().to_owned()),
        name: lease_name,
        identity: leader::identity(pod_name.as_deref(), pod_uid.as_deref()),
    };
    let lease_lost = Error::LeaseLost { lease: format!("{}/{}", lease.namespace, lease.name) };
    let mut candidate = Candidate::new(free_client, lease, permit, Arc::clone(&metrics));
    // It fills its caches while another one leads, so that it can go on at once.
    let (leads, is_leading) = tokio::sync::watch::channel(false);
    let options = controller::Options { watch_namespace, concurrency, settings: Settings { server_image }, pod_name };
    let mut controller = pin!(controller::run(client, options, metrics, health, is_leading, stop(stopped.clone())));
    let result = tokio::select! {
        // First of all: the controller ends by the same signal.
        biased;
        () = stop(stopped.clone()) => {
            candidate.release().await;
            Ok(())
        }
        () = &mut controller => {
            candidate.release().await;
            Ok(())
        }
        () = candidate.lead() => {
            leads.send_replace(true);
            let mut term = candidate.begin();
            tokio::select! {
                () = &mut controller => {
                    term.release().await;
                    Ok(())
                }
                () = async { stop(stopped).await; tokio::time::sleep(SHUTDOWN_LIMIT).await } => {
                    tracing::warn!("a reconcile did not finish in time; the next operator does it again");
                    term.release().await;
                    Ok(())
                }
                () = term.lost() => Err(lease_lost),
            }
        }
    };
    signals.abort();
    admin.abort();
    tracing::info!("stopped");
    result
}

/// Waits for the signal to end.
async fn stop(mut stopped: tokio::sync::watch::Receiver<bool>) {
    // An error means that the sender is gone, which is as good as a signal.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn run_selftest(arguments: SelftestArguments) -> Result<(), Error> {
    let SelftestArguments { namespace, timeout_seconds, storage_size, storage_class } = arguments;
    let client = client().await?;
    let options = selftest::Options {
        namespace: namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
        limit: Duration::from_secs(timeout_seconds),
        storage_size,
        storage_class: storage_class.filter(|class| !class.is_empty()),
    };
    selftest::run(client, &options, |line| {
        // The log of a test pod is read after the test; a line that is lost there changes nothing.
        let _ = print(&format!("{line}\n"));
    })
    .await?;
    Ok(())
}

/// A client from KUBECONFIG, or from the pod's service account.
async fn client() -> Result<Client, Error> {
    Client::try_from(configuration().await?).map_err(|error| Error::NoCluster(error.into()))
}

/// The same, for writes that only the leader may make.
async fn gated_client(permit: &Arc<Permit>) -> Result<Client, Error> {
    let builder = ClientBuilder::try_from(configuration().await?).map_err(|error| Error::NoCluster(error.into()))?;
    Ok(builder.with_layer(&GateLayer(Arc::clone(permit))).build())
}

/// Where the cluster is, and how it is talked to.
async fn configuration() -> Result<Config, Error> {
    let mut config = Config::infer().await.map_err(|error| Error::NoCluster(error.into()))?;
    // kube would repeat a failed call for up to 1,000 s inside one reconcile; the back-off per store does it better.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    // So that an audit log tells the operator's calls from anyone else's.
    let agent = HeaderValue::from_static(concat!("kvs-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Ok(config)
}

/// Logs to stderr: for people on a terminal, as JSON elsewhere. RUST_LOG chooses what is written.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(Error::Output)
}
