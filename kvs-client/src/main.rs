//! `kvs-client`: see the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    kvs_client::run(std::env::args_os())
}
