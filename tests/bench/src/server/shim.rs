//! The library that makes every `fdatasync` of a server slower, as a network disk would; disclosed wherever it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kvs_bench::Result;
use kvs_load::{Group, Load};

use crate::running::Running;

/// Compiled when it is needed.
const SOURCE: &str = include_str!("shim.c");
/// What it adds, in microseconds. The source has the same number.
pub const DELAY_US: f64 = 5_000.0;

/// Compiles it into a folder.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("shim.c"), folder.join("slow-fdatasync.so"));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output()?;
    if !output.status.success() {
        return Err(format!("cc can't compile the shim: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(library)
}

/// Fails if a server syncs without the delay: one that is linked statically does not load the library.
pub fn check(server: &Running) -> Result<()> {
    let time = std::time::Duration::from_millis(500);
    let outcome = Load::new(server.addr, server.wire(), time, vec![Group::sets(1, 1, 1_000)]).run()?.remove(0);
    let median_us = outcome.latency_us(0.5);
    if median_us < DELAY_US {
        return Err(format!("a durable set takes {median_us:.0} us in spite of the shim: it is not in effect").into());
    }
    Ok(())
}
