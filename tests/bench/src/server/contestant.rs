//! Who takes part, and the programs that it takes.

use std::path::PathBuf;
use std::process::Command;

use kvs_bench::Result;
use kvs_bench::row::OURS;
use kvs_load::Wire;

/// A server by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// The server of this repository, with its defaults: every write durable.
    Ours,
    /// Redis, `appendfsync always`.
    Redis,
    /// Redis, `appendfsync everysec`: up to a second of acknowledged writes goes with the power.
    RedisEverysec,
    /// Valkey, `appendfsync always`.
    Valkey,
}

impl Contestant {
    pub const ALL: [Self; 4] = [Self::Ours, Self::Redis, Self::RedisEverysec, Self::Valkey];
    /// Those whose acknowledged writes survive the loss of power.
    pub const DURABLE: [Self; 3] = [Self::Ours, Self::Redis, Self::Valkey];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::Redis => "redis",
            Self::RedisEverysec => "redis-everysec",
            Self::Valkey => "valkey",
        }
    }

    pub fn of(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contestant| contestant.as_str() == name);
        found.ok_or_else(|| format!("there is no server {name}").into())
    }

    /// What it is asked in to see whether it answers.
    pub const fn ping(self) -> (Wire, &'static [u8]) {
        match self {
            Self::Ours => (Wire::JsonLines, b"{\"ping\":{}}\n"),
            Self::Redis | Self::RedisEverysec | Self::Valkey => (Wire::Resp, b"*1\r\n$4\r\nPING\r\n"),
        }
    }
}

/// The programs.
#[derive(Debug, Clone, clap::Args)]
pub struct Programs {
    /// Our server
    #[arg(long, default_value = "target/release/kvs-server")]
    pub server: PathBuf,
    /// Redis' server
    #[arg(long, default_value = "redis-server")]
    pub redis: PathBuf,
    /// Redis' load generator
    #[arg(long, default_value = "redis-benchmark")]
    pub redis_benchmark: PathBuf,
    /// Valkey's server
    #[arg(long, default_value = "valkey-server")]
    pub valkey: PathBuf,
}

impl Programs {
    pub fn of(&self, contestant: Contestant) -> &PathBuf {
        match contestant {
            Contestant::Ours => &self.server,
            Contestant::Redis | Contestant::RedisEverysec => &self.redis,
            Contestant::Valkey => &self.valkey,
        }
    }

    /// What each program says of itself.
    pub fn versions(&self) -> String {
        let version = |program: &PathBuf| match Command::new(program).arg("--version").output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            Err(error) => format!("{}: {error}", program.display()),
        };
        [&self.server, &self.redis, &self.valkey, &self.redis_benchmark].map(version).join("\n")
    }
}
