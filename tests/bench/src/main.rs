//! Measures the kvs engine beside its peers: same folder, same run, interleaved rounds. docs/benchmarks.md says what
//! each figure means.

mod figure;
mod figures;
mod job;
mod peer;
mod peers;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};

use kvs_bench::scale::Scale;
use kvs_bench::{Result, data, machine, measure, report, row, scale};

use figure::Bench;
use peer::Name;

#[derive(Parser)]
#[command(about = "Measures the kvs engine beside its peers", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// One measurement; the parent starts it.
    #[command(hide = true)]
    Child { job: String },
}

#[derive(Args)]
struct Run {
    /// Only these figures
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these peers beside ours
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<Name>>,
    /// Rounds of every figure, instead of its own number
    #[arg(long)]
    rounds: Option<usize>,
    /// A twentieth of the counts and one round: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Where results and, while it runs, data go
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Write the table into the generated part of this document
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
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Child { job }) => child(job),
        None => run(&arguments.run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvs-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn child(job: &str) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let job: job::Job = serde_json::from_str(job)?;
    let metrics = job.work()?;
    job::answer(&metrics)
}

fn run(run: &Run) -> Result<()> {
    let mut figures = figures::all();
    if run.list {
        for figure in &figures {
            println!("{}", figure.name());
        }
        return Ok(());
    }
    if let Some(unknown) = run.only.iter().find(|name| figures.iter().all(|figure| figure.name() != name.as_str())) {
        return Err(format!("there is no figure {unknown}; --list names them").into());
    }
    figures.retain(|figure| run.only.is_empty() || run.only.iter().any(|name| name == figure.name()));
    let results = run.folder.join("engine.jsonl");
    let failures = if run.show { Vec::new() } else { measure(run, &figures, &results)? };
    let rows = report::read(&results)?;
    println!("{}", report::table(&rows));
    println!("results: {}", results.display());
    if let Some(document) = &run.document {
        report::document(
            document,
            "make bench-engine",
            &format!("{}\n\n{}", machine::description(), report::table(&rows)),
        )?;
        println!("written into {}", document.display());
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("not all was measured:\n{}", failures.join("\n")).into()) }
}

fn measure(run: &Run, figures: &[Box<dyn figure::Figure>], results: &std::path::Path) -> Result<Vec<String>> {
    let mut peers = run.peers.clone().unwrap_or_else(|| Name::ALL.to_vec());
    peers.retain(|peer| *peer != Name::Ours);
    peers.insert(0, Name::Ours);
    fs::create_dir_all(&run.folder)?;
    let all_rounds = run.folder.join("engine-rounds.jsonl");
    for old in [results, &all_rounds] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let mut bench = Bench::new(&run.folder.join("data"), Scale::new(run.quick, run.rounds))?;
    println!("{}", machine::description());
    let (mut failures, mut times) = (Vec::new(), Vec::new());
    for figure in figures {
        let start = Instant::now();
        let measured = figure::run(figure.as_ref(), &mut bench, &peers);
        let rows: Vec<_> = figure.rows().iter().filter_map(|row| row.result(&measured)).collect();
        report::append(results, &rows)?;
        report::append_rounds(&all_rounds, figure.name(), &measured)?;
        for row in &rows {
            println!("{}", report::block(row));
        }
        times.push(format!("{} {:.0} s", figure.name(), start.elapsed().as_secs_f64()));
        failures.extend(measured.failures);
    }
    println!("times: {}\n", times.join(", "));
    Ok(failures)
}
