//! redis-benchmark, run on the core of the load, and what it says.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use kvs_bench::Result;
use kvs_load::keys::VALUE_BYTES;

/// One way to run it.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// `set` or `get`.
    pub test: &'static str,
    pub clients: u64,
    /// Requests that a client sends at once.
    pub pipeline: u64,
}

/// What it measured.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub requests: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Runs so many requests on random ones of the first keys.
pub fn run(program: &Path, addr: SocketAddr, shape: Shape, keys: u64, requests: u64) -> Result<Answer> {
    let Shape { test, clients, pipeline } = shape;
    let numbers = [("-c", clients), ("-P", pipeline), ("-n", requests), ("-r", keys), ("-d", VALUE_BYTES as u64)];
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &addr.port().to_string(), "-t", test, "--csv"]);
    for (flag, number) in numbers {
        command.arg(flag).arg(number.to_string());
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("\"{test}\"")));
    let numbers: Option<Vec<f64>> =
        line.map(|line| line.split(',').skip(1).filter_map(|field| field.trim_matches('"').parse().ok()).collect());
    match numbers.as_deref() {
        Some(&[per_second, _, _, p50_ms, _, p99_ms, ..]) if output.status.success() => {
            Ok(Answer { requests, per_second, p50_us: p50_ms * 1e3, p99_us: p99_ms * 1e3 })
        }
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("redis-benchmark -t {test}: {}: {text} {errors}", output.status).into())
        }
    }
}

/// A short run that tells the rate, and warms up.
pub fn rate(program: &Path, addr: SocketAddr, shape: Shape, keys: u64) -> Result<f64> {
    Ok(run(program, addr, shape, keys, few(shape))?.per_second)
}

/// Runs for about so many seconds at about such a rate.
pub fn run_for(program: &Path, addr: SocketAddr, shape: Shape, keys: u64, seconds: f64, rate: f64) -> Result<Answer> {
    run(program, addr, shape, keys, ((rate * seconds) as u64).max(few(shape)))
}

/// The requests of a short run: some for each client.
fn few(shape: Shape) -> u64 {
    (shape.clients * shape.pipeline * 100).max(1_000)
}
