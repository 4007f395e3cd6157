//! What a test asks of the machine for its own process: a core of its own, and enough descriptors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread, and what it starts, on the last of the cores that it may use: server and load must not take each
/// other's time. Does nothing where there is only one.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_to_last_core() -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(last) = cores.last().filter(|_| cores.len() > 1) else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(*last);
    Ok(sched_setaffinity(None, &only)?)
}

/// Allows this process, and what it starts, as many descriptors as the system lets it have.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
