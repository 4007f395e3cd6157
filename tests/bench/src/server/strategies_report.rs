//! The pool strategies as one table, and which of them the numbers choose.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kvs_bench::report::short;
use kvs_bench::row::{OURS, RowResult};

use crate::figures::strategies::{ENGINES, PREFIX, STRATEGIES};

/// Whether a row belongs here.
pub fn is_of_strategies(row: &RowResult) -> bool {
    row.bench.starts_with(PREFIX)
}

/// The rates of a row by strategy, in the order of the strategies; 0 where one was not measured.
pub fn rates(row: &RowResult) -> [f64; STRATEGIES.len()] {
    STRATEGIES.map(|(name, _)| if name == OURS { row.ours } else { row.peers.get(name).copied().unwrap_or(0.0) })
}

/// A row's engine, what was done, and over how many connections.
pub fn names(row: &RowResult) -> [&str; 3] {
    let mut words = row.bench.split('-').skip(1);
    [(); 3].map(|()| words.next().unwrap_or("?"))
}

/// All rows, then what they choose.
pub fn table(rows: &[RowResult]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads = STRATEGIES.map(|(_, strategy)| strategy).join(" | ");
    let mut text = format!("| engine | work | connections | {heads} |\n|---|---|---:|---:|---:|---:|---:|\n");
    for row in rows {
        let rates = rates(row);
        let best = rates.iter().copied().fold(0.0, f64::max);
        let shown = rates.map(|rate| if rate >= best { format!("**{}**", short(rate)) } else { short(rate) });
        let [engine, work, connections] = names(row);
        let _ = writeln!(text, "| {engine} | {work} | {connections} | {} |", shown.join(" | "));
    }
    for engine in ENGINES {
        let shares = mean_shares(rows, engine);
        let told = shares.iter().map(|(strategy, share)| format!("{strategy} {:.0} %", share * 100.0));
        let told = told.collect::<Vec<_>>().join(", ");
        let best = shares.iter().max_by(|left, right| left.1.total_cmp(right.1)).map_or("none", |(name, _)| *name);
        let _ =
            writeln!(text, "\nOf the best of each row with {engine}, geometric mean: {told}. The best is `{best}`.");
    }
    text
}

/// The geometric mean, over all rows of an engine, of each strategy's share of the best one.
fn mean_shares(rows: &[RowResult], engine: &str) -> BTreeMap<&'static str, f64> {
    let mut sums: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    for row in rows.iter().filter(|row| names(row)[0] == engine) {
        let rates = rates(row);
        let best = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for ((_, strategy), rate) in STRATEGIES.iter().zip(rates) {
            let sum = sums.entry(*strategy).or_default();
            *sum = (sum.0 + (rate / best).max(f64::MIN_POSITIVE).ln(), sum.1 + 1.0);
        }
    }
    sums.into_iter().map(|(strategy, (sum, count))| (strategy, (sum / count).exp())).collect()
}
