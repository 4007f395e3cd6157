//! `ConnectionFlags`: whom to talk to, and how long to wait.
//!
//! What must hold: a flag wins over a variable, and a variable over the default; of `--addr` and `--store` one counts,
//! and a variable never fights a flag.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::address::Address;
use crate::error::Error;
use crate::security::Security;
use crate::session::Target;
use crate::store::{ClusterAccess, Store, StoreName};

/// Where a server listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:4000";

/// Whom to talk to, and how long to wait.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionFlags {
    /// Where the server listens, as IP:PORT or HOST:PORT [env: KVS_ADDR] [default: 127.0.0.1:4000]
    #[arg(long, global = true, value_name = "IP:PORT")]
    addr: Option<Address>,

    /// The KvsStore to talk to; its pod is reached through the Kubernetes API [env: KVS_STORE]
    #[arg(long, global = true, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,

    /// With --store and kubectl: the kubeconfig file; default: as kubectl [env: KVS_KUBECONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// With --store and kubectl: the context of the kubeconfig; default: its current one [env: KVS_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// How long to wait for an answer, all attempts together
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, env = "KVS_TIMEOUT",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    #[command(flatten)]
    security: Security,
}

impl ConnectionFlags {
    /// Whom to talk to: the flag, else the variable, else the default.
    pub(crate) fn target(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Target, Error> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let store = match (&self.addr, &self.store, variable("KVS_ADDR"), variable("KVS_STORE")) {
            // clap sees such a conflict only between flags on the same side of the command.
            (Some(_), Some(_), ..) => {
                return Err(Error::Usage("--addr and --store name two different servers; use one of them".into()));
            }
            (Some(address), None, ..) => return self.address(address.clone()),
            (None, Some(store), ..) => store.clone(),
            (None, None, Some(_), Some(_)) => {
                return Err(Error::Usage(
                    "KVS_ADDR and KVS_STORE are both set; unset one, or say --addr or --store".into(),
                ));
            }
            (None, None, Some(address), None) => return self.address(parse_variable("KVS_ADDR", &address)?),
            (None, None, None, Some(store)) => parse_variable("KVS_STORE", &store)?,
            (None, None, None, None) => {
                return self.address(DEFAULT_ADDRESS.parse().expect("the default is an address"));
            }
        };
        Ok(Target::Store(Box::new(Store::new(store, self.access(variable), self.security.clone()))))
    }

    /// Which cluster, for commands that talk to no server.
    pub(crate) fn cluster(&self, variable: impl Fn(&str) -> Option<String>) -> Result<ClusterAccess, Error> {
        if self.addr.is_some() || self.store.is_some() {
            let advice = "here a store is named by NAME and --namespace; --addr and --store go with other commands";
            return Err(Error::Usage(advice.into()));
        }
        Ok(self.access(|name| variable(name).filter(|value| !value.is_empty())))
    }

    fn access(&self, variable: impl Fn(&str) -> Option<String>) -> ClusterAccess {
        ClusterAccess {
            kubeconfig: self.kubeconfig.clone().or_else(|| variable("KVS_KUBECONFIG").map(PathBuf::from)),
            context: self.context.clone().or_else(|| variable("KVS_CONTEXT")),
        }
    }

    fn address(&self, address: Address) -> Result<Target, Error> {
        if self.kubeconfig.is_some() || self.context.is_some() {
            return Err(Error::Usage("--kubeconfig and --context go with --store NAMESPACE/NAME only".into()));
        }
        Ok(Target::Address { address, options: Box::new(self.security.options()?) })
    }

    /// The time for one call.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn parse_variable<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|error| Error::Usage(format!("invalid value '{value}' in {name}: {error}")))
}
