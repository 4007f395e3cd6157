//! Measures the server beside Redis and Valkey: same machine, same run, interleaved rounds; the server on one core, the
//! load on another. docs/benchmarks.md says what each figure means.

mod ask;
mod chart;
mod contestant;
mod figure;
mod figures;
mod redis_benchmark;
mod running;
mod shim;
mod strategies_report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use kvs_bench::scale::Scale;
use kvs_bench::{Result, machine, report};

use contestant::Programs;
use figure::{Bench, Figure};

#[derive(Parser)]
#[command(about = "Measures kvs-server beside Redis and Valkey")]
struct Arguments {
    #[command(flatten)]
    programs: Programs,
    /// Only these figures
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers beside ours
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Rounds of every figure, instead of its own number
    #[arg(long)]
    rounds: Option<usize>,
    /// A twentieth of the counts and one round: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Where results and, while it runs, data go
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Write the tables into the generated part of this document, and the chart beside it
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Measure nothing; show the results of the last run
    #[arg(long)]
    show: bool,
    /// The names of all figures
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvs-bench-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut figures = figures::all();
    if arguments.list {
        figures.iter().for_each(|figure| println!("{}", figure.name()));
        return Ok(());
    }
    let known = |name: &String| figures.iter().any(|figure| figure.name() == *name);
    if let Some(unknown) = arguments.only.iter().find(|name| !known(name)) {
        return Err(format!("there is no figure {unknown}; --list names them").into());
    }
    figures.retain(|figure| arguments.only.is_empty() || arguments.only.contains(&figure.name()));
    let results = arguments.folder.join("server.jsonl");
    let failures = if arguments.show { Vec::new() } else { measure(arguments, &figures, &results)? };
    let rows = report::read(&results)?;
    let (strategies, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(strategies_report::is_of_strategies);
    println!("{}\n{}", report::table(&others), strategies_report::table(&strategies));
    println!("results: {}", results.display());
    if let Some(document) = &arguments.document {
        write_document(document, &report::table(&others), &strategies)?;
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("not all was measured:\n{}", failures.join("\n")).into()) }
}

fn write_document(document: &Path, table: &str, strategies: &[kvs_bench::row::RowResult]) -> Result<()> {
    const CHART: &str = "strategies.svg";
    let mut text = format!("{}\n\n{table}", machine::description());
    if !strategies.is_empty() {
        fs::write(document.with_file_name(CHART), chart::draw(strategies))?;
        text.push_str(&format!(
            "\nOperations per second by pool strategy:\n\n{}\n![each strategy as a share of the best one]({CHART})\n",
            strategies_report::table(strategies)
        ));
    }
    report::document(document, "make bench-server", &text)?;
    println!("written into {}", document.display());
    Ok(())
}

fn measure(arguments: &Arguments, figures: &[Box<dyn Figure>], results: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(&arguments.folder)?;
    let all_rounds = arguments.folder.join("server-rounds.jsonl");
    for old in [results, &all_rounds] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let scale = Scale::new(arguments.quick, arguments.rounds);
    let mut bench = Bench::new(&arguments.folder.join("server-data"), scale, arguments.programs.clone())?;
    println!("{}", machine::description());
    println!("{}", bench.programs.versions());
    let (mut failures, mut times) = (Vec::new(), Vec::new());
    for figure in figures {
        let start = Instant::now();
        let measured = figure::run(figure.as_ref(), &mut bench, &arguments.peers);
        let rows: Vec<_> = figure.rows().iter().filter_map(|row| row.result(&measured)).collect();
        report::append(results, &rows)?;
        report::append_rounds(&all_rounds, &figure.name(), &measured)?;
        rows.iter().for_each(|row| println!("{}", report::block(row)));
        times.push(format!("{} {:.0} s", figure.name(), start.elapsed().as_secs_f64()));
        failures.extend(measured.failures);
    }
    println!("times: {}\n", times.join(", "));
    Ok(failures)
}
