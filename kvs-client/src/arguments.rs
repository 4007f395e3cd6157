//! The command line: what was asked, and of whom.
//!
//! What must hold: a wrong command line is one line on standard error and exit code 2, before anything is connected.
//! A flag wins over a variable, and a variable over the default.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::address::Address;
use crate::error::{EXIT_CODES, Error};
use crate::session::Target;
use crate::store::{ClusterAccess, Store, StoreName};

/// Where a server listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:4000";

/// Talks to an Aryavarth KVS server.
#[derive(Debug, Parser)]
#[command(name = "kvs-client", version, propagate_version = true, after_long_help = EXIT_CODES)]
#[command(about = "Talks to an Aryavarth KVS server, or to a KvsStore in Kubernetes")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Stores a value under a key; prints nothing
    Set {
        /// The key; any bytes
        #[arg(value_name = "KEY", allow_negative_numbers = true)]
        key: OsString,
        /// The value; any bytes
        #[arg(value_name = "VALUE", allow_negative_numbers = true)]
        value: OsString,
    },
    /// Prints the value of a key, or `Key not found`
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
    /// Sets, reads, compares and removes a key of its own, and says in one line how it went
    Check,
    /// Stores JSON lines such as {"key":"k","value":"v"}; key64 and value64 take base64
    Import {
        /// The file, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Whom to talk to, and how long to wait.
#[derive(Debug, Args)]
pub(crate) struct ConnectionFlags {
    /// Where the server listens, as IP:PORT or HOST:PORT [env: KVS_ADDR] [default: 127.0.0.1:4000]
    #[arg(long, global = true, value_name = "IP:PORT")]
    addr: Option<Address>,

    /// The KvsStore to talk to; its pod is reached through the Kubernetes API [env: KVS_STORE]
    #[arg(long, global = true, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,

    /// With --store: the kubeconfig file; default: as kubectl
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// With --store: the context of the kubeconfig; default: its current one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// How long to wait for an answer, all attempts together
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Arguments {
    /// Reads the command line. `None` when it asked for help or the version, which are printed by now.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, Error> {
        match Self::try_parse_from(arguments) {
            Ok(arguments) => Ok(Some(arguments)),
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                error.print().map_err(Error::Output)?;
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Error::Usage("name a command, such as set, get, rm, check or import (--help says more)".into()))
            }
            Err(error) => Err(Error::Usage(one_line(&error.render().to_string()))),
        }
    }
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
        let access = ClusterAccess { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() };
        Ok(Target::Store(Box::new(Store::new(store, access))))
    }

    fn address(&self, address: Address) -> Result<Target, Error> {
        if self.kubeconfig.is_some() || self.context.is_some() {
            return Err(Error::Usage("--kubeconfig and --context go with --store NAMESPACE/NAME only".into()));
        }
        Ok(Target::Address(address))
    }

    /// The time for one call.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn parse_variable<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|error| Error::Usage(format!("invalid value '{value}' in {name}: {error}")))
}

/// clap's error in one line: its paragraphs joined, without the last one, which points to the help that we name shorter.
fn one_line(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let kept: Vec<String> = paragraphs
        .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("For more information"))
        .map(|paragraph| match paragraph.strip_prefix("Usage: ") {
            Some(usage) => format!("usage: {usage}"),
            None => paragraph,
        })
        .collect();
    format!("{} (--help says more)", kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Arguments>, Error> {
        Arguments::parse(std::iter::once("kvs-client").chain(line.split_whitespace()).map(OsString::from))
    }

    fn target(line: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let arguments = parse(line).map_err(|error| error.to_string())?.expect("not a request for help");
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match arguments.connection.target(variable).map_err(|error| error.to_string())? {
            Target::Address(address) => Ok(address.to_string()),
            Target::Store(store) => Ok(format!("store {}", store.name())),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_default() {
        let both = [("KVS_ADDR", "10.0.0.1:1"), ("KVS_STORE", "shop/orders")];
        assert_eq!(target("get k", &[]).unwrap(), "127.0.0.1:4000");
        assert_eq!(target("get k", &[("KVS_ADDR", "")]).unwrap(), "127.0.0.1:4000");
        assert_eq!(target("get k", &both[..1]).unwrap(), "10.0.0.1:1");
        assert_eq!(target("get k", &both[1..]).unwrap(), "store shop/orders");
        assert_eq!(target("get k --addr localhost:5", &both).unwrap(), "localhost:5");
        assert_eq!(target("--store a/b get k", &both).unwrap(), "store a/b");
        assert!(target("get k", &both).unwrap_err().contains("both set"));
    }

    #[test]
    fn flags_that_fight_are_refused() {
        for line in ["get k --addr localhost:5 --store a/b", "--addr localhost:5 get k --store a/b"] {
            assert!(target(line, &[]).unwrap_err().contains("two different servers"), "{line}");
        }
        assert!(target("get k --context c", &[]).unwrap_err().contains("go with --store"));
        assert!(target("get k", &[("KVS_ADDR", "nonsense")]).unwrap_err().contains("in KVS_ADDR: want IP:PORT"));
        assert!(
            target("get k", &[("KVS_STORE", "nonsense")]).unwrap_err().contains("in KVS_STORE: want NAMESPACE/NAME")
        );
    }

    #[test]
    fn no_command_at_all_is_answered_shortly() {
        let error = parse("").expect_err("there is nothing to do").to_string();
        assert!(error.contains("name a command") && !error.contains("Usage"), "{error}");
    }

    #[test]
    fn every_mistake_is_one_line() {
        let mistakes = [
            "",
            "set",
            "set key",
            "set key value more",
            "get",
            "get a b",
            "rm",
            "nonsense",
            "get key --nonsense",
            "get key --addr nonsense",
            "get key --addr",
            "get key --timeout 0",
            "import",
            "get key --store nonsense",
        ];
        for line in mistakes {
            let error = parse(line).expect_err(line).to_string();
            assert!(!error.contains('\n') && !error.starts_with("error") && error.len() > 20, "{line}: {error}");
        }
        assert_eq!(
            parse("get").unwrap_err().to_string(),
            "the following required arguments were not provided: <KEY>; usage: kvs-client get <KEY> (--help says more)"
        );
    }

    #[test]
    fn numbers_below_zero_are_keys_and_values() {
        let Command::Set { key, value } = parse("set -1 -2.5").unwrap().unwrap().command else { panic!("a set") };
        assert_eq!((key.to_str(), value.to_str()), (Some("-1"), Some("-2.5")));
    }
}
