//! bin `kvs-monitoring`: writes what is made of the catalogues, the rules and the dashboards.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kvs_monitoring::prometheus::Api;
use kvs_monitoring::{dashboards, generated, lint, picture, rules};

/// Metrics, alert rules and dashboards of Aryavarth KVS.
#[derive(Debug, Parser)]
#[command(name = "kvs-monitoring", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes every generated file into a folder, under its path in the repository, if nothing is wrong with their sources
    Generate {
        /// The folder
        folder: PathBuf,
    },
    /// Prints the rules with every time divided by a number
    Rules {
        /// The number
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
        scale: u32,
    },
    /// Draws the dashboards with the data of a Prometheus
    Pictures {
        /// Where it answers, such as 127.0.0.1:9090
        #[arg(long)]
        prometheus: std::net::SocketAddr,
        /// How far back, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// The folder for the pictures
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the exit code says enough.
            let _ = writeln!(io::stderr(), "kvs-monitoring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Generate { folder } => {
            let problems = lint::problems();
            if !problems.is_empty() {
                return Err(io::Error::other(format!("nothing was written:\n  {}", problems.join("\n  "))));
            }
            for (path, text) in generated::files() {
                write(&folder.join(path), &text)?;
            }
        }
        Command::Rules { scale } => io::stdout().lock().write_all(rules::rule_file(scale).as_bytes())?,
        Command::Pictures { prometheus, seconds, folder } => {
            let api = Api::new(prometheus);
            for dashboard in dashboards::ALL {
                let picture = picture::draw(dashboard, &api, seconds).map_err(io::Error::other)?;
                write(&folder.join(format!("{}.svg", dashboard.name)), &picture)?;
            }
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}
