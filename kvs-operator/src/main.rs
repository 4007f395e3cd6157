//! The operator's program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use kvs_operator::{cli::Cli, program};

/// Two threads: the operator waits for the API server nearly all the time, and each thread costs memory.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // First of all, because rustls panics when it must choose between two providers by itself.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        unreachable!("nothing installed a provider before main");
    }
    match program::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvs-operator: {error}");
            ExitCode::FAILURE
        }
    }
}
